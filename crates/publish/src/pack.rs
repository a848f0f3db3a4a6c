//! Packing a closure: each store path once, on all cores.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use boot_model::{Sha256Digest, StorePath};
use nix_format::narinfo::{Compression, NarInfo};
use nix_format::signature::{PublicKeys, SecretKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zstd::bulk::Compressor;

use crate::cache::Cache;
use crate::commit::{self, Committer, Packed};
use crate::durable::{StagedFile, WriteError};
use crate::frames::{FrameWriter, Job};
use crate::publisher::Event;
use crate::store::{PathInfo, Store};
use crate::walk::{self, WalkError};

/// zstd's own default: nearly five times faster than 9, and a tenth larger (docs/decisions/0005-update-bundles.md). A generation waits for
/// being packed, and updates go by bundles.
pub const DEFAULT_LEVEL: i32 = 3;

/// Why a path could not be packed.
#[derive(Debug, Error)]
pub enum PackError {
    /// The disk has something else than the database.
    #[error(
        "{path} is damaged: its NAR has {found}, the store's database says {expected}; \
         `nix-store --repair-path {path}` mends it if a substituter or its derivation is at hand"
    )]
    Corrupt {
        /// The path.
        path: StorePath,
        /// The NarHash that the files have.
        found: String,
        /// The NarHash in the database.
        expected: String,
    },
    /// The path's files can't be read.
    #[error("{path} cannot be packed: {source}; `nix-store --repair-path {path}` may mend it")]
    Unreadable {
        /// The path.
        path: StorePath,
        /// What went wrong.
        source: io::Error,
    },
    /// The cache can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// zstd has no such level.
    #[error("zstd cannot compress at level {level}: {source}")]
    Level {
        /// The level asked for.
        level: i32,
        /// What zstd said.
        source: io::Error,
    },
}

/// What packing needs besides the paths.
pub(crate) struct Packer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) cache: &'a Cache,
    pub(crate) keys: &'a [SecretKey],
    pub(crate) level: i32,
    pub(crate) report: &'a (dyn Fn(Event<'_>) + Sync),
}

