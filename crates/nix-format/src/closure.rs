//! The closure manifest: every path of one published generation with its signed facts, in one file.
//!
//! One header line, then the narinfo of each path, blank lines between. A path comes after those it refers to, so that a
//! reader can register or unpack from top to bottom in one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use boot_model::StorePath;
use thiserror::Error;

use crate::narinfo::{NarInfo, NarInfoError};

/// The first line; the number changes with the format.
pub const HEADER: &str = "rookery-closure: 1";

/// A set of paths that is closed under references, in references-first order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure(Vec<NarInfo>);

impl Closure {
    /// Puts `paths` into references-first order, the same for the same set.
    ///
    /// # Errors
    /// [`ClosureError`] if a path comes twice, refers to one that isn't there, or refers in a circle.
    pub fn new(paths: impl IntoIterator<Item = NarInfo>) -> Result<Self, ClosureError> {
        let mut waiting = BTreeMap::new();
        for info in paths {
            if let Some(twice) = waiting.insert(info.store_path.clone(), info) {
                return Err(ClosureError::Twice(twice.store_path));
            }
        }
        let mut ordered = Vec::with_capacity(waiting.len());
        let mut done = BTreeSet::new();
        while let Some((root, _)) = waiting.first_key_value() {
            take(root.clone(), &mut waiting, &mut done, &mut ordered)?;
        }
        Ok(Self(ordered))
    }

    /// The paths, references first.
    pub fn paths(&self) -> &[NarInfo] {
        &self.0
    }

    /// Bytes of all NARs, uncompressed.
    pub fn nar_size(&self) -> u64 {
        self.0.iter().fold(0, |sum, info| sum.saturating_add(info.nar_size))
    }

    /// Bytes of all files in the cache.
    pub fn file_size(&self) -> u64 {
        self.0.iter().fold(0, |sum, info| sum.saturating_add(info.file_size))
    }
}

impl fmt::Display for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.0.iter().try_for_each(|info| write!(f, "\n{info}"))
    }
}

impl FromStr for Closure {
    type Err = ClosureError;

    /// Parses a manifest and checks its promises: each path once, references first.
    fn from_str(text: &str) -> Result<Self, ClosureError> {
        let body = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(ClosureError::Header)?;
        let mut paths: Vec<NarInfo> = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, block) in body.split("\n\n").enumerate() {
            // Each block's newline of its own was taken by the split, and the first has the one after the header.
            let block = block.trim_matches('\n');
            if block.is_empty() {
                continue;
            }
            let info: NarInfo = block.parse().map_err(|source| ClosureError::Block { number: index + 1, source })?;
            if seen.contains(&info.store_path) {
                return Err(ClosureError::Twice(info.store_path));
            }
            seen.insert(info.store_path.clone());
            if let Some(missing) = info.references.iter().find(|reference| !seen.contains(reference)) {
                return Err(ClosureError::Missing { path: info.store_path.clone(), reference: missing.clone() });
            }
            paths.push(info);
        }
        Ok(Self(paths))
    }
}

/// Why paths make no closure, or a text no manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClosureError {
    /// The first line is another.
    #[error("the first line must be `{HEADER}`; was this written by another version?")]
    Header,
    /// A block is no narinfo.
    #[error("path {number} of the manifest: {source}")]
    Block {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it; its line number counts within the block.
        source: NarInfoError,
    },
    /// One path stands there two times.
    #[error("{0} stands there twice")]
    Twice(StorePath),
    /// A reference isn't there, or comes only later.
    #[error("{path} refers to {reference}, which does not stand before it")]
    Missing {
        /// The path that refers.
        path: StorePath,
        /// What it refers to.
        reference: StorePath,
    },
    /// A path refers to itself through others, which no build can produce.
    #[error("{0} refers to itself through other paths")]
    Circle(StorePath),
}

