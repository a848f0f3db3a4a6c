mod compaction;
mod loading;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use dhcp_engine::Lease;
use dhcp_engine::journal;
use generations::Layout;
use thiserror::Error;
use tracing::error;

pub(crate) use self::loading::{Loaded, load};
use compaction::Compaction;

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
            compaction.came(&bytes, count);
        }
        self.live.extend(leases.into_iter().map(|lease| (lease.address, lease.clone())));
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

#[cfg(test)]
mod tests {
    use dhcp_engine::{ClientKey, LeaseState};

    use super::*;

    pub(super) fn lease(n: u8, written: u64) -> Lease {
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

    pub(super) fn reopened(layout: &Layout) -> Vec<Lease> {
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
