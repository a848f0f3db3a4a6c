//! What is to be brought: the closure without what was received.

use std::{
    cell::OnceCell,
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs, io,
    path::PathBuf,
};

use boot_model::StorePath;
use nix_format::{closure::Closure, narinfo::NarInfo};

use super::{
    received::{Receipt, Received, Root},
    tree, worker,
};
use crate::fetch::store::Store;

/// One path to bring.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) info: NarInfo,
    /// Something lies there already, without a receipt: it is hashed before anything is fetched.
    pub(super) in_the_way: bool,
}

/// The names that the store has, each with its root as it was when first asked for.
pub(in crate::fetch) struct Names {
    store: PathBuf,
    roots: HashMap<OsString, OnceCell<Option<Root>>>,
}

impl Names {
    /// Reads the store's directory.
    pub(in crate::fetch) fn read(store: &Store) -> Self {
        let entries = fs::read_dir(store.paths()).into_iter().flatten().flatten();
        let roots = entries.map(|entry| (entry.file_name(), OnceCell::new())).collect();
        Self { store: store.paths(), roots }
    }

    /// Is this path here, and the one that was received?
    pub(in crate::fetch) fn complete(&self, info: &NarInfo, received: &Received) -> bool {
        received.root(info).is_some_and(|root| self.root(info) == Some(root))
    }

    /// Is something here under this path's name?
    pub(in crate::fetch) fn has(&self, info: &NarInfo) -> bool {
        self.roots.contains_key(OsStr::new(info.store_path.base_name()))
    }

    /// The root of what is here under this path's name.
    fn root(&self, info: &NarInfo) -> Option<Root> {
        let name = info.store_path.base_name();
        *self.roots.get(OsStr::new(name))?.get_or_init(|| Root::of(&self.store.join(name)).ok())
    }

    /// The receipt for what is here under this path's name, and has its content.
    pub(in crate::fetch) fn receipt(&self, info: &NarInfo) -> Option<(StorePath, Receipt)> {
        Some((info.store_path.clone(), Receipt { nar_hash: info.nar_hash, root: self.root(info)? }))
    }
}

/// Is all of the closure here? What is here without a receipt for it is hashed, and gets one: links that Nix makes between equal files,
/// and owners that are set anew, take a path's receipt away and leave it whole. `hashing` is called before the first is.
pub(in crate::fetch) fn recheck(
    store: &Store,
    closure: &Closure,
    received: &mut Received,
    hashing: impl FnOnce(),
) -> bool {
    let names = Names::read(store);
    if !closure.paths().iter().all(|info| names.has(info)) {
        return false;
    }
    let doubtful: Vec<&NarInfo> = closure.paths().iter().filter(|info| !names.complete(info, received)).collect();
    if doubtful.is_empty() {
        return true;
    }
    hashing();
    let whole: Vec<&NarInfo> = doubtful.iter().copied().take_while(|info| is_whole(store, info)).collect();
    accept(store, &names, &whole, received);
    whole.len() == doubtful.len()
}

/// Takes away what is here under a name of the closure and is not what was signed. What is here without a receipt is hashed, and gets
/// one if it is whole. `hashing` is called before the first is.
pub(in crate::fetch) fn clear(
    store: &Store,
    closure: &Closure,
    received: &mut Received,
    hashing: impl FnOnce(),
) -> io::Result<()> {
    let names = Names::read(store);
    let is_doubtful = |info: &&NarInfo| names.has(info) && !names.complete(info, received);
    let doubtful: Vec<&NarInfo> = closure.paths().iter().filter(is_doubtful).collect();
    if doubtful.is_empty() {
        return Ok(());
    }
    hashing();
    let (whole, wrong): (Vec<_>, Vec<_>) = doubtful.into_iter().partition(|info| is_whole(store, info));
    accept(store, &names, &whole, received);
    wrong.iter().try_for_each(|info| worker::remove(&store.below_root(info.store_path.as_str())))
}

fn is_whole(store: &Store, info: &NarInfo) -> bool {
    tree::hash(&store.below_root(info.store_path.as_str())).is_ok_and(|found| found == info.nar_hash)
}

/// Gives receipts to what was hashed, and may be in memory only. Without them, for which a full disk has no room, it is hashed again at
/// the next boot.
fn accept(store: &Store, names: &Names, whole: &[&NarInfo], received: &mut Received) {
    if store.sync().is_ok() {
        let _ = received.append(whole.iter().filter_map(|info| names.receipt(info)).collect());
    }
}

/// What is missing, the biggest last: it is taken from the end, so that no long path is begun when all others are done.
pub(super) fn missing(closure: &Closure, names: &Names, received: &Received) -> Vec<Task> {
    let missing = closure.paths().iter().filter(|info| !names.complete(info, received));
    let mut tasks: Vec<Task> = missing.map(|info| Task { info: info.clone(), in_the_way: names.has(info) }).collect();
    tasks.sort_by_key(|task| task.info.nar_size);
    tasks
}
