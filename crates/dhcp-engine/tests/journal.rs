//! The lease file: what was written comes back, and a cut at any byte costs only what stands behind it.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::Ipv4Addr;

use common::{ANN, BOB};
use dhcp_engine::journal::{AddressBook, append, header, replay};
use dhcp_engine::{ClientKey, Lease, LeaseState};
use proptest::prelude::*;

fn lease(n: u8) -> Lease {
    Lease {
        address: Ipv4Addr::new(10, 77, 0, n),
        client: if n.is_multiple_of(2) { ClientKey::Mac(ANN) } else { ClientKey::Id([n; 30].into()) },
        mac: (n.is_multiple_of(2)).then_some(ANN),
        host_name: (n.is_multiple_of(3)).then(|| format!("host-{n}").parse().unwrap()),
        state: [LeaseState::Bound, LeaseState::Released, LeaseState::Declined][usize::from(n % 3)],
        written: 1_800_000_000 + u64::from(n),
        expires: 1_800_003_600 + u64::from(n),
    }
}

fn file(first: u64, leases: &[Lease]) -> Vec<u8> {
    let mut bytes = header(first - 1).to_vec();
    for (lease, number) in leases.iter().zip(first..) {
        append(&mut bytes, number, lease);
    }
    bytes
}

#[test]
fn a_cut_at_any_byte_costs_only_what_stands_behind_it() {
    let leases: Vec<Lease> = (0..6).map(lease).collect();
    let whole = file(1, &leases);
    let ends: Vec<usize> = (0..=leases.len()).map(|n| file(1, &leases[..n]).len()).collect();
    for cut in 0..=whole.len() {
        let read = replay(&whole[..cut], 0);
        let count = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        assert_eq!(read.leases, leases[..count], "cut at {cut}");
        assert_eq!(read.valid_len, if cut < ends[0] { 0 } else { ends[count] }, "cut at {cut}");
        assert_eq!(read.last, count as u64, "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let leases: Vec<Lease> = (0..3).map(lease).collect();
    let whole = file(1, &leases);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let read = replay(&bytes, 0).leases;
        assert!(read.len() < leases.len() && read[..] == leases[..read.len()], "byte {at}");
    }
}

#[test]
fn stale_records_behind_the_end_are_not_read() {
    // As in a file that was written over from its start.
    let stale = file(2, &[lease(1)])[20..].to_vec();
    assert_eq!(replay(&[file(7, &[lease(0)]), stale].concat(), 0).leases, [lease(0)]);
}

#[test]
fn the_journal_continues_the_snapshot() {
    let old = Lease { mac: Some(BOB), ..lease(6) };
    let snapshot = file(5, &[old, lease(12)]);
    // The journal was not begun anew when the power went: records 4 to 6 are in the snapshot already.
    let journal = file(4, &[lease(18), lease(24), lease(30), lease(6)]);
    let book = AddressBook::read(&snapshot, &journal);
    let machine = |last, now| book.mac_at(Ipv4Addr::new(10, 77, 0, last), now);
    assert_eq!(machine(6, 1_800_000_100), Some(ANN), "record 7 of the journal is newer");
    assert_eq!(machine(6, 1_800_009_000), None, "it has ended");
    assert_eq!(machine(12, 1_800_000_100), lease(12).mac, "only the snapshot has it");
    assert_eq!(machine(18, 1_800_000_100), None, "record 4 is older than the snapshot, which does not have it");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), real in any::<bool>()) {
        let start = if real { header(7).to_vec() } else { Vec::new() };
        let bytes = [start, bytes].concat();
        prop_assert!(replay(&bytes, 0).valid_len <= bytes.len());
    }
}
