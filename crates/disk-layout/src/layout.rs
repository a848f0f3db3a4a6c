//! Where each partition of a spec lies on a disk of a given size.

use boot_model::Nonce;
use uuid::Uuid;

use crate::{
    FileSystem, LayoutSpec, MIB, PartitionSpec,
    gpt::{self, Entry, Header},
    meta::META_AT,
    spec::{META_LABEL, meta_type, pending_type},
};

/// A spec placed on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The disk's identity to be.
    pub disk_guid: Uuid,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Sectors of the whole disk.
    pub sectors: u64,
    /// Partition 1 is the meta partition, the others follow in the spec's order.
    pub partitions: Vec<PlacedPartition>,
    /// The consent to erase that is spent when this layout is made.
    pub consent: Option<Nonce>,
}

/// One partition and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedPartition {
    /// As the kernel numbers it: 1 is the first.
    pub number: u32,
    /// GPT name.
    pub label: String,
    /// GPT type when all is done.
    pub type_guid: Uuid,
    /// Offset in bytes.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// What to make on it.
    pub fs: FileSystem,
    /// Label of the file system.
    pub fs_label: Option<String>,
    /// Its contents stay: it was there before, in the same place.
    pub kept: bool,
}

/// Attribute bit (of our own pending type) of a partition that holds data to keep, so that a cut does not make us forget it.
const KEPT_BIT: u64 = 1 << 48;

impl Layout {
    /// Places a spec, or says how many MiB the disk would need to have.
    pub(crate) fn place(spec: &LayoutSpec, size: u64, sector_size: u32) -> Result<Self, u64> {
        // One MiB before, one for the meta partition, one behind for the backup table.
        let needed = 3 + spec.partitions.iter().map(|p| p.size.min_mib).sum::<u64>();
        let spare = (size / MIB).checked_sub(needed).ok_or(needed)?;
        let disk_guid = spec.disk_guid();
        let mut at = META_AT;
        let mut partitions = vec![PlacedPartition {
            number: 1,
            label: META_LABEL.to_owned(),
            type_guid: meta_type(),
            at,
            len: MIB,
            fs: FileSystem::None,
            fs_label: None,
            kept: false,
        }];
        for (p, mib) in spec.partitions.iter().zip(sizes(&spec.partitions, spare)) {
            at += partitions.last().map_or(0, |previous| previous.len);
            partitions.push(PlacedPartition {
                number: partitions.len() as u32 + 1,
                label: p.label.clone(),
                type_guid: p.type_guid,
                at,
                len: mib * MIB,
                fs: p.fs,
                fs_label: p.fs_label.clone(),
                kept: false,
            });
        }
        Ok(Self { disk_guid, sector_size, sectors: size / u64::from(sector_size), partitions, consent: None })
    }

    /// The entries while the work goes on: in place, but of a type that nothing uses.
    pub(crate) fn pending_entries(&self) -> Vec<Entry> {
        let mut entries = self.final_entries();
        for (entry, partition) in entries.iter_mut().zip(&self.partitions) {
            entry.type_guid = pending_type();
            entry.attributes = if partition.kept { KEPT_BIT } else { 0 };
        }
        entries
    }

    pub(crate) fn final_entries(&self) -> Vec<Entry> {
        let sector = u64::from(self.sector_size);
        let entry = |p: &PlacedPartition| Entry {
            number: p.number,
            type_guid: p.type_guid,
            unique_guid: partition_guid(self.disk_guid, &p.label),
            first_lba: p.at / sector,
            last_lba: (p.at + p.len) / sector - 1,
            attributes: 0,
            name: p.label.clone(),
        };
        self.partitions.iter().map(entry).collect()
    }

    /// Sectors of the entry array.
    pub(crate) fn array_sectors(&self) -> u64 {
        (gpt::ARRAY_BYTES as u64).div_ceil(u64::from(self.sector_size))
    }

    /// The primary and the backup header for an entry array.
    pub(crate) fn headers(&self, array: &[u8]) -> (Header, Header) {
        let last = self.sectors - 1;
        let primary = Header {
            my_lba: 1,
            alternate_lba: last,
            first_usable: 2 + self.array_sectors(),
            last_usable: last - self.array_sectors() - 1,
            disk_guid: self.disk_guid,
            entries_lba: 2,
            entry_count: gpt::ENTRY_COUNT,
            entry_size: gpt::ENTRY_SIZE,
            entries_crc: crc32fast::hash(array),
        };
        let backup =
            Header { my_lba: last, alternate_lba: 1, entries_lba: last - self.array_sectors(), ..primary.clone() };
        (primary, backup)
    }
}

/// The GUID of every partition that we make. No other tool gives this one, so it tells ours from those that were put beside them.
pub(crate) fn partition_guid(disk_guid: Uuid, label: &str) -> Uuid {
    Uuid::new_v5(&disk_guid, label.as_bytes())
}

/// May the partition of this entry hold data that is to be kept? Finished ones and those marked as kept; not one whose
/// file system was being made when power went.
pub(crate) fn holds_data(entry: &Entry) -> bool {
    entry.type_guid != pending_type() || entry.attributes & KEPT_BIT != 0
}

/// Sizes in MiB: the minimum, and of the rest a share by weight, up to the maximum; what somebody can't take goes to the others.
fn sizes(partitions: &[PartitionSpec], mut spare: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = partitions.iter().map(|p| p.size.min_mib).collect();
    let room =
        |index: usize, size: u64| partitions[index].size.max_mib.map_or(u64::MAX, |max| max.saturating_sub(size));
    loop {
        let open = |index: &usize| partitions[*index].size.weight > 0 && room(*index, sizes[*index]) > 0;
        let growing: Vec<usize> = (0..sizes.len()).filter(open).collect();
        let weights: u64 = growing.iter().map(|index| u64::from(partitions[*index].size.weight)).sum();
        let before = spare;
        for index in growing {
            let share = before as u128 * u128::from(partitions[index].size.weight) / u128::from(weights);
            let take = (share as u64).min(room(index, sizes[index])).min(spare);
            sizes[index] += take;
            spare -= take;
        }
        if spare == before {
            return sizes; // nobody can grow, or less than a MiB each is left
        }
    }
}
