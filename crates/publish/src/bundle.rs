//! Update bundles: what a room that runs one generation lacks of the next, as one file.
//!
//! Old and new files are taken from the packs in the cache, not from the store: a published generation's packs are there, while
//! its paths may have been collected from the store, or never been in it (a state directory copied from another server); and
//! what is read is what clients have been sent.

mod apply;
mod encode;
mod pairs;
mod patch;
mod spill;
mod unpacked;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use boot_model::{GenerationId, GenerationRef, RoleName, StorePath};
use generations::Layout;
use nix_format::bundle::{BundleError, Head, IndexWriter, Limits};
use nix_format::closure::Closure;
use nix_format::hash;
use nix_format::narinfo::NarInfo;
use thiserror::Error;

use crate::cache::Cache;
use crate::durable::{self, StagedFile, WriteError};
use crate::lock::{Lock, LockError};
use crate::parallel;
use crate::publisher::Event;
use crate::role::{self, RoleError};
use crate::verify::read_closure;
use encode::{Encoded, Encoder};
use pairs::Pairs;
use spill::Spill;
use unpacked::Unpacked;

/// From how many generations before it a generation can be reached: a room has few different ones on its disks.
const BASES: usize = 2;

/// Of a path's pack in hundredths, what its part of a bundle may weigh. Above that the pack is as good.
const WORTHWHILE: u64 = 90;

/// Makes the bundles that are missing.
pub struct Bundler<'a> {
    /// The state directory.
    pub layout: &'a Layout,
    /// Hears what is going on, from several threads.
    pub report: &'a (dyn Fn(Event<'_>) + Sync),
    /// Set to give up soon; nothing half made is left.
    pub stop: &'a AtomicBool,
}

/// A bundle that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// From which generation.
    pub old: GenerationRef,
    /// To which.
    pub new: GenerationRef,
    /// Bytes of the bundle.
    pub bytes: u64,
    /// Paths that it brings.
    pub paths: u64,
    /// Bytes of the packs that need not be fetched for them.
    pub replaces: u64,
    /// Paths of the new generation that it does not bring, and that the old one has not: their packs are fetched.
    pub plain: u64,
}

