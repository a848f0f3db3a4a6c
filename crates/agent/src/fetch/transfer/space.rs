//! Room on the disk: looked for before anything is fetched, and made by taking the oldest generations away.
//!
//! Never taken: the generation that is wanted, and the one of its role that last came up and ran. First go paths that no
//! generation has, then one generation after the other, the oldest first. A generation's record and its receipts are gone from
//! the medium before the first of its files is, so that a power cut in between leaves files too many and never a claim too many.
//!
//! Making room needs none: receipts are struck out in place, and on a disk without a free byte the list of what was dropped stays empty.
//! Receipts that are struck out name what a power cut has left, which goes when room is made again.

use std::{
    cmp::Reverse,
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

use boot_model::{GenerationRef, StorePath, Timestamp, generation::Generation};
use nix::sys::statvfs::statvfs;
use nix_format::closure::Closure;

use super::{TransferError, is_full, plan::Task, received::Received, worker};
use crate::{
    console,
    fetch::{
        held::{self, Held},
        store::Store,
    },
};

/// Beyond the NARs: what a file system needs for directories, inodes and the ends of files, as a share of the bytes and for each
/// path. Paths of many tiny files need more; then the disk runs full in mid-fetch, room is made, and the fetch goes on.
const OVERHEAD_PERCENT: u64 = 5;
const OVERHEAD_PER_PATH: u64 = 64 << 10;

/// The disk of one client, with the generation that is to be brought.
pub(super) struct Space<'a> {
    pub(super) store: &'a Store,
    pub(super) wanted: &'a GenerationRef,
    pub(super) closure: &'a Closure,
}

/// A generation that may go.
struct Candidate {
    reference: GenerationRef,
    date: Timestamp,
    paths: HashSet<StorePath>,
}

impl Space<'_> {
    /// Makes room for these tasks, as far as that is possible at all.
    pub(super) fn make(&self, tasks: &[Task], received: &mut Received) -> Result<(), TransferError> {
        // What lies there already is only hashed. Where that finds damage and the disk runs full, room is made then.
        let fetched = || tasks.iter().filter(|task| !task.in_the_way);
        let bytes: u64 = fetched().map(|task| task.info.nar_size).sum();
        let needed = bytes + bytes / 100 * OVERHEAD_PERCENT + fetched().count() as u64 * OVERHEAD_PER_PATH;
        while self.free()? < needed {
            if !self.evict_one(received)? {
                let free = console::bytes(self.free()?);
                let needed = console::bytes(needed);
                return Err(TransferError::Space(format!(
                    "{needed} are needed, {free} are free, nothing can be removed"
                )));
            }
        }
        Ok(())
    }

    /// Takes away what is needed least. False if nothing may go.
    pub(super) fn evict_one(&self, received: &mut Received) -> Result<bool, TransferError> {
        self.evict(received).map_err(|source| TransferError::disk("making room", source))
    }

    fn evict(&self, received: &mut Received) -> io::Result<bool> {
        let mut held: Vec<Candidate> = Held::all(self.store).iter().map(|held| self.candidate(held)).collect();
        let wanted: HashSet<StorePath> = self.closure.paths().iter().map(|info| info.store_path.clone()).collect();
        let kept = |others: &[Candidate], path: &StorePath| {
            wanted.contains(path) || others.iter().any(|other| other.paths.contains(path))
        };
        let known = received.paths().chain(received.forgotten());
        let orphans: HashSet<_> = known.filter(|path| !kept(&held, path)).cloned().collect();
        if !orphans.is_empty() {
            console::say(&format!("rookery: the disk is short of room: {} paths of no generation go", orphans.len()));
            self.remove(&orphans, received)?;
            return Ok(true);
        }
        // Of a role's generations all may go but the wanted one and the one that last ran.
        let spared = held::last_good(self.store, &self.wanted.role);
        held.sort_by_key(|candidate| Reverse((candidate.date, candidate.reference.id)));
        let may_go = |candidate: &Candidate| {
            candidate.reference != *self.wanted && Some(&candidate.reference) != spared.as_ref()
        };
        let Some(at) = held.iter().rposition(may_go) else { return Ok(false) };
        let going = held.remove(at);
        console::say(&format!("rookery: the disk is short of room: generation {} goes", going.reference));
        Held::remove(self.store, &going.reference)?;
        self.store.remove_profile(&going.reference)?;
        let only_there: HashSet<_> = going.paths.into_iter().filter(|path| !kept(&held, path)).collect();
        self.remove(&only_there, received)?;
        Ok(true)
    }

    /// What cannot be read holds nothing that could be kept; its paths are orphans then.
    fn candidate(&self, reference: &GenerationRef) -> Candidate {
        let held = Held::read(self.store, reference);
        let generation = held.as_ref().and_then(|held| Generation::from_json(held.json.as_bytes()).ok());
        let closure = held.and_then(|held| held.closure.parse::<Closure>().ok());
        let paths = closure.iter().flat_map(|closure| closure.paths()).map(|info| info.store_path.clone());
        let date = generation.map_or(Timestamp::from_unix_millis(0), |generation| generation.date);
        Candidate { reference: reference.clone(), date, paths: paths.collect() }
    }

    fn remove(&self, paths: &HashSet<StorePath>, received: &mut Received) -> io::Result<()> {
        note_dropped(self.store, paths)?;
        received.forget(paths)?;
        paths.iter().try_for_each(|path| worker::remove(&self.store.below_root(path.as_str())))?;
        received.removed(paths);
        Ok(())
    }

    /// Bytes that root may still write.
    fn free(&self) -> Result<u64, TransferError> {
        let found =
            statvfs(&self.store.paths()).map_err(|error| TransferError::disk("asking for free space", error.into()))?;
        Ok(found.blocks_free() as u64 * found.fragment_size() as u64)
    }
}

/// The paths whose rows in Nix's database are to be dropped in stage 2. That there is a list says that there are such; a disk
/// without room may have cut off its lines.
pub(in crate::fetch) fn dropped(store: &Store) -> Vec<String> {
    match fs::read(list(store)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => String::from_utf8_lossy(&read.unwrap_or_default()).split('\n').map(str::to_owned).collect(),
    }
}

/// They are dropped.
pub(in crate::fetch) fn forget_dropped(store: &Store) -> io::Result<()> {
    match fs::remove_file(list(store)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn note_dropped(store: &Store, paths: &HashSet<StorePath>) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(list(store))?;
    let lines: String = paths.iter().map(|path| format!("{path}\n")).collect();
    match file.write_all(lines.as_bytes()) {
        Err(error) if !is_full(&error) => return Err(error),
        _ => file.sync_all()?,
    }
    File::open(store.records())?.sync_all()
}

fn list(store: &Store) -> PathBuf {
    store.records().join("dropped")
}
