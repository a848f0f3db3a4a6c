//! Which path of the old closure each new path of the other takes after.

use std::collections::{HashMap, HashSet};

use boot_model::StorePath;
use nix_format::closure::Closure;
use nix_format::narinfo::NarInfo;
use nix_format::renames::Renames;

/// The pairs of two closures.
pub(super) struct Pairs<'a> {
    /// New paths that the old closure lacks, references first, each with the old path whose files are like its own. Those that
    /// resemble none are not among them.
    pub(super) paths: Vec<(&'a NarInfo, &'a NarInfo)>,
    /// What references in old files become.
    pub(super) renames: Renames,
}

/// What a name is looked up by, from the surest to the boldest.
const LIKENESSES: [fn(&StorePath) -> String; 3] = [whole_name, name_and_output, name];

impl<'a> Pairs<'a> {
    /// Pairs each new path with one of the same name, then of the same package and output, then of the same package. A path of
    /// either side that changed is in one pair at most, so that a reference has one new name. What is left then may still
    /// take after a path that is not gone, or in another pair.
    pub(super) fn of(old: &'a Closure, new: &'a Closure) -> Self {
        let [in_old, in_new] =
            [old, new].map(|closure| closure.paths().iter().map(|p| &p.store_path).collect::<HashSet<_>>());
        let mut gone: Vec<&NarInfo> = old.paths().iter().filter(|info| !in_new.contains(&info.store_path)).collect();
        let mut come: Vec<&NarInfo> = new.paths().iter().filter(|info| !in_old.contains(&info.store_path)).collect();
        // Several paths of one name (`source`, `builder.pl`) are told apart by nothing; most likely they kept their sizes' order.
        gone.sort_by_key(|info| info.nar_size);
        come.sort_by_key(|info| info.nar_size);
        let mut found: HashMap<&StorePath, &NarInfo> = HashMap::new();
        for likeness in LIKENESSES {
            match_up(&mut gone, &mut come, likeness, &mut found);
        }
        let renames = Renames::of_paths(found.iter().map(|(new, old)| (&old.store_path, *new)))
            .expect("each old path is in one pair at most");
        let mut all: Vec<&NarInfo> = old.paths().iter().collect();
        for likeness in LIKENESSES {
            match_up(&mut all, &mut come, likeness, &mut found);
        }
        let paths = new.paths().iter().filter_map(|info| Some((info, *found.get(&info.store_path)?))).collect();
        Self { paths, renames }
    }
}

/// Moves what is alike from both lists to `found`.
fn match_up<'a>(
    old: &mut Vec<&'a NarInfo>,
    new: &mut Vec<&'a NarInfo>,
    likeness: fn(&StorePath) -> String,
    found: &mut HashMap<&'a StorePath, &'a NarInfo>,
) {
    let mut offers: HashMap<String, Vec<&NarInfo>> = HashMap::new();
    // Backwards, for the first is taken from the end.
    for info in old.iter().rev() {
        offers.entry(likeness(&info.store_path)).or_default().push(info);
    }
    let mut taken = HashSet::new();
    new.retain(|info| {
        let Some(partner) = offers.get_mut(&likeness(&info.store_path)).and_then(Vec::pop) else { return true };
        taken.insert(&partner.store_path);
        found.insert(&info.store_path, partner);
        false
    });
    old.retain(|info| !taken.contains(&info.store_path));
}

fn whole_name(path: &StorePath) -> String {
    path.name().to_owned()
}

/// The package's name, and the output where the version ends in one: `glibc` and `bin` of `glibc-2.40-66-bin`.
fn name_and_output(path: &StorePath) -> String {
    let (name, version) = parse(path.name());
    let output = version.rsplit_once('-').map_or("", |(_, last)| last);
    let output = if output.starts_with(|c: char| c.is_ascii_alphabetic()) { output } else { "" };
    format!("{name} {output}")
}

fn name(path: &StorePath) -> String {
    parse(path.name()).0.to_owned()
}

/// As Nix parses it: the version begins after the first hyphen that no letter follows (Nix manual, `builtins.parseDrvName`).
fn parse(name: &str) -> (&str, &str) {
    let hyphen = name
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| name.as_bytes().get(at + 1).is_some_and(|byte| !byte.is_ascii_alphabetic()));
    hyphen.map_or((name, ""), |at| (&name[..at], &name[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure(paths: &[(char, &str, u64)]) -> Closure {
        let infos = paths.iter().map(|(letter, name, size)| {
            let hash = letter.to_string().repeat(32);
            let zeros = "0".repeat(52);
            let text = format!(
                "StorePath: /nix/store/{hash}-{name}\nURL: nar/{letter}.nar.zst\nCompression: zstd\nFileHash: sha256:{zeros}\n\
                 FileSize: 1\nNarHash: sha256:{zeros}\nNarSize: {size}\nReferences: \n"
            );
            text.parse::<NarInfo>().unwrap()
        });
        Closure::new(infos).unwrap()
    }

    #[test]
    fn names_as_nix_parses_them() {
        for (text, expected) in [
            ("linux-6.12.58", ("linux", "6.12.58")),
            ("glibc-2.40-66-bin", ("glibc", "2.40-66-bin")),
            ("python3.11-foo", ("python3.11-foo", "")),
            ("unit-dbus.service", ("unit-dbus.service", "")),
            ("x-", ("x-", "")),
        ] {
            assert_eq!(parse(text), expected);
        }
    }

    #[test]
    fn the_surest_likeness_comes_first() {
        let old = closure(&[
            ('a', "glibc-2.40-66", 5),
            ('b', "glibc-2.40-66-bin", 5),
            ('c', "source", 10),
            ('d', "source", 20),
            ('f', "bash-5.2", 5),
            ('g', "kept-1", 5),
        ]);
        let new = closure(&[
            ('q', "glibc-2.42-1-bin", 5),
            ('r', "glibc-2.42-1", 5),
            ('s', "source", 21),
            ('v', "source", 11),
            ('w', "bash-5.2", 5),
            ('g', "kept-1", 5),
            ('x', "kept-2", 5),
            ('y', "unheard-of-1", 5),
        ]);
        let pairs = Pairs::of(&old, &new);
        let letter = |info: &NarInfo| info.store_path.base_name().chars().next().unwrap();
        let mut found: Vec<(char, char)> = pairs.paths.iter().map(|(new, old)| (letter(old), letter(new))).collect();
        found.sort_unstable();
        assert_eq!(found, [('a', 'r'), ('b', 'q'), ('c', 'v'), ('d', 's'), ('f', 'w'), ('g', 'x')]);
        let renamed: Vec<char> = pairs.renames.pairs().map(|(old, _)| old.as_str().chars().next().unwrap()).collect();
        assert_eq!(renamed, ['a', 'b', 'c', 'd', 'f'], "what stays keeps its name");
    }
}
