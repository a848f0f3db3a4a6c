//! Is this disk ours, blank, or somebody's?

use crc32fast::hash as crc32;
use uuid::Uuid;

use crate::{
    DiskFacts, MIB, MetaRecord, Signature, Window,
    gpt::{Entry, GptError, Header},
    layout::partition_guid,
    mbr::{Claim, Mbr},
    meta::META_BYTES,
    spec::{LayoutSpec, disk_guid, meta_type},
};

/// Both copies of the table and the first sector, as read.
pub(crate) struct Tables {
    pub(crate) mbr: Option<Mbr>,
    pub(crate) primary: Half,
    pub(crate) backup: Half,
}

/// One copy of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// Its sector was not read.
    Unread,
    /// No header, or a damaged one.
    Bad(GptError),
    /// A whole header; the entries are missing where their array is damaged or was not read.
    Good { header: Header, entries: Option<Vec<Entry>> },
}

/// Whose disk it is.
pub(crate) enum Owner {
    /// Ours; safe to lay out again.
    Ours,
    /// Ours, with something on it that can't be proven to be ours.
    Shared(Vec<Finding>),
    /// Provably nobody's.
    Blank,
    /// Anything else, with what was found.
    Somebody(Vec<Finding>),
}

/// Evidence that a disk belongs to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    Mbr,
    UnknownFirstSector,
    Gpt {
        disk_guid: Uuid,
        partitions: Vec<String>,
    },
    DamagedGpt(GptError),
    OtherRole {
        site: String,
        role: String,
    },
    Signature(Signature),
    /// A partition that we did not make, beside ours.
    Partition {
        number: u32,
        label: String,
        mib: u64,
    },
    /// Our disk GUID, and no list of partitions that can be read.
    UnreadableEntries,
    /// Nothing known, but not empty: byte offset of the first byte of data.
    Data(u64),
}

impl Tables {
    pub(crate) fn read(facts: &DiskFacts) -> Self {
        let sector = facts.sector_size as usize;
        let last = facts.size / u64::from(facts.sector_size.max(1));
        Self {
            mbr: facts.contents.slice(0, sector).map(Mbr::decode),
            primary: half(facts, 1),
            backup: last.checked_sub(1).map_or(Half::Unread, |lba| half(facts, lba)),
        }
    }

    /// The entries of whichever copy is whole, the primary one first.
    pub(crate) fn best_entries(&self) -> Option<&[Entry]> {
        [&self.primary, &self.backup].into_iter().find_map(|half| match half {
            Half::Good { entries: Some(entries), .. } => Some(entries.as_slice()),
            _ => None,
        })
    }

    /// The same, but only of a copy that carries this disk GUID.
    pub(crate) fn entries_of(&self, guid: Uuid) -> Option<&[Entry]> {
        [&self.primary, &self.backup].into_iter().find_map(|half| match half {
            Half::Good { header, entries: Some(entries) } if header.disk_guid == guid => Some(entries.as_slice()),
            _ => None,
        })
    }

    fn guids(&self) -> impl Iterator<Item = Uuid> {
        [&self.primary, &self.backup].into_iter().filter_map(|half| match half {
            Half::Good { header, .. } => Some(header.disk_guid),
            _ => None,
        })
    }
}

/// The rules, strongest first: a claim of ours, our GUID with nothing foreign beside it, emptiness, and else it is somebody's. What is ours
/// by the first two has only partitions of ours. See docs/decisions/0007-what-makes-a-disk-ours.md.
/// Only for facts from which nothing is wanted any more.
pub(crate) fn owner(spec: &LayoutSpec, facts: &DiskFacts, tables: &Tables) -> Owner {
    let ours = spec.disk_guid();
    let claim = claim(ours, facts, tables);
    let strangers = strangers(ours, facts, tables, claim);
    let mut findings = if claim.is_some() { Vec::new() } else { findings(spec, facts, tables) };
    if !findings.is_empty() {
        findings.extend(strangers);
        return Owner::Somebody(findings);
    }
    if !strangers.is_empty() {
        return Owner::Shared(strangers);
    }
    let is_ours = claim.is_some() || tables.guids().any(|guid| guid == ours);
    if is_ours { Owner::Ours } else { Owner::Blank }
}

