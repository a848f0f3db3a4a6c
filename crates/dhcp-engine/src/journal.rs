//! The lease file's format: bytes only, the file is the shell's.
//!
//! A file is a header, then records that are numbered without a gap. A cut at any byte costs the records from there on and
//! nothing before. Snapshot and journal have the same format; the journal's records are newer, and those that the snapshot
//! holds already are recognised by their number.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_model::MacAddr;

use crate::lease::{ClientKey, Lease, LeaseState};

const MAGIC: [u8; 8] = *b"rkleas\0\x01";
/// Magic, number of the record before the first, CRC-32 of both.
const HEADER: usize = 20;
/// Length and CRC-32 of the payload.
const FRAME: usize = 8;
/// No record that we write is longer: two 255-byte texts and some numbers.
const MAX_PAYLOAD: usize = 1024;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// Its leases, oldest first; a later one of the same address replaces an earlier one.
    pub leases: Vec<Lease>,
    /// Bytes that are whole: the file is to be cut here before more is appended. 0 if not even the header is.
    pub valid_len: usize,
    /// Number of the last record, or of the one before the first.
    pub last: u64,
}

/// The header of a file whose first record will be `last + 1`.
pub fn header(last: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&last.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Appends a record.
pub fn append(to: &mut Vec<u8>, number: u64, lease: &Lease) {
    let start = to.len();
    to.extend([0; FRAME]);
    encode(to, number, lease);
    let payload = &to[start + FRAME..];
    let (length, sum) = (payload.len() as u32, crc32fast::hash(payload));
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
    to[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a file up to its first bad byte. Records numbered `after` or lower are passed over.
pub fn replay(bytes: &[u8], after: u64) -> Replay {
    let Some((head, _)) = bytes.split_first_chunk::<HEADER>() else { return Replay::default() };
    let mut number = [0; 8];
    number.copy_from_slice(&head[8..16]);
    if *head != header(u64::from_le_bytes(number)) {
        return Replay::default();
    }
    let mut replay = Replay { leases: Vec::new(), valid_len: HEADER, last: u64::from_le_bytes(number) };
    while let Some((number, lease, length)) = record(&bytes[replay.valid_len..]) {
        if Some(number) != replay.last.checked_add(1) {
            break;
        }
        replay.last = number;
        replay.valid_len += length;
        if number > after {
            replay.leases.push(lease);
        }
    }
    replay
}

/// The addresses in use, for those who only want to know which machine an address is: `snapshot` and `journal` are the files'
/// bytes (empty if there is none).
#[derive(Debug, Clone, Default)]
pub struct AddressBook(HashMap<Ipv4Addr, Lease>);

impl AddressBook {
    /// Reads both files.
    pub fn read(snapshot: &[u8], journal: &[u8]) -> Self {
        let snapshot = replay(snapshot, 0);
        let journal = replay(journal, snapshot.last);
        Self(snapshot.leases.into_iter().chain(journal.leases).map(|lease| (lease.address, lease)).collect())
    }

    /// The machine that has this address at this wall clock second.
    pub fn mac_at(&self, address: Ipv4Addr, now: u64) -> Option<MacAddr> {
        self.0.get(&address).filter(|lease| lease.is_active(now))?.mac
    }
}

fn encode(to: &mut Vec<u8>, number: u64, lease: &Lease) {
    to.extend(number.to_le_bytes());
    to.extend(lease.written.to_le_bytes());
    to.extend(lease.expires.to_le_bytes());
    to.extend(lease.address.octets());
    to.push(match lease.state {
        LeaseState::Bound => 1,
        LeaseState::Released => 2,
        LeaseState::Declined => 3,
    });
    push_short(to, lease.mac.map(MacAddr::bytes).as_ref().map_or(&[], |bytes| bytes));
    match &lease.client {
        ClientKey::Mac(mac) => {
            to.push(1);
            push_short(to, &mac.bytes());
        }
        ClientKey::Id(id) => {
            to.push(2);
            push_short(to, id);
        }
    }
    push_short(to, lease.host_name.as_ref().map_or("", |name| name.as_str()).as_bytes());
}

fn push_short(to: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(255)];
    to.push(bytes.len() as u8);
    to.extend_from_slice(bytes);
}

/// One record: its number, its lease, its length with the frame.
fn record(bytes: &[u8]) -> Option<(u64, Lease, usize)> {
    let mut reader = Reader(bytes);
    let length = u32::from_le_bytes(reader.array()?) as usize;
    let sum = u32::from_le_bytes(reader.array()?);
    if length > MAX_PAYLOAD {
        return None;
    }
    let payload = reader.take(length)?;
    if crc32fast::hash(payload) != sum {
        return None;
    }
    let (number, lease) = decode(payload)?;
    Some((number, lease, FRAME + length))
}

fn decode(payload: &[u8]) -> Option<(u64, Lease)> {
    let mut reader = Reader(payload);
    let number = u64::from_le_bytes(reader.array()?);
    let written = u64::from_le_bytes(reader.array()?);
    let expires = u64::from_le_bytes(reader.array()?);
    let address = Ipv4Addr::from(reader.array::<4>()?);
    let state = match reader.array()? {
        [1] => LeaseState::Bound,
        [2] => LeaseState::Released,
        [3] => LeaseState::Declined,
        _ => return None,
    };
    let mac = mac_of(reader.short()?);
    let client = match (reader.array()?, reader.short()?) {
        ([1], bytes) => ClientKey::Mac(mac_of(bytes)?),
        ([2], bytes) => ClientKey::Id(bytes.into()),
        _ => return None,
    };
    // A name that is no host name any more is no reason to lose the lease.
    let host_name = std::str::from_utf8(reader.short()?).ok().and_then(|name| name.parse().ok());
    Some((number, Lease { address, client, mac, host_name, state, written, expires }))
}

fn mac_of(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr::new)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(length.into())
    }
}
