//! What is known about a disk: its identity, and the bytes that were read from it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    MIB,
    meta::{META_AT, META_COPIES},
    ownership::Tables,
    probe,
};

/// Everything a verdict may depend on.
#[derive(Debug, Clone, Default)]
pub struct DiskFacts {
    /// Kernel name (`vda`), for messages only.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Logical sector size in bytes: 512 or 4096. GPT counts in it.
    pub sector_size: u32,
    /// As the drive says.
    pub model: Option<String>,
    /// As the drive says.
    pub serial: Option<String>,
    /// World wide name.
    pub wwn: Option<String>,
    /// Directory of the device below `/sys/devices`: stable as long as nobody changes cables.
    pub path: String,
    /// How it is attached.
    pub transport: Transport,
    /// The drive says that its medium can be taken out.
    pub removable: bool,
    /// The kernel would refuse writes.
    pub read_only: bool,
    /// What was read; a region that could not be read is simply not here.
    pub contents: Contents,
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// NVMe.
    Nvme,
    /// SATA or PATA.
    Sata,
    /// SCSI, SAS.
    Scsi,
    /// virtio-blk or virtio-scsi.
    Virtio,
    /// eMMC or SD card.
    Mmc,
    /// A USB stick or case.
    Usb,
    /// loop, ram, zram, device mapper, md, network: not a disk of the machine.
    Virtual,
    /// Not recognised.
    #[default]
    Other,
}

/// The regions of a disk that have been read.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    regions: Vec<(u64, Vec<u8>)>,
}

impl Contents {
    /// Adds what was read at a byte offset.
    pub fn insert(&mut self, at: u64, bytes: Vec<u8>) {
        self.regions.push((at, bytes));
    }

    /// The bytes at an offset, if one region holds them all. Not read is not blank: callers must not take `None` for zeros.
    #[must_use]
    pub fn slice(&self, at: u64, len: usize) -> Option<&[u8]> {
        self.regions.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(len)?)
        })
    }
}

/// Byte ranges that [`crate::plan()`] needs and that are not in `facts` yet. Read them, insert them, ask again until nothing is wanted:
/// where the partitions lie is known only after the table has been read. A range that can't be read is to be left out; the
/// verdict is then a refusal.
#[must_use]
pub fn wanted(facts: &DiskFacts) -> Vec<Range<u64>> {
    let mut ranges = whole_disk(facts.size);
    ranges.extend(partition_heads(facts));
    ranges.retain(|range| {
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        len > 0 && facts.contents.slice(range.start, len).is_none()
    });
    ranges
}

/// Head and tail hold tables and nearly all superblocks; the rest are copies kept elsewhere.
fn whole_disk(size: u64) -> Vec<Range<u64>> {
    let mut ranges = vec![0..size.min(MIB), size.saturating_sub(MIB)..size];
    ranges.push(META_AT.min(size)..(META_AT + META_COPIES as u64).min(size));
    ranges.extend(probe::scattered(size));
    ranges
}

/// The beginning of every partition of a table that is ours: enough for the superblock of each file system that a spec can name.
fn partition_heads(facts: &DiskFacts) -> Vec<Range<u64>> {
    let tables = Tables::read(facts);
    let Some(entries) = tables.best_entries() else { return Vec::new() };
    let sector = u64::from(facts.sector_size);
    entries
        .iter()
        .filter_map(|entry| {
            let start = entry.first_lba.checked_mul(sector)?;
            let end = entry.last_lba.checked_add(1)?.checked_mul(sector)?;
            (start < end && end <= facts.size).then(|| start..end.min(start + probe::PARTITION_HEAD))
        })
        .collect()
}
