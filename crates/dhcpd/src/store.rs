use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use dhcp_engine::Lease;
use dhcp_engine::journal::{self, Replay};
use generations::{Layout, Problem};
use thiserror::Error;
use tracing::error;

/// The lease files: a snapshot and a journal of what came after it.
///
/// A lease counts as saved when [`LeaseStore::append`] has returned. After any error the journal is not written to again, because
/// the kernel may have dropped the pages that it failed to write; [`LeaseStore::rewrite`] makes both files anew.
#[derive(Debug)]
pub struct LeaseStore {
    snapshot: PathBuf,
    journal: PathBuf,
    /// Opened for its lock and its fsync.
    directory: File,
    open: File,
    /// Number of the last record.
    last: u64,
    /// Records in the journal.
    appended: usize,
    /// A new snapshot under way.
    compaction: Option<Compaction>,
    /// A write failed. Records behind a torn one would not be read again, so none are written there.
    broken: bool,
    /// What the files say together.
    live: HashMap<Ipv4Addr, Lease>,
}

/// A snapshot that is written in slices, while leases go on to be appended to the journal.
#[derive(Debug)]
struct Compaction {
    /// Beside the snapshot.
    file: File,
    /// The addresses that it has still to hold.
    rest: Vec<Ipv4Addr>,
    /// Number of its last record.
    last: u64,
    /// The journal's last record when this began: the snapshot stands in for all up to there.
    through: u64,
    /// The journal's records since then, as they stand there.
    since: Vec<u8>,
    /// How many those are.
    appended: usize,
}

/// The lease files cannot be opened.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has them.
    #[error("another rookery-dhcpd uses {0}; stop it, or give this one a state directory of its own")]
    InUse(PathBuf),
}

/// Below this the journal is not worth replacing.
const SMALL: usize = 10_000;

/// Records of a snapshot that are written between two groups of leases: a millisecond's work.
const SLICE: usize = 2000;

