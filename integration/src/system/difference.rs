//! What an update changes: the figures that a fetch is measured against.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Toplevel;
use super::nix::StorePath;

/// From one generation to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The packages whose version differs: name, old and new version. `-` stands for none.
    pub packages: Vec<(String, String, String)>,
    /// Paths of the new closure that the old one has not.
    pub new: Vec<StorePath>,
    /// Paths of the new closure, all of them.
    pub total: usize,
    /// The size of the new closure as NARs, in bytes.
    pub total_nar_size: u64,
}

impl Difference {
    /// What a client that has `old` lacks of `new`.
    pub fn between(old: &Toplevel, new: &Toplevel) -> Self {
        let have: BTreeSet<&str> = old.closure.iter().map(|path| path.path.as_str()).collect();
        Self {
            packages: changed(&old.versions, &new.versions),
            new: new.closure.iter().filter(|path| !have.contains(path.path.as_str())).cloned().collect(),
            total: new.closure.len(),
            total_nar_size: new.nar_size(),
        }
    }

    /// The size of the new paths as NARs, in bytes.
    pub fn new_nar_size(&self) -> u64 {
        self.new.iter().map(|path| path.nar_size).sum()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, old, new) in &self.packages {
            writeln!(f, "  {name} {old} -> {new}")?;
        }
        let megabytes = |bytes: u64| bytes / 1_000_000;
        write!(
            f,
            "{} packages differ: {} of {} store paths are new, {} of {} MB as NARs",
            self.packages.len(),
            self.new.len(),
            self.total,
            megabytes(self.new_nar_size()),
            megabytes(self.total_nar_size)
        )
    }
}

fn changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let version = |of: &BTreeMap<String, String>, name: &String| of.get(name).cloned().unwrap_or_else(|| "-".into());
    let row = |name: &String| (name.clone(), version(old, name), version(new, name));
    names.into_iter().map(row).filter(|(_, old, new)| old != new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toplevel(packages: &[(&str, &str)], paths: &[(&str, u64)]) -> Toplevel {
        Toplevel {
            path: paths[0].0.into(),
            versions: packages.iter().map(|&(name, version)| (name.into(), version.into())).collect(),
            closure: paths.iter().map(|&(path, nar_size)| StorePath { path: path.into(), nar_size }).collect(),
        }
    }

    #[test]
    fn packages_and_paths_that_differ() {
        let old = toplevel(&[("a", "1"), ("b", "1"), ("gone", "1")], &[("/t1", 1), ("/a", 2_000_000), ("/b1", 4)]);
        let new =
            toplevel(&[("a", "1"), ("b", "2"), ("come", "1")], &[("/t2", 1), ("/a", 2_000_000), ("/b2", 3_000_000)]);
        let difference = Difference::between(&old, &new);
        assert_eq!(difference.new_nar_size(), 3_000_001);
        assert_eq!(
            difference.to_string(),
            "  b 1 -> 2\n  come - -> 1\n  gone 1 -> -\n3 packages differ: 2 of 3 store paths are new, 3 of 5 MB as NARs"
        );
    }
}
