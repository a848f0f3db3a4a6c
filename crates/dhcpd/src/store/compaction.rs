use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;

use dhcp_engine::journal;

use super::LeaseStore;

/// A snapshot that is written in slices, while leases go on to be appended to the journal.
#[derive(Debug)]
pub(super) struct Compaction {
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

/// Below this the journal is not worth replacing.
const SMALL: usize = 10_000;

/// Records of a snapshot that are written between two groups of leases: a millisecond's work.
const SLICE: usize = 2000;

impl Compaction {
    /// So many records were appended to the journal meanwhile.
    pub(super) fn came(&mut self, records: &[u8], count: usize) {
        self.since.extend_from_slice(records);
        self.appended += count;
    }
}

impl LeaseStore {
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
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use dhcp_engine::Lease;
    use generations::Layout;

    use super::*;
    use crate::store::load;
    use crate::store::tests::{lease, reopened};

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
        assert_eq!(reopened(&layout).into_iter().map(|lease| lease.address).collect::<HashSet<_>>().len(), expected);
    }
}
