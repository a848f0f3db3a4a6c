//! What is to be brought: the closure without what was received.

use std::{collections::HashSet, ffi::OsString, fs};

use nix_format::{closure::Closure, narinfo::NarInfo};

use super::received::Received;
use crate::fetch::store::Store;

/// One path to bring.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) info: NarInfo,
    /// Something lies there already, without a receipt: it is hashed before anything is fetched.
    pub(super) in_the_way: bool,
}

/// The names that the store has.
pub(in crate::fetch) struct Names(HashSet<OsString>);

impl Names {
    /// Reads the store's directory.
    pub(in crate::fetch) fn read(store: &Store) -> Self {
        let entries = fs::read_dir(store.paths()).into_iter().flatten().flatten();
        Self(entries.map(|entry| entry.file_name()).collect())
    }

    /// Is this path here, and received?
    pub(in crate::fetch) fn complete(&self, info: &NarInfo, received: &Received) -> bool {
        received.has(info) && self.has(info)
    }

    /// Is something here under this path's name?
    pub(in crate::fetch) fn has(&self, info: &NarInfo) -> bool {
        self.0.contains(info.store_path.base_name().as_ref() as &std::ffi::OsStr)
    }
}

/// What is missing, the biggest last: it is taken from the end, so that no long path is begun when all others are done.
pub(super) fn missing(closure: &Closure, names: &Names, received: &Received) -> Vec<Task> {
    let missing = closure.paths().iter().filter(|info| !names.complete(info, received));
    let mut tasks: Vec<Task> = missing.map(|info| Task { info: info.clone(), in_the_way: names.has(info) }).collect();
    tasks.sort_by_key(|task| task.info.nar_size);
    tasks
}
