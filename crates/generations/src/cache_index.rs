use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use boot_model::{GenerationRef, StoreHash};
use nix_format::closure;

use crate::{Layout, Problem, Snapshot};

/// Which store paths and packs belong to a published closure. Nothing else of the cache is served: packs of removed generations
/// may lie there until they are collected, and another program may have put more beside them.
#[derive(Debug, Default)]
pub struct CacheIndex {
    paths: HashSet<StoreHash>,
    packs: HashSet<Box<str>>,
    closures: HashMap<GenerationRef, Arc<Served>>,
}

/// What one generation adds; kept, so that a generation's manifest is read once.
#[derive(Debug)]
struct Served {
    paths: Vec<StoreHash>,
    packs: Vec<Box<str>>,
}

impl CacheIndex {
    /// Reads the closure manifests of all published generations, except those that `earlier` has read already.
    ///
    /// A manifest that cannot be read leaves its generation's paths out and is returned as a problem.
    pub fn build(layout: &Layout, snapshot: &Snapshot, earlier: &Self) -> (Self, Vec<Problem>) {
        let mut index = Self::default();
        let mut problems = Vec::new();
        for published in snapshot.roles.values().flat_map(|role| &role.generations) {
            let generation = published.generation.reference();
            let path = layout.generation(&generation).join(Layout::CLOSURE_NAME);
            let read = match earlier.closures.get(&generation) {
                Some(known) => Ok(Arc::clone(known)),
                None => read_closure(&path).map(Arc::new),
            };
            match read {
                Ok(closure) => {
                    index.paths.extend(closure.paths.iter().copied());
                    index.packs.extend(closure.packs.iter().cloned());
                    index.closures.insert(generation, closure);
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

fn read_closure(path: &Path) -> io::Result<Served> {
    let text = fs::read_to_string(path)?;
    let closure: closure::Closure = text.parse().map_err(io::Error::other)?;
    let paths = closure.paths().iter().map(|info| info.store_path.hash()).collect();
    let packs = closure.paths().iter().filter_map(|info| info.url.strip_prefix("nar/").map(Box::from)).collect();
    Ok(Served { paths, packs })
}