impl LeaseStore {
    /// Opens the files, or begins them, and returns all leases, oldest first. A journal that was cut off by a power failure is
    /// replaced by a whole one; what was promised is in the part that is whole.
    ///
    /// # Errors
    /// If the directory cannot be made, read, locked or written.
    pub fn open(layout: &Layout) -> Result<(Self, Vec<Lease>), StoreError> {
        let path = layout.leases();
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        fs::create_dir_all(&path).map_err(failed("cannot make", &path))?;
        // A directory that was just made is as easily lost as what is in it.
        File::open(layout.root()).and_then(|root| root.sync_all()).map_err(failed("cannot sync", layout.root()))?;
        let directory = File::open(&path).map_err(failed("cannot open", &path))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(failed("cannot lock", &path)(source)),
        }
        let (snapshot, journal) = (layout.lease_snapshot(), layout.lease_journal());
        let Loaded { leases, last, damage } =
            load(layout).map_err(|(path, source)| failed("cannot read", &path)(source))?;
        if let Some(damage) = damage {
            error!(%damage, "what can be read of the leases is used");
            // For who looks into it, since the snapshot is replaced below. Failing to keep a copy must not keep the service down.
            let _ = fs::copy(&snapshot, snapshot.with_extension("damaged"));
        }
        let live = leases.iter().map(|lease| (lease.address, lease.clone())).collect();
        // Replaced below: a snapshot of everything goes first, then a journal that continues it.
        let open = directory.try_clone().map_err(failed("cannot open", &path))?;
        let mut store =
            Self { snapshot, journal, directory, open, last, appended: 0, compaction: None, broken: false, live };
        let path = store.snapshot.clone();
        store.rewrite(None).map_err(failed("cannot write", &path))?;
        Ok((store, leases))
    }

    /// Writes leases and returns when they are on disk.
    ///
    /// # Errors
    /// If they may not be on disk, and from then on until a [`LeaseStore::rewrite`] succeeds.
    pub fn append<'a>(&mut self, leases: impl IntoIterator<Item = &'a Lease> + Clone) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed and the files are not yet made anew"));
        }
        let mut bytes = Vec::new();
        let mut last = self.last;
        for lease in leases.clone() {
            last += 1;
            journal::append(&mut bytes, last, lease);
        }
        self.broken = true;
        self.open.write_all(&bytes)?;
        self.open.sync_data()?;
        self.broken = false;
        let count = (last - self.last) as usize;
        self.appended += count;
        self.last = last;
        if let Some(compaction) = &mut self.compaction {
            compaction.since.extend_from_slice(&bytes);
            compaction.appended += count;
        }
        self.live.extend(leases.into_iter().map(|lease| (lease.address, lease.clone())));
        Ok(())
    }

    /// Whether a new snapshot is under way, so that [`LeaseStore::compact`] has more to do.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Goes on with a new snapshot for a little, or begins one if more of the journal is out of date than not. Between two calls
    /// leases can be appended: a large store makes nobody wait.
    ///
    /// # Errors
    /// As of [`LeaseStore::append`].
    pub fn compact(&mut self) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        let Some(mut compaction) = self.compaction.take() else {
            if self.appended > SMALL.max(2 * self.live.len()) {
                self.compaction = self.begin_compaction()?;
            }
            return Ok(());
        };
        if compaction.rest.is_empty() {
            return self.finish_compaction(compaction);
        }
        // As the leases are by now: one that was appended since is newer here, and comes again from the journal.
        let slice = compaction.rest.split_off(compaction.rest.len().saturating_sub(SLICE));
        let mut bytes = Vec::new();
        for lease in slice.iter().filter_map(|address| self.live.get(address)) {
            compaction.last += 1;
            journal::append(&mut bytes, compaction.last, lease);
        }
        compaction.file.write_all(&bytes)?;
        // On disk slice by slice too, so that the end has not all of it to wait for.
        compaction.file.sync_data()?;
        self.compaction = Some(compaction);
        Ok(())
    }

    /// `None` if the numbers do not allow it: then all is written at once. A snapshot ends with the number that the journal had,
    /// so that its records are told from older ones; each lease here has had a number of its own, unless the numbers began anew.
    fn begin_compaction(&mut self) -> io::Result<Option<Compaction>> {
        let Some(before) = self.last.checked_sub(self.live.len() as u64) else {
            return self.rewrite(None).map(|()| None);
        };
        let mut file = File::create(self.snapshot.with_extension("tmp"))?;
        file.write_all(&journal::header(before))?;
        let rest = self.live.keys().copied().collect();
        Ok(Some(Compaction { file, rest, last: before, through: self.last, since: Vec::new(), appended: 0 }))
    }

    fn finish_compaction(&mut self, compaction: Compaction) -> io::Result<()> {
        self.broken = true;
        compaction.file.sync_all()?;
        fs::rename(self.snapshot.with_extension("tmp"), &self.snapshot)?;
        self.directory.sync_all()?;
        // From here on the old journal's records are passed over by their numbers, but for those that came since.
        let journal = [&journal::header(compaction.through)[..], &compaction.since].concat();
        self.replace(&self.journal, &journal)?;
        self.open = OpenOptions::new().append(true).open(&self.journal)?;
        self.appended = compaction.appended;
        self.broken = false;
        Ok(())
    }

    /// Puts everything into a new snapshot and begins a new journal: `leases`, or what the files hold already.
    ///
    /// # Errors
    /// If that fails; the old files are then still whole.
    pub fn rewrite(&mut self, leases: Option<Vec<Lease>>) -> io::Result<()> {
        self.broken = true;
        self.compaction = None;
        if let Some(leases) = leases {
            self.live = leases.into_iter().map(|lease| (lease.address, lease)).collect();
        }
        let mut sorted: Vec<&Lease> = self.live.values().collect();
        sorted.sort_by_key(|lease| (lease.written, lease.address));
        let mut bytes = journal::header(self.last).to_vec();
        let mut last = self.last;
        for lease in sorted {
            last += 1;
            journal::append(&mut bytes, last, lease);
        }
        self.replace(&self.snapshot, &bytes)?;
        self.last = last;
        // From here on the snapshot is newer than the old journal, whose records are passed over by their numbers.
        self.replace(&self.journal, &journal::header(last))?;
        self.open = OpenOptions::new().append(true).open(&self.journal)?;
        self.appended = 0;
        self.broken = false;
        Ok(())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("tmp");
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        self.directory.sync_all()
    }
}

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Oldest first; a later one of the same address replaces an earlier one.
    pub(crate) leases: Vec<Lease>,
    /// The last number in use.
    pub(crate) last: u64,
    /// The snapshot was whole when it was renamed into place, and is not any more.
    pub(crate) damage: Option<Problem>,
}