/// Did we lay this disk out, whatever somebody did to it since? Enough to choose it, and not to write to it.
pub(crate) fn was_ours(spec: &LayoutSpec, facts: &DiskFacts) -> bool {
    let (ours, tables) = (spec.disk_guid(), Tables::read(facts));
    tables.guids().any(|guid| guid == ours) || claim(ours, facts, &tables).is_some()
}

/// A claim holds as long as each header sector is what it was before, or already one of ours.
fn claim<'a>(ours: Uuid, facts: &DiskFacts, tables: &'a Tables) -> Option<&'a Claim> {
    let Some(Mbr::Claim(claim)) = &tables.mbr else { return None };
    let (primary, backup) = header_checksums(facts);
    let is_ours = |half: &Half| matches!(half, Half::Good { header, .. } if header.disk_guid == ours);
    let holds = claim.disk_guid == ours
        && (primary == Some(claim.before_primary) || is_ours(&tables.primary))
        && (backup == Some(claim.before_backup) || is_ours(&tables.backup));
    holds.then_some(claim)
}

/// What stands in a table of ours without being provably ours: tools keep the disk GUID when they add a partition, or when another system
/// reuses the table. Every copy that can be read counts, but for one that a claim that holds found there: that one was judged, with any
/// consent to erase, before the claim was written, and its partitions may be half gone.
fn strangers(ours: Uuid, facts: &DiskFacts, tables: &Tables, claim: Option<&Claim>) -> Vec<Finding> {
    if claim.is_none() && tables.guids().any(|guid| guid == ours) && tables.entries_of(ours).is_none() {
        return vec![Finding::UnreadableEntries];
    }
    let (primary, backup) = header_checksums(facts);
    let copies = [
        (&tables.primary, primary, claim.map(|claim| claim.before_primary)),
        (&tables.backup, backup, claim.map(|claim| claim.before_backup)),
    ];
    let mut found = Vec::new();
    for (half, now, before) in copies {
        let Half::Good { header, entries: Some(entries) } = half else { continue };
        if header.disk_guid != ours || (before.is_some() && now == before) {
            continue;
        }
        for stranger in entries.iter().filter(|entry| !is_ours(ours, entry, entries)) {
            let finding = partition(facts, stranger);
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
    }
    found
}

/// A partition that we made, under whatever spec, has the GUID that follows from the disk's and its label. A GUID that stands in a table
/// twice proves nothing the second time.
fn is_ours(disk: Uuid, entry: &Entry, all: &[Entry]) -> bool {
    entry.unique_guid == partition_guid(disk, &entry.name)
        && all.iter().all(|other| other.unique_guid != entry.unique_guid || other.number >= entry.number)
}

fn partition(facts: &DiskFacts, entry: &Entry) -> Finding {
    let sectors = entry.last_lba.saturating_sub(entry.first_lba).saturating_add(1);
    let mib = sectors.saturating_mul(u64::from(facts.sector_size)).div_ceil(MIB);
    Finding::Partition { number: entry.number, label: entry.name.clone(), mib }
}

/// CRC-32 of the two sectors in which headers stand, whatever they hold.
pub(crate) fn header_checksums(facts: &DiskFacts) -> (Option<u32>, Option<u32>) {
    let sector = u64::from(facts.sector_size);
    let sum = |at: u64| facts.contents.slice(at, facts.sector_size as usize).map(crc32);
    let last = (facts.size / sector.max(1)).saturating_sub(1) * sector;
    (sum(sector), sum(last))
}

fn half(facts: &DiskFacts, lba: u64) -> Half {
    let sector = u64::from(facts.sector_size);
    let Some(bytes) = lba.checked_mul(sector).and_then(|at| facts.contents.slice(at, facts.sector_size as usize))
    else {
        return Half::Unread;
    };
    let header = match Header::decode(bytes) {
        Ok(header) if header.my_lba == lba => header,
        Ok(_) => return Half::Bad(GptError::Shape),
        Err(error) => return Half::Bad(error),
    };
    let array = header.array_bytes().and_then(|len| facts.contents.slice(header.entries_lba.checked_mul(sector)?, len));
    let entries = array.and_then(|array| header.decode_entries(array).ok());
    Half::Good { header, entries }
}

fn findings(spec: &LayoutSpec, facts: &DiskFacts, tables: &Tables) -> Vec<Finding> {
    let ours = spec.disk_guid();
    let is_ours = tables.guids().any(|guid| guid == ours);
    let mut found = Vec::new();
    match tables.mbr {
        Some(Mbr::Foreign) => found.push(Finding::Mbr),
        Some(Mbr::Unknown) | None => found.push(Finding::UnknownFirstSector),
        Some(Mbr::Protective | Mbr::Claim(_) | Mbr::Empty) => {}
    }
    found.extend(other_tables(ours, facts, tables));
    let disk = Window::new(&facts.contents, 0, facts.size);
    found.extend(disk.edges().into_iter().map(Finding::Signature));
    if is_ours {
        // What lies inside our own partitions is ours, and may hold anything: images of other disks too.
        return found;
    }
    found.extend(disk.scattered().into_iter().map(Finding::Signature));
    if found.is_empty() {
        found.extend(first_data(facts).map(Finding::Data));
    }
    found
}

fn other_tables(ours: Uuid, facts: &DiskFacts, tables: &Tables) -> Option<Finding> {
    let is_ours = tables.guids().any(|guid| guid == ours);
    if let Some(foreign) = tables.guids().find(|guid| *guid != ours) {
        let entries = tables.best_entries().unwrap_or_default();
        return Some(other_role(foreign, facts, entries).unwrap_or_else(|| Finding::Gpt {
            disk_guid: foreign,
            partitions: entries.iter().map(|entry| entry.name.clone()).collect(),
        }));
    }
    let damaged = [&tables.primary, &tables.backup].into_iter().find_map(|half| match half {
        Half::Bad(error) if *error != GptError::NoSignature => Some(*error),
        _ => None,
    });
    damaged.filter(|_| !is_ours).map(Finding::DamagedGpt)
}

/// A disk of another role of ours says so in its meta partition, and its GUID proves it.
fn other_role(guid: Uuid, facts: &DiskFacts, entries: &[Entry]) -> Option<Finding> {
    let record = meta_record(facts, entries)?;
    (disk_guid(&record.site, &record.role) == guid)
        .then_some(Finding::OtherRole { site: record.site, role: record.role })
}

/// The record in the meta partition, if there is one.
pub(crate) fn meta_record(facts: &DiskFacts, entries: &[Entry]) -> Option<MetaRecord> {
    let entry = entries.iter().find(|entry| entry.type_guid == meta_type())?;
    let at = entry.first_lba.checked_mul(u64::from(facts.sector_size))?;
    MetaRecord::decode(facts.contents.slice(at, META_BYTES)?)
}

/// Offset of the first byte in the first or last MiB that is neither 0 everywhere nor 0xFF everywhere.
fn first_data(facts: &DiskFacts) -> Option<u64> {
    let len = facts.size.min(MIB);
    [0, facts.size - len].into_iter().find_map(|at| {
        let Some(bytes) = facts.contents.slice(at, len as usize) else { return Some(at) };
        let filler = bytes.first().copied().filter(|byte| [0, 0xFF].contains(byte));
        let differs = bytes.iter().position(|byte| Some(*byte) != filler)?;
        Some(at + differs as u64)
    })
}
