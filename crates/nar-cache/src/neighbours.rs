//! Which machine an address is, by the kernel's table of neighbours: who answered ARP on which interface.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use boot_model::MacAddr;
use tracing::warn;

/// Reads the kernel's table. Who sends a request has just shaken hands with this machine, and so stands in it.
#[derive(Debug)]
pub(crate) struct Neighbours {
    table: PathBuf,
    last: Mutex<Last>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Last {
    read: Option<Instant>,
    neighbours: Vec<Neighbour>,
    failing: bool,
}

/// A machine on a cable of ours, whose answer the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Neighbour {
    address: Ipv4Addr,
    mac: MacAddr,
    interface: String,
}

impl Neighbours {
    /// Where Linux has the table, that of the process's own network namespace (proc(5)).
    pub(crate) const TABLE: &str = "/proc/net/arp";

    /// Those of a file in the form of [`Self::TABLE`].
    pub(crate) fn new(table: &Path) -> Self {
        Self { table: table.to_owned(), last: Mutex::default() }
    }

    /// The card that answers for this address on this interface. It reads the file, and so may block.
    pub(crate) fn mac_at(&self, address: Ipv4Addr, interface: &str, now: Instant) -> Option<MacAddr> {
        let read = read(&self.table);
        // Whoever panicked left at worst an old table with its old time.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(neighbours) => *last = Last { read: Some(now), neighbours, failing: false },
            Err(error) => {
                if !last.failing {
                    let table = self.table.display();
                    warn!(%table, %error, "cannot read who is on the network; clients go without their own menus and reports");
                }
                *last = Last { failing: true, ..Last::default() };
            }
        }
        find(&last.neighbours, address, interface)
    }

    /// The same as it was within the last second, where that is known. It does not block.
    pub(crate) fn known_mac_at(&self, address: Ipv4Addr, interface: &str, now: Instant) -> Option<MacAddr> {
        // Who holds it may be waiting for a lock of the kernel's.
        let last = self.last.try_lock().ok()?;
        let fresh = last.read.is_some_and(|read| now.saturating_duration_since(read) < FRESH);
        if fresh { find(&last.neighbours, address, interface) } else { None }
    }
}

impl Neighbour {
    /// Reads a line of the table (net/ipv4/arp.c, `arp_format_neigh_entry`), if it is of an Ethernet card that has answered.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let mut next = || fields.next();
        let (address, kind, flags, mac, _mask, interface) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        if number(kind)? != ETHERNET || number(flags)? & COMPLETE == 0 {
            return None;
        }
        Some(Self { address: address.parse().ok()?, mac: mac.parse().ok()?, interface: interface.to_owned() })
    }
}

fn read(table: &Path) -> io::Result<Vec<Neighbour>> {
    let mut bytes = Vec::new();
    File::open(table)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(Neighbour::parse).collect())
}

fn find(neighbours: &[Neighbour], address: Ipv4Addr, interface: &str) -> Option<MacAddr> {
    let found = neighbours.iter().find(|n| n.address == address && n.interface == interface);
    found.map(|neighbour| neighbour.mac)
}

/// ARPHRD_ETHER of linux/if_arp.h.
const ETHERNET: u32 = 1;
/// ATF_COM of linux/if_arp.h: the address of the card is known.
const COMPLETE: u32 = 2;
/// How long a table is good enough for the event of a small answer. A client fetches thousands of narinfos one after the other.
const FRESH: Duration = Duration::from_secs(1);
/// Bytes that are read: some 13,000 lines, where the kernel keeps 1024 unless it is told otherwise (gc_thresh3 of arp(7)).
const MOST: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.20       0x1         0x2         52:54:00:77:00:01     *        enp3s0
10.77.0.21       0x1         0x0         00:00:00:00:00:00     *        enp3s0
10.77.0.22       0x1         0x6         52:54:00:77:00:02     *        enp3s0
10.77.0.23       0x1         0xc         52:54:00:77:00:03     *        enp3s0
10.77.0.24       0x20        0x2         52:54:00:77:00:04     *        ib0
10.77.0.25       0x1         0x2         52:54:00:77:00:05     *        enp4s0
10.77.0.26       0x1         0x2         52:54:00:77           *        enp3s0
10.77.0.27       0x1         0x2
";

    fn mac(last: u8) -> Option<MacAddr> {
        Some(MacAddr::new([0x52, 0x54, 0, 0x77, 0, last]))
    }

    #[test]
    fn knows_who_has_answered_on_that_interface() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("arp");
        fs::write(&file, TABLE).unwrap();
        let neighbours = Neighbours::new(&file);
        for (address, expected) in [
            ("10.77.0.20", mac(1)),
            ("10.77.0.21", None),   // asked, and no answer yet
            ("10.77.0.22", mac(2)), // entered by hand
            ("10.77.0.23", None),   // we answer for it
            ("10.77.0.24", None),   // InfiniBand
            ("10.77.0.25", None),   // on another card
            ("10.77.0.26", None),
            ("10.77.0.27", None),
            ("10.77.0.28", None),
        ] {
            assert_eq!(neighbours.mac_at(address.parse().unwrap(), "enp3s0", Instant::now()), expected, "{address}");
        }
    }

    #[test]
    fn what_was_read_is_good_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("arp");
        let (address, now) = ("10.77.0.20".parse().unwrap(), Instant::now());
        let neighbours = Neighbours::new(&file);
        assert_eq!(neighbours.mac_at(address, "enp3s0", now), None, "there is no table");
        fs::write(&file, TABLE).unwrap();
        assert_eq!(neighbours.known_mac_at(address, "enp3s0", now), None);
        assert_eq!(neighbours.mac_at(address, "enp3s0", now), mac(1));
        fs::write(&file, TABLE.replace("00:01", "00:09")).unwrap();
        assert_eq!(neighbours.known_mac_at(address, "enp3s0", now + FRESH / 2), mac(1));
        assert_eq!(neighbours.known_mac_at(address, "enp3s0", now + FRESH), None);
        assert_eq!(neighbours.mac_at(address, "enp3s0", now + FRESH), mac(9));
        fs::remove_file(&file).unwrap();
        assert_eq!(neighbours.mac_at(address, "enp3s0", now + FRESH), None);
        assert_eq!(neighbours.known_mac_at(address, "enp3s0", now + FRESH), None);
    }
}
