use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boot_model::{Sha256Digest, StoreHash};
use nix_format::closure;

use crate::{Layout, Problem, Removed, Snapshot};

/// Which store paths and packs belong to a published closure, or to one that was removed and is not collected yet: clients in
/// mid-fetch go on. Nothing else of the cache is served: another program may have put more there.
#[derive(Debug, Default)]
pub struct CacheIndex {
    paths: HashSet<StoreHash>,
    packs: HashSet<Box<str>>,
    closures: HashMap<PathBuf, Arc<Served>>,
}

/// What one closure manifest adds; kept, so that each is read once.
#[derive(Debug)]
struct Served {
    /// Which manifest it was, where generation.json tells; what is left of a removed generation never changes.
    manifest: Option<Sha256Digest>,
    paths: Vec<StoreHash>,
    packs: Vec<Box<str>>,
}

impl CacheIndex {
    /// Reads the closure manifests of all published generations, and of removed ones that are not collected yet, except those that
    /// `earlier` has read already.
    ///
    /// A manifest that cannot be read leaves its generation's paths out and is returned as a problem.
    pub fn build(layout: &Layout, snapshot: &Snapshot, earlier: &Self) -> (Self, Vec<Problem>) {
        let mut index = Self::default();
        let mut problems = Vec::new();
        for (path, manifest) in manifests(layout, snapshot) {
            let read = match earlier.closures.get(&path).filter(|known| known.manifest == manifest) {
                Some(known) => Ok(Arc::clone(known)),
                None => read_closure(&path, manifest).map(Arc::new),
            };
            match read {
                Ok(closure) => {
                    index.paths.extend(closure.paths.iter().copied());
                    index.packs.extend(closure.packs.iter().cloned());
                    index.closures.insert(path, closure);
                }
                Err(error) => {
                    problems.push(Problem { path, reason: format!("cannot read the closure manifest: {error}") })
                }
            }
        }
        (index, problems)
    }

    /// Whether a published closure has the store path with this hash part.
    pub fn has_path(&self, hash: StoreHash) -> bool {
        self.paths.contains(&hash)
    }

    /// Whether a published closure has the pack with this file name.
    pub fn has_pack(&self, name: &str) -> bool {
        self.packs.contains(name)
    }

    /// Number of store paths.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing is served.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// Where they are, with their digests where generation.json tells.
fn manifests(layout: &Layout, snapshot: &Snapshot) -> Vec<(PathBuf, Option<Sha256Digest>)> {
    let published = snapshot.roles.values().flat_map(|role| &role.generations).map(|published| {
        let path = layout.generation(&published.generation.reference()).join(Layout::CLOSURE_NAME);
        (path, published.generation.files.get(Layout::CLOSURE_NAME).map(|file| file.sha256))
    });
    // That they cannot be listed costs only those clients something that fetch what was removed.
    let removed = Removed::list(layout).unwrap_or_default();
    published.chain(removed.iter().flat_map(Removed::closures).map(|path| (path, None))).collect()
}

fn read_closure(path: &Path, manifest: Option<Sha256Digest>) -> io::Result<Served> {
    let text = fs::read_to_string(path)?;
    let closure: closure::Closure = text.parse().map_err(io::Error::other)?;
    let paths = closure.paths().iter().map(|info| info.store_path.hash()).collect();
    let packs = closure.paths().iter().filter_map(|info| info.url.strip_prefix("nar/").map(Box::from)).collect();
    Ok(Served { manifest, paths, packs })
}