/// Moves `root` and what it needs from `waiting` to `ordered`. A stack of its own, for a chain of references can be long.
fn take(
    root: StorePath,
    waiting: &mut BTreeMap<StorePath, NarInfo>,
    done: &mut BTreeSet<StorePath>,
    ordered: &mut Vec<NarInfo>,
) -> Result<(), ClosureError> {
    let mut stack = vec![root];
    let mut entered = BTreeSet::new();
    while let Some(path) = stack.last() {
        let Some(info) = waiting.get(path) else {
            stack.pop();
            continue;
        };
        let needed = |reference: &&StorePath| *reference != path && !done.contains(*reference);
        let missing: Vec<StorePath> = info.references.iter().filter(needed).cloned().collect();
        if missing.is_empty() {
            done.insert(path.clone());
            ordered.extend(waiting.remove(path));
            stack.pop();
            continue;
        }
        if !entered.insert(path.clone()) {
            return Err(ClosureError::Circle(path.clone()));
        }
        if let Some(reference) = missing.iter().find(|reference| !waiting.contains_key(*reference)) {
            return Err(ClosureError::Missing { path: path.clone(), reference: reference.clone() });
        }
        stack.extend(missing.into_iter().rev());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use boot_model::Sha256Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::narinfo::Compression;

    fn path(number: usize) -> StorePath {
        format!("/nix/store/{number:032}-p").parse().unwrap()
    }

    fn info(number: usize, references: &[usize]) -> NarInfo {
        NarInfo {
            store_path: path(number),
            url: format!("nar/{number}.nar.zst"),
            compression: Compression::Zstd,
            file_hash: Sha256Digest::new([1; 32]),
            file_size: 10,
            nar_hash: Sha256Digest::new([2; 32]),
            nar_size: 100,
            references: references.iter().copied().map(path).collect(),
            deriver: None,
            signatures: Vec::new(),
            content_address: None,
        }
    }

    fn order(closure: &Closure) -> Vec<StorePath> {
        closure.paths().iter().map(|info| info.store_path.clone()).collect()
    }

    #[test]
    fn references_come_first() {
        let closure = Closure::new([info(1, &[1, 2, 3]), info(2, &[3]), info(3, &[]), info(0, &[1])]).unwrap();
        assert_eq!(order(&closure), [3, 2, 1, 0].map(path));
        assert_eq!((closure.nar_size(), closure.file_size()), (400, 40));
    }

    #[test]
    fn the_text_of_a_manifest() {
        let closure = Closure::new([info(1, &[2]), info(2, &[])]).unwrap();
        let text = closure.to_string();
        assert!(text.starts_with("rookery-closure: 1\n\nStorePath: /nix/store/00000000000000000000000000000002-p\n"));
        assert_eq!(text.matches("\n\n").count(), 2);
        assert!(text.ends_with("References: 00000000000000000000000000000002-p\n"));
        assert_eq!(text.parse(), Ok(closure));
        assert_eq!("rookery-closure: 1\n".parse(), Ok(Closure(Vec::new())));
    }

    #[test]
    fn what_is_no_closure() {
        assert_eq!(Closure::new([info(1, &[]), info(1, &[])]), Err(ClosureError::Twice(path(1))));
        let missing = Err(ClosureError::Missing { path: path(1), reference: path(2) });
        assert_eq!(Closure::new([info(1, &[2])]), missing);
        assert_eq!(Closure::new([info(1, &[2]), info(2, &[1])]), Err(ClosureError::Circle(path(1))));

        let text = |infos: &[NarInfo]| Closure(infos.to_vec()).to_string().parse::<Closure>();
        assert_eq!(text(&[info(1, &[2]), info(2, &[])]), missing, "order is part of the format");
        assert_eq!(text(&[info(2, &[]), info(2, &[])]), Err(ClosureError::Twice(path(2))));
        assert_eq!("rookery-closure: 2\n".parse::<Closure>(), Err(ClosureError::Header));
        assert_eq!(
            "rookery-closure: 1\n\nStorePath: /nix/store\n".parse::<Closure>().unwrap_err().to_string(),
            "path 1 of the manifest: line 1, StorePath: \"/nix/store\" is no store path: it must begin with /nix/store/"
        );
    }

    proptest! {
        /// Paths refer to lower numbers only, so each such set is a closure.
        #[test]
        fn every_closure_round_trips(edges in proptest::collection::vec(proptest::collection::vec(0..30_usize, 0..4), 1..30)) {
            let infos = edges.iter().enumerate().map(|(number, references)| {
                let references: BTreeSet<usize> = references.iter().map(|r| r % (number + 1)).collect();
                info(number, &references.into_iter().collect::<Vec<_>>())
            });
            let closure = Closure::new(infos).unwrap();
            prop_assert_eq!(closure.to_string().parse::<Closure>(), Ok(closure));
        }
    }
}