/// Reads both files, of which either may be missing. Nothing is written, so it may be done beside the server.
pub(crate) fn load(layout: &Layout) -> Result<Loaded, (PathBuf, io::Error)> {
    let read = |path: PathBuf| match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| (path, error)),
    };
    // The journal first: should the server fold it into a new snapshot in between, its records are found there again by their
    // numbers. In the other order they would be in neither.
    let journal = read(layout.lease_journal())?;
    let bytes = read(layout.lease_snapshot())?;
    let Replay { mut leases, valid_len, last } = journal::replay(&bytes, 0);
    let damage = (valid_len < bytes.len()).then(|| Problem {
        path: layout.lease_snapshot(),
        reason: format!("it is damaged at byte {valid_len}; the leases behind that are lost, so look after the disk"),
    });
    // A snapshot that was written in slices has them in no order.
    leases.sort_by_key(|lease| (lease.written, lease.address));
    let newer = journal::replay(&journal, last);
    leases.extend(newer.leases);
    Ok(Loaded { leases, last: last.max(newer.last), damage })
}

#[cfg(test)]
mod tests {
    use dhcp_engine::{ClientKey, LeaseState};

    use super::*;

    fn lease(n: u8, written: u64) -> Lease {
        let mac = boot_model::MacAddr::new([2, 0, 0, 0, 0, n]);
        Lease {
            address: Ipv4Addr::new(10, 77, 0, n),
            client: ClientKey::Mac(mac),
            mac: Some(mac),
            host_name: None,
            state: LeaseState::Bound,
            written,
            expires: written + 3600,
        }
    }

    fn reopened(layout: &Layout) -> Vec<Lease> {
        LeaseStore::open(layout).unwrap().1
    }