/// Why there is no bundle.
#[derive(Debug, Error)]
pub enum BundlingError {
    /// It was told to give up.
    #[error("making bundles was interrupted; the next `rookery publish` or `rookery follow` goes on")]
    Stopped,
    /// A generation's manifest can't be read.
    #[error("{generation}: {problem}; `rookery verify` tells more")]
    Manifest {
        /// The generation.
        generation: GenerationRef,
        /// What is wrong with it.
        problem: String,
    },
    /// A path can't be compared.
    #[error("{path} cannot be read from the cache, or compared: {source}; `rookery verify` tells more")]
    Path {
        /// The path.
        path: StorePath,
        /// What went wrong.
        source: io::Error,
    },
    /// What was made gives something else than it should. It is not kept.
    #[error("the bundle from {old} to {new} is not kept, for it is wrong: {problem}")]
    Wrong {
        /// From which generation.
        old: GenerationRef,
        /// To which.
        new: GenerationRef,
        /// What came out.
        problem: String,
    },
    /// The format can't hold it.
    #[error(transparent)]
    Format(#[from] BundleError),
    /// The role can't be listed.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// No lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The bundle can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Bundler<'_> {
    /// Makes what is missing of the bundles to the role's newest generation and to its default, each from the two generations
    /// before it. One that can't be made is a result of its own; the others are made all the same.
    ///
    /// # Errors
    /// If the role can't be listed or there is no lock. The publishers' lock is not taken: making bundles takes minutes.
    pub fn make_missing(&self, role: &RoleName) -> Result<Vec<Result<Bundle, BundlingError>>, BundlingError> {
        let wanted = wanted(self.layout, role)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = Lock::bundles(self.layout, || (self.report)(Event::Waiting))?;
        let directory = self.layout.bundles().join(role.as_str());
        durable::make_directories(&directory)?;
        durable::remove_leftovers(&directory)?;
        let mut results = Vec::new();
        for (old, new) in wanted {
            // Another process may have made it while this one waited.
            if self.stop.load(Ordering::Relaxed) || self.layout.bundle(role, old, new).exists() {
                continue;
            }
            let [old, new] = [old, new].map(|id| GenerationRef { role: role.clone(), id });
            results.push(self.make(&old, &new));
        }
        Ok(results)
    }

    fn make(&self, old: &GenerationRef, new: &GenerationRef) -> Result<Bundle, BundlingError> {
        let [before, after] = [self.closure(old)?, self.closure(new)?];
        let mut pairs = Pairs::of(&before, &after);
        let bytes = pairs.paths.iter().map(|(info, _)| info.nar_size).sum::<u64>();
        // Each path is gone through two times: made, and tried.
        (self.report)(Event::Bundling { old, new, bytes: bytes.saturating_mul(2) });
        let directory = self.layout.bundles().join(new.role.as_str());
        let staged = StagedFile::create(&directory, "bundle")?;
        let encoded = self.encode(&pairs, &directory)?;
        write(&staged, &pairs, &encoded)?;
        pairs.paths = encoded.paths.iter().map(|(number, ..)| pairs.paths[*number]).collect();
        drop(encoded);
        let limits = Limits::between(before.paths().len(), after.paths().len());
        self.verify(&staged, &pairs, limits).map_err(|problem| match problem {
            Problem::Wrong(problem) => BundlingError::Wrong { old: old.clone(), new: new.clone(), problem },
            Problem::Other(error) => error,
        })?;
        // It was published again meanwhile, with other paths.
        if self.stop.load(Ordering::Relaxed) || self.closure(new)? != after {
            return Err(BundlingError::Stopped);
        }
        let size = staged.file().metadata().map_err(|error| WriteError::new("read", staged.path(), error))?.len();
        let target = self.layout.bundle(&new.role, old.id, new.id);
        staged.place(&target)?;
        durable::sync_directory(&directory)?;
        (self.report)(Event::Persisted(&target));
        let known: HashSet<_> = before.paths().iter().map(|info| &info.store_path).collect();
        let lacked = after.paths().iter().filter(|info| !known.contains(&info.store_path)).count();
        Ok(Bundle {
            old: old.clone(),
            new: new.clone(),
            bytes: size,
            paths: pairs.paths.len() as u64,
            replaces: pairs.paths.iter().map(|(info, _)| info.file_size).sum(),
            plain: (lacked - pairs.paths.len()) as u64,
        })
    }

    fn closure(&self, generation: &GenerationRef) -> Result<Closure, BundlingError> {
        read_closure(&self.layout.generation(generation))
            .map_err(|problem| BundlingError::Manifest { generation: generation.clone(), problem })
    }

    /// Those pairs whose part of the bundle is worth more than the pack.
    fn encode(&self, pairs: &Pairs<'_>, directory: &Path) -> Result<AllEncoded, BundlingError> {
        let large = Mutex::new(());
        let encoder = Encoder { renames: &pairs.renames, large: &large };
        let spills = (0..parallel::workers(pairs.paths.len())).map(|worker| Spill::create(directory, worker));
        let spills = spills.collect::<Result<Vec<_>, _>>()?;
        let paths = self.each(pairs, |worker, number| {
            let (new, old) = pairs.paths[number];
            let mut spill = spills[worker].lock().expect("each worker has its own");
            let tree = encoder.encode(&mut self.unpack(old)?, &mut self.unpack(new)?, &mut *spill);
            let tree = tree.map_err(|error| unreadable(new, error))?;
            let worthwhile = spill.pending().saturating_mul(100) <= new.file_size.saturating_mul(WORTHWHILE);
            Ok::<_, BundlingError>(spill.settle(worthwhile).map(|frames| (tree, worker, frames)))
        })?;
        let paths = paths
            .into_iter()
            .filter_map(|(number, path)| path.map(|(tree, worker, frames)| (number, tree, worker, frames)));
        let paths = paths.collect();
        Ok(AllEncoded {
            paths,
            spills: spills.into_iter().map(|spill| spill.into_inner().expect("no worker panics")).collect(),
        })
    }

    /// Applies the bundle as a client does, path by path.
    fn verify(&self, staged: &StagedFile, pairs: &Pairs<'_>, limits: Limits) -> Result<(), Problem> {
        let bundle = File::open(staged.path()).map_err(|error| WriteError::new("read", staged.path(), error))?;
        let index = apply::read_index(&bundle, limits).map_err(|error| Problem::Wrong(error.to_string()))?;
        let paths: Vec<_> = index.paths().collect();
        let promised = pairs.paths.iter().map(|(new, old)| (&new.store_path, Some(&old.store_path)));
        if !paths.iter().map(|path| (path.store_path(), path.base())).eq(promised) {
            return Err(Problem::Wrong("its index names other paths".to_owned()));
        }
        self.each(pairs, |_, number| {
            let (new, old) = pairs.paths[number];
            match apply::nar_hash(&bundle, index.renames(), paths[number], &mut self.unpack(old)?) {
                Ok(found) if found == new.nar_hash => Ok(()),
                Ok(found) => {
                    Err(Problem::Wrong(format!("{} gets the NarHash {}", new.store_path, hash::to_nix(&found))))
                }
                Err(error) => Err(Problem::Wrong(format!("{}: {error}", new.store_path))),
            }
        })?;
        Ok(())
    }

    /// Does the same for each pair, given the worker's number and the pair's, the largest first, and tells how far that is.
    fn each<T: Send, E: Send + From<BundlingError>>(
        &self,
        pairs: &Pairs<'_>,
        work: impl Fn(usize, usize) -> Result<T, E> + Sync,
    ) -> Result<Vec<(usize, T)>, E> {
        let mut order: Vec<usize> = (0..pairs.paths.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(pairs.paths[*number].0.nar_size));
        let done = parallel::each(order.len(), self.stop, |worker, thing| {
            let result = work(worker, order[thing])?;
            (self.report)(Event::Bundled { bytes: pairs.paths[order[thing]].0.nar_size });
            Ok::<_, E>(result)
        })?;
        if done.len() < order.len() {
            return Err(BundlingError::Stopped.into());
        }
        let mut done: Vec<_> = done.into_iter().map(|(thing, result)| (order[thing], result)).collect();
        done.sort_by_key(|(number, _)| *number);
        Ok(done)
    }

    fn unpack(&self, info: &NarInfo) -> Result<Unpacked, BundlingError> {
        Unpacked::open(&Cache::new(self.layout).packed(info)).map_err(|error| unreadable(info, error))
    }
}

/// Removes the bundles from and to a generation that is about to be published: it may have had the same id and other paths before.
pub(crate) fn forget(layout: &Layout, generation: &GenerationRef) -> Result<(), WriteError> {
    for entry in durable::list(&layout.bundles().join(generation.role.as_str()))? {
        let name = entry.file_name();
        let ends = name.to_str().and_then(Layout::parse_bundle_name);
        if ends.is_some_and(|(old, new)| generation.id == old || generation.id == new) {
            durable::remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// What a bundle will be made of.
struct AllEncoded {
    /// A pair's number, the new path's tree, and where its frames are: in whose spill, and there.
    paths: Vec<(usize, Encoded, usize, Range<u64>)>,
    spills: Vec<Spill>,
}

enum Problem {
    Wrong(String),
    Other(BundlingError),
}

impl<E: Into<BundlingError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Which bundles are missing: to the newest and to the default, for those are what the room goes to.
fn wanted(layout: &Layout, role: &RoleName) -> Result<Vec<(GenerationId, GenerationId)>, RoleError> {
    let ids = role::published_ids(layout, role)?;
    let default = role::default_of(layout, role).filter(|id| ids.contains(id));
    let targets: BTreeSet<GenerationId> = ids.first().copied().into_iter().chain(default).collect();
    let mut wanted = Vec::new();
    // The newest first: a room is on its way there.
    for new in targets.into_iter().rev() {
        let bases = ids.iter().filter(|old| **old < new).take(BASES);
        wanted.extend(bases.map(|old| (*old, new)).filter(|(old, new)| !layout.bundle(role, *old, *new).exists()));
    }
    Ok(wanted)
}

fn write(staged: &StagedFile, pairs: &Pairs<'_>, encoded: &AllEncoded) -> Result<(), BundlingError> {
    let mut index = IndexWriter::new(pairs.renames.clone());
    for (number, tree, ..) in &encoded.paths {
        let (new, old) = pairs.paths[*number];
        index.path(&new.store_path, Some(&old.store_path), tree.records(&old.store_path))?;
    }
    let index = index.finish()?;
    let failed = |error| WriteError::new("write", staged.path(), error);
    let frame = patch::data(&index).map_err(failed)?;
    let head = Head::new(index.len(), frame.len())?;
    let mut out = io::BufWriter::with_capacity(1 << 18, staged.file());
    out.write_all(&head.bytes()).and_then(|()| out.write_all(&frame)).map_err(failed)?;
    for (_, _, worker, frames) in &encoded.paths {
        io::copy(&mut encoded.spills[*worker].read(frames), &mut out).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(())
}

fn unreadable(info: &NarInfo, source: io::Error) -> BundlingError {
    BundlingError::Path { path: info.store_path.clone(), source }
}
