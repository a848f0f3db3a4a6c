//! Which machine an address is, by the leases that dhcpd wrote.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use boot_model::MacAddr;
use dhcp_engine::journal::AddressBook;
use generations::Layout;
use tracing::warn;

/// Follows dhcpd's lease files. Each question looks at the files' stamps and reads them again only if they changed: a client
/// that was promised its address this instant is known in its first request.
#[derive(Debug)]
pub(crate) struct Leases {
    journal: PathBuf,
    snapshot: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamps: [Stamp; 2],
    book: AddressBook,
    failing: bool,
}

/// What tells a file from its successor; `None` where there is none.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Leases {
    /// The leases of this state directory, where there need not be any yet.
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { journal: layout.lease_journal(), snapshot: layout.lease_snapshot(), known: Mutex::default() }
    }

    /// The card that is promised this address at this moment (milliseconds since 1970). It looks at files, and so may block.
    pub(crate) fn mac_at(&self, address: Ipv4Addr, unix_millis: u64) -> Option<MacAddr> {
        // Whoever panicked while reading left at worst an old book with old stamps.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match self.refresh(&mut known) {
            Ok(()) => known.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut known.failing, true) {
                    warn!(%error, "cannot read the leases; clients go without their own menus and reports");
                }
            }
        }
        known.book.mac_at(address, unix_millis / 1000)
    }

    /// The same where no file has to be read again for it; `None` where one has. It looks at two stamps and does not block.
    pub(crate) fn known_mac_at(&self, address: Ipv4Addr, unix_millis: u64) -> Option<Option<MacAddr>> {
        let stamps = [stamp(&self.journal).ok()?, stamp(&self.snapshot).ok()?];
        // Who holds it may be reading.
        let known = self.known.try_lock().ok()?;
        (stamps == known.stamps).then(|| known.book.mac_at(address, unix_millis / 1000))
    }

    fn refresh(&self, known: &mut Known) -> io::Result<()> {
        let stamps = [stamp(&self.journal)?, stamp(&self.snapshot)?];
        if stamps == known.stamps {
            return Ok(());
        }
        // The journal first: should dhcpd fold it into a new snapshot in between, its records are found there again by their
        // numbers. In the other order they would be in neither.
        let journal = read(&self.journal)?;
        let snapshot = read(&self.snapshot)?;
        known.book = AddressBook::read(&snapshot, &journal);
        known.stamps = stamps;
        Ok(())
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at(path)(error)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Bytes that are read of a file: some 200,000 leases.
const MOST: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use boot_model::MacAddr;
    use dhcp_engine::journal;
    use dhcp_engine::{ClientKey, Lease, LeaseState};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

    fn lease(last: u8) -> Lease {
        let mac = MacAddr::new([0x52, 0x54, 0, 0x77, 0, last]);
        Lease {
            address: ADDRESS,
            client: ClientKey::Mac(mac),
            mac: Some(mac),
            host_name: None,
            state: LeaseState::Bound,
            written: 1000,
            expires: 2000,
        }
    }

    fn file(last: u64, leases: &[Lease]) -> Vec<u8> {
        let mut bytes = journal::header(last).to_vec();
        for (lease, number) in leases.iter().zip(last + 1..) {
            journal::append(&mut bytes, number, lease);
        }
        bytes
    }

    #[test]
    fn follows_both_files() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let leases = Leases::new(&layout);
        assert_eq!(leases.mac_at(ADDRESS, 1_500_000), None);
        fs::create_dir(layout.leases()).unwrap();
        fs::write(layout.lease_journal(), file(0, &[lease(1)])).unwrap();
        assert_eq!(leases.mac_at(ADDRESS, 1_500_000), lease(1).mac);
        assert_eq!(leases.mac_at(ADDRESS, 2_000_000), None, "it has ended");
        assert_eq!(leases.mac_at(Ipv4Addr::LOCALHOST, 1_500_000), None);
        fs::write(layout.lease_journal(), file(0, &[lease(1), lease(2)])).unwrap();
        assert_eq!(leases.mac_at(ADDRESS, 1_500_000), lease(2).mac, "a later record replaces an earlier one");
        fs::write(layout.lease_snapshot(), file(2, &[lease(3)])).unwrap();
        assert_eq!(
            leases.mac_at(ADDRESS, 1_500_000),
            lease(3).mac,
            "the journal holds nothing newer than the snapshot"
        );
        fs::write(layout.lease_journal(), b"rubbish").unwrap();
        assert_eq!(leases.mac_at(ADDRESS, 1_500_000), lease(3).mac);
    }
}
