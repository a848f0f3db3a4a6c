//! Which disk of the machine is meant. Exactly one, or none.

use crate::{DiskFacts, DiskRule, LayoutSpec, MIB, Reason, Transport, ownership::was_ours};

/// The outcome of choosing, with what to tell a person about each candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Index into the disks given, or why there is none.
    pub disk: Result<usize, Reason>,
    /// One line per disk: its name, and why it is or is not considered.
    pub notes: Vec<String>,
}

/// Chooses a disk. The first rule of the selector that any disk satisfies decides which are considered; without rules that is
/// every fixed disk that is large enough. Of those the one that is ours wins over size (a larger disk plugged in later must not move the
/// installation, and one on which somebody put something must be refused rather than passed over), several of ours are refused; then, without
/// rules only, the largest wins, and the lowest path among equals.
#[must_use]
pub fn choose(spec: &LayoutSpec, disks: &[DiskFacts]) -> Choice {
    let rules = &spec.disk.rules;
    let rule = rules.iter().find(|rule| disks.iter().any(|disk| obstacle(spec, disk, Some(rule)).is_none()));
    let admits = |disk: &DiskFacts| match (rules.is_empty(), rule) {
        (true, _) => obstacle(spec, disk, None),
        (false, Some(rule)) => obstacle(spec, disk, Some(rule)),
        (false, None) => Some("fits no rule of the layout spec".to_owned()),
    };
    let obstacles: Vec<Option<String>> = disks.iter().map(admits).collect();
    let considered: Vec<usize> = (0..disks.len()).filter(|index| obstacles[*index].is_none()).collect();
    let ours: Vec<usize> = considered.iter().copied().filter(|index| is_ours(spec, &disks[*index])).collect();
    let note = |index: usize| match &obstacles[index] {
        Some(obstacle) => format!("{}: {obstacle}", describe(&disks[index])),
        None if ours.contains(&index) => format!("{}: considered, ours", describe(&disks[index])),
        None => format!("{}: considered", describe(&disks[index])),
    };
    let notes = (0..disks.len()).map(note).collect();
    Choice { disk: pick(disks, &considered, &ours, rules.is_empty()), notes }
}

fn pick(disks: &[DiskFacts], considered: &[usize], ours: &[usize], largest_wins: bool) -> Result<usize, Reason> {
    let names = |indexes: &[usize]| indexes.iter().map(|i| disks[*i].name.as_str()).collect::<Vec<_>>().join(", ");
    match (considered, ours) {
        ([], _) if disks.is_empty() => Err(Reason::NoDisk),
        (_, [only]) | ([only], []) => Ok(*only),
        (_, [_, _, ..]) => Err(Reason::SeveralOurs(names(ours))),
        (several, []) if largest_wins => {
            let rank = |index: &usize| (std::cmp::Reverse(disks[*index].size), disks[*index].path.clone());
            several.iter().copied().min_by_key(rank).ok_or(Reason::NoneSuitable)
        }
        ([], []) => Err(Reason::NoneSuitable),
        (several, []) => Err(Reason::SeveralFit(names(several))),
    }
}

/// Why a disk is not considered, or `None`.
fn obstacle(spec: &LayoutSpec, disk: &DiskFacts, rule: Option<&DiskRule>) -> Option<String> {
    let smallest = spec.disk.min_size_mib.max(3 + spec.partitions.iter().map(|p| p.size.min_mib).sum::<u64>());
    if disk.transport == Transport::Virtual {
        return Some("not a disk of the machine".to_owned());
    }
    if disk.size / MIB < smallest {
        return Some(format!("too small, {smallest} MiB are needed"));
    }
    let Some(rule) = rule else {
        return [
            (disk.read_only, "write-protected"),
            (disk.removable, "removable"),
            (disk.transport == Transport::Usb, "attached by USB"),
            (disk.transport == Transport::Mmc && disk.name.contains("boot"), "a boot area of an eMMC"),
        ]
        .into_iter()
        .find_map(|(excluded, why)| excluded.then(|| why.to_owned()));
    };
    (!satisfies(rule, disk)).then(|| "does not fit the rule that decides".to_owned())
}

fn satisfies(rule: &DiskRule, disk: &DiskFacts) -> bool {
    let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    same(&rule.serial, &disk.serial)
        && same(&rule.wwn, &disk.wwn)
        && same(&rule.model, &disk.model)
        && rule.path.as_ref().is_none_or(|pattern| glob(pattern, &disk.path))
        && rule.transport.is_none_or(|transport| transport == disk.transport)
}

/// `*` stands for any number of characters, everything else for itself.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).any(|at| tail.is_char_boundary(at) && glob(rest, &tail[at..]))),
    }
}

fn is_ours(spec: &LayoutSpec, disk: &DiskFacts) -> bool {
    matches!(disk.sector_size, 512 | 4096) && was_ours(spec, disk)
}

fn describe(disk: &DiskFacts) -> String {
    let model = disk.model.as_deref().unwrap_or("unknown model");
    let serial = disk.serial.as_deref().unwrap_or("none");
    format!("{} ({model}, serial {serial}, {} MiB, {:?})", disk.name, disk.size / MIB, disk.transport)
}