impl Packer<'_> {
    /// Sees to it that the cache has each of `paths`, whole and signed; returns their narinfos.
    ///
    /// Those that are there are not read again, except `boot`: what is copied out of the store beside the cache must be sound too.
    pub(crate) fn pack(&self, paths: Vec<PathInfo>, boot: &[PathInfo]) -> Result<Vec<NarInfo>, PackError> {
        let public_keys: PublicKeys = self.keys.iter().map(SecretKey::public_key).collect();
        let mut ready = Vec::with_capacity(paths.len());
        let mut missing = Vec::new();
        for path in paths {
            let Some(mut info) = self.cache.find(&path, &public_keys) else {
                missing.push(path);
                continue;
            };
            self.cache.sign(&mut info, self.keys)?;
            ready.push(info);
        }
        for path in boot.iter().filter(|path| !missing.contains(path)) {
            self.check(path)?;
        }
        let bytes = missing.iter().map(|path| path.nar_size).sum();
        (self.report)(Event::Packing { paths: missing.len(), reused: ready.len(), bytes });
        ready.extend(self.pack_missing(missing)?);
        self.cache.sync()?;
        (self.report)(Event::Persisted(self.cache.root()));
        Ok(ready)
    }

    fn pack_missing(&self, mut missing: Vec<PathInfo>) -> Result<Vec<NarInfo>, PackError> {
        // Largest first: the last one to finish is then a small one, whatever the number of cores.
        missing.sort_by_key(|path| std::cmp::Reverse(path.nar_size));
        let work = Work { paths: &missing, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
        let failure = Mutex::new(None);
        let fail = |error: PackError| {
            // The first one; the others follow from it, for they see `stop` only afterwards.
            failure.lock().expect("no thread panics while it fails").get_or_insert(error);
            work.stop.store(true, Ordering::Relaxed);
        };
        let (helpers, jobs) = mpsc::sync_channel::<Job>(0);
        let jobs = Mutex::new(jobs);
        let (packed, to_commit) = mpsc::sync_channel(commit::WAITING);
        let committer = Committer::new(self.cache)?;
        let infos = thread::scope(|scope| {
            // As many as there are cores even for a single path, which may have many frames.
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                let (work, jobs, fail) = (&work, &jobs, &fail);
                let (helpers, packed) = (helpers.clone(), packed.clone());
                scope.spawn(move || self.pack_some(work, helpers, packed, jobs).unwrap_or_else(fail));
            }
            drop((helpers, packed));
            let placed = |info: &NarInfo| (self.report)(Event::Persisted(&self.cache.narinfo(&info.store_path)));
            committer.run(to_commit, placed).map_err(|error| fail(error.into())).unwrap_or_default()
        });
        failure.into_inner().expect("no thread panics while it fails").map_or(Ok(infos), Err)
    }

    /// One thread's part: paths while there are any, then frames of the others' paths.
    fn pack_some(
        &self,
        work: &Work<'_>,
        helpers: SyncSender<Job>,
        packed: SyncSender<Packed>,
        jobs: &Mutex<Receiver<Job>>,
    ) -> Result<(), PackError> {
        let level = |source| PackError::Level { level: self.level, source };
        let mut compressor = Compressor::new(self.level).map_err(level)?;
        while let Some(path) = work.next() {
            // Nobody takes it any more if the cache can't be written, which is told already.
            let _ = packed.send(self.pack_path(path, &mut compressor, &helpers, work)?);
        }
        drop((helpers, packed));
        while let Some(job) = next_job(jobs) {
            job.run(&mut compressor);
        }
        Ok(())
    }

    fn pack_path(
        &self,
        path: &PathInfo,
        compressor: &mut Compressor<'static>,
        helpers: &SyncSender<Job>,
        work: &Work<'_>,
    ) -> Result<Packed, PackError> {
        let staged = StagedFile::create(&self.cache.nars(), &path.path.hash().to_string())?;
        let write_error = |error| WriteError::new("write", staged.path(), error);
        let on_bytes = |bytes| {
            (self.report)(Event::Packed { bytes });
            // Another worker has failed: there is nothing to finish for.
            if work.stop.load(Ordering::Relaxed) {
                Err(io::Error::other("given up, for another path failed"))
            } else {
                Ok(())
            }
        };
        let mut frames = FrameWriter::new(staged.file(), compressor, helpers, on_bytes);
        let listing =
            walk::write_nar(&self.on_disk(path), &mut frames).map_err(|error| match frames.take_failure() {
                Some(failure) => write_error(failure).into(),
                None => unreadable(path, error),
            })?;
        let sums = frames.finish().map_err(write_error)?;
        compare(path, sums.nar_hash)?;

        let mut info = NarInfo {
            store_path: path.path.clone(),
            url: Cache::url(&sums.file_hash),
            compression: Compression::Zstd,
            file_hash: sums.file_hash,
            file_size: sums.file_size,
            nar_hash: sums.nar_hash,
            nar_size: listing.nar_size,
            references: path.references.clone(),
            deriver: path.deriver.clone(),
            signatures: path.signatures.clone(),
            content_address: path.content_address.clone(),
        };
        self.keys.iter().for_each(|key| info.sign(key));
        Ok(Packed { info, pack: staged, listing: listing.to_json() })
    }

    /// Reads a path once more and compares it with the database.
    fn check(&self, path: &PathInfo) -> Result<(), PackError> {
        let mut hasher = Hasher(Sha256::new());
        walk::write_nar(&self.on_disk(path), io::BufWriter::with_capacity(1 << 16, &mut hasher))
            .map_err(|error| unreadable(path, error))?;
        compare(path, Sha256Digest::new(hasher.0.finalize().into()))
    }

    fn on_disk(&self, path: &PathInfo) -> PathBuf {
        self.store.on_disk(Path::new(path.path.as_str()))
    }
}

/// What is to be packed, by several threads.
struct Work<'a> {
    paths: &'a [PathInfo],
    next: AtomicUsize,
    /// Something has failed: there is nothing to finish for.
    stop: AtomicBool,
}

impl<'a> Work<'a> {
    fn next(&self) -> Option<&'a PathInfo> {
        let path = self.paths.get(self.next.fetch_add(1, Ordering::Relaxed));
        path.filter(|_| !self.stop.load(Ordering::Relaxed))
    }
}

/// Waits for a frame to compress; none when nobody is left who could offer one.
fn next_job(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().expect("no thread panics while it waits").recv().ok()
}

struct Hasher(Sha256);

impl io::Write for &mut Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compare(path: &PathInfo, found: Sha256Digest) -> Result<(), PackError> {
    if found == path.nar_hash {
        return Ok(());
    }
    let [found, expected] = [found, path.nar_hash].map(|digest| nix_format::hash::to_nix(&digest));
    Err(PackError::Corrupt { path: path.path.clone(), found, expected })
}

fn unreadable(path: &PathInfo, error: WalkError) -> PackError {
    PackError::Unreadable { path: path.path.clone(), source: io::Error::other(error) }
}