    #[test]
    fn what_was_appended_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, leases) = LeaseStore::open(&layout).unwrap();
        assert_eq!(leases, []);
        store.append(&[lease(1, 10), lease(2, 11)]).unwrap();
        store.append(&[lease(1, 12)]).unwrap();
        drop(store);
        assert_eq!(reopened(&layout), [lease(1, 10), lease(2, 11), lease(1, 12)]);
        // Opening made a snapshot of it.
        assert_eq!(reopened(&layout), [lease(2, 11), lease(1, 12)]);
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        store.append(&[lease(3, 13)]).unwrap();
        drop(store);
        assert_eq!(reopened(&layout), [lease(2, 11), lease(1, 12), lease(3, 13)]);
    }

    #[test]
    fn a_power_cut_at_any_byte_of_the_journal_keeps_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        store.append(&[lease(1, 10)]).unwrap();
        store.rewrite(None).unwrap();
        store.append(&[lease(2, 11)]).unwrap();
        let one = fs::metadata(layout.lease_journal()).unwrap().len() as usize;
        store.append(&[lease(3, 12)]).unwrap();
        drop(store);
        let (snapshot, journal) =
            (fs::read(layout.lease_snapshot()).unwrap(), fs::read(layout.lease_journal()).unwrap());
        for cut in 0..=journal.len() {
            fs::write(layout.lease_snapshot(), &snapshot).unwrap();
            fs::write(layout.lease_journal(), &journal[..cut]).unwrap();
            let expected = 1 + usize::from(cut >= one) + usize::from(cut == journal.len());
            assert_eq!(reopened(&layout).len(), expected, "cut at {cut}");
            // What is appended afterwards is not lost behind the bad tail.
            let (mut store, _) = LeaseStore::open(&layout).unwrap();
            store.append(&[lease(9, 20)]).unwrap();
            drop(store);
            assert_eq!(reopened(&layout).len(), expected + 1, "cut at {cut}");
        }
    }

    /// Appends until a new snapshot begins.
    fn begin_compaction(store: &mut LeaseStore) {
        while !store.is_compacting() {
            let leases: Vec<Lease> = (0..2000).map(|n| lease((n % 250) as u8, 10 + n)).collect();
            store.append(&leases).unwrap();
            store.compact().unwrap();
        }
    }

    #[test]
    fn what_is_appended_during_a_snapshot_is_not_lost_wherever_power_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        begin_compaction(&mut store);
        let files = || (fs::read(layout.lease_snapshot()).unwrap(), fs::read(layout.lease_journal()).unwrap());
        let newest =
            |leases: Vec<Lease>| leases.into_iter().map(|lease| (lease.address, lease)).collect::<HashMap<_, _>>();
        let mut expected = store.live.clone();
        let mut step = 5000;
        let mut steps = Vec::new();
        while store.is_compacting() {
            step += 1;
            let new = lease(251, step);
            store.append([&new]).unwrap();
            expected.insert(new.address, new);
            steps.push((files(), expected.clone()));
            let (_, old_journal) = files();
            store.compact().unwrap();
            let (snapshot, journal) = files();
            steps.push(((snapshot.clone(), journal), expected.clone()));
            // Between the two renames.
            steps.push(((snapshot, old_journal), expected.clone()));
        }
        assert!(steps.len() >= 6, "{}", steps.len());
        assert!(store.appended < 10, "{}", store.appended);
        drop(store);
        for ((snapshot, journal), expected) in steps {
            fs::write(layout.lease_snapshot(), snapshot).unwrap();
            fs::write(layout.lease_journal(), journal).unwrap();
            assert_eq!(newest(load(&layout).unwrap().leases), expected);
        }
        // What comes after is numbered so that it is read again.
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        store.append([&lease(252, 9000)]).unwrap();
        drop(store);
        assert_eq!(newest(reopened(&layout)).len(), 252);
    }

    #[test]
    fn a_failed_snapshot_leaves_the_old_files_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        begin_compaction(&mut store);
        store.compaction.as_mut().unwrap().file = File::open(layout.lease_journal()).unwrap();
        assert!(store.compact().is_err());
        // The journal is as good as before.
        store.append([&lease(251, 9000)]).unwrap();
        let expected = store.live.len();
        drop(store);
        assert_eq!(
            reopened(&layout).into_iter().map(|lease| lease.address).collect::<std::collections::HashSet<_>>().len(),
            expected
        );
    }

    #[test]
    fn the_old_journal_beside_the_new_snapshot_changes_nothing() {
        // As after a power cut between the two renames of a rewrite.
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        store.append(&[lease(1, 10), lease(1, 20)]).unwrap();
        let old = fs::read(layout.lease_journal()).unwrap();
        store.rewrite(Some(vec![lease(1, 30)])).unwrap();
        drop(store);
        fs::write(layout.lease_journal(), old).unwrap();
        assert_eq!(reopened(&layout), [lease(1, 30)]);
    }

    #[test]
    fn a_damaged_snapshot_is_told_and_looking_at_it_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        store.rewrite(Some(vec![lease(1, 10), lease(2, 11)])).unwrap();
        drop(store);
        let mut bytes = fs::read(layout.lease_snapshot()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(layout.lease_snapshot(), &bytes).unwrap();
        let files = || fs::read_dir(layout.leases()).unwrap().count();
        let before = files();
        let loaded = load(&layout).unwrap();
        assert_eq!(loaded.leases, [lease(1, 10)]);
        assert!(loaded.damage.unwrap().to_string().contains("snapshot: it is damaged at byte "));
        assert_eq!(files(), before);
        assert_eq!(reopened(&layout), [lease(1, 10)]);
        assert_eq!(fs::read(layout.lease_snapshot().with_extension("damaged")).unwrap(), bytes);
        assert!(load(&layout).unwrap().damage.is_none(), "the server wrote a whole one");
    }

    #[test]
    fn two_servers_do_not_share_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let store = LeaseStore::open(&layout).unwrap();
        assert!(matches!(LeaseStore::open(&layout), Err(StoreError::InUse(_))));
        drop(store);
        LeaseStore::open(&layout).unwrap();
    }

    #[test]
    fn after_a_failed_write_a_rewrite_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let (mut store, _) = LeaseStore::open(&layout).unwrap();
        store.append(&[lease(1, 10)]).unwrap();
        // A descriptor that refuses to be written to.
        store.open = File::open(layout.lease_journal()).unwrap();
        assert!(store.append(&[lease(2, 11)]).is_err());
        // The descriptor works again, but what stands behind a torn record would be lost.
        store.open = OpenOptions::new().append(true).open(layout.lease_journal()).unwrap();
        assert!(store.append(&[lease(2, 11)]).is_err());
        store.rewrite(Some(vec![lease(1, 10), lease(2, 11)])).unwrap();
        store.append(&[lease(3, 12)]).unwrap();
        drop(store);
        assert_eq!(reopened(&layout), [lease(1, 10), lease(2, 11), lease(3, 12)]);
    }
}
