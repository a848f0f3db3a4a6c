//! The way from a verdict to a disk that matches, safe against a cut at any write.
//!
//! 1. Claim the disk: one sector, so it is ours before anything else changes.
//! 2. Backup table, then primary table, all partitions pending.
//! 3. Remove old signatures, make the file systems, write both copies of the meta record.
//! 4. Backup table, then primary table, with the final types; then remove the claim.
//!
//! Between two flushes writes may reach the medium in any order or not at all; [`crate::plan()`] recognises each of these states. What
//! is relied on: a single logical sector is written as a whole or not at all.
//!
//! A consent to erase is spent by the claim itself. Before the claim goes, the meta record has it, with all that were spent before.

use crate::{
    DiskFacts, FileSystem, Layout, LayoutSpec, MIB, MetaRecord, Persist, PlacedPartition, Verdict,
    consent::{claimed, spent},
    gpt,
    mbr::{Claim, Mbr},
    meta::{META_BYTES, META_COPIES},
    ownership::header_checksums,
    probe::PARTITION_HEAD,
};

/// One thing to do. Steps are done in order; stop at the first that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write bytes at a byte offset of the disk.
    Write {
        /// Offset.
        at: u64,
        /// What.
        bytes: Vec<u8>,
        /// For people.
        what: &'static str,
    },
    /// Overwrite with zeros.
    Zero {
        /// Offset.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Everything so far must be on the medium before going on.
    Flush,
    /// The kernel must know these partitions and no others.
    Announce(Vec<PlacedPartition>),
    /// Make a file system on a partition, and have it on the medium before going on.
    Format(PlacedPartition),
}

/// The steps that a verdict calls for; none for a refusal. `facts` must be the ones that the verdict was made from.
#[must_use]
pub fn steps(spec: &LayoutSpec, facts: &DiskFacts, verdict: &Verdict) -> Vec<Step> {
    match verdict {
        Verdict::Refuse(_) => Vec::new(),
        Verdict::Match(layout) => every_boot(spec, layout),
        Verdict::Create(layout) | Verdict::Recreate { layout, .. } => lay_out(spec, facts, layout),
    }
}

fn every_boot(spec: &LayoutSpec, layout: &Layout) -> Vec<Step> {
    let anew = |p: &&PlacedPartition| {
        spec.partitions.iter().any(|s| s.label == p.label && s.persist == Persist::FormatEveryBoot)
            && p.fs != FileSystem::None
    };
    layout.partitions.iter().filter(anew).cloned().map(Step::Format).collect()
}

fn lay_out(spec: &LayoutSpec, facts: &DiskFacts, layout: &Layout) -> Vec<Step> {
    let (Some(before_primary), Some(before_backup)) = header_checksums(facts) else { return Vec::new() };
    // That of an unfinished laying out stays in its place: it stands nowhere else yet.
    let consent = claimed(facts).or(layout.consent);
    let claim = Claim { disk_guid: layout.disk_guid, spec_id: spec.id(), before_primary, before_backup, consent };
    let first_sector = |bytes, what| Step::Write { at: 0, bytes, what };

    let mut steps = vec![first_sector(claim.encode(layout.sectors, layout.sector_size), "claim"), Step::Flush];
    steps.extend(table(layout, &gpt::encode_entries(&layout.pending_entries()), PENDING));
    steps.push(Step::Announce(layout.partitions.clone()));
    steps.extend(erase_signatures(layout));
    steps.push(Step::Flush);
    let made = layout.partitions.iter().filter(|p| !p.kept && p.fs != FileSystem::None);
    steps.extend(made.cloned().map(Step::Format));
    let spent = spent(facts).into_iter().chain(layout.consent).collect();
    steps.extend(record(layout, &MetaRecord::of(spec, spent)));
    steps.extend(table(layout, &gpt::encode_entries(&layout.final_entries()), FINAL));
    steps.push(first_sector(Mbr::protective(layout.sectors, layout.sector_size), "protective MBR"));
    steps.push(Step::Flush);
    steps.push(Step::Announce(layout.partitions.clone()));
    steps
}

/// Names of the four writes of a table: backup entries, backup header, primary entries, primary header.
type TableNames = [&'static str; 4];
const PENDING: TableNames =
    ["pending backup entries", "pending backup header", "pending primary entries", "pending primary header"];
const FINAL: TableNames = ["backup entries", "backup header", "primary entries", "primary header"];

/// The second copy first: the list of what was spent is whole in one of them at any time.
fn record(layout: &Layout, record: &MetaRecord) -> Vec<Step> {
    let Some(meta) = layout.partitions.first() else { return vec![Step::Flush] };
    let copy = |at, what| [Step::Write { at, bytes: record.encode(), what }, Step::Flush];
    [copy(meta.at + META_BYTES as u64, "second meta record"), copy(meta.at, "meta record")].concat()
}

/// Backup first: whenever one copy is being written, the other one is whole.
fn table(layout: &Layout, array: &[u8], names: TableNames) -> Vec<Step> {
    let sector = u64::from(layout.sector_size);
    let (primary, backup) = layout.headers(array);
    let mut steps = Vec::new();
    for (header, names) in [(backup, &names[..2]), (primary, &names[2..])] {
        steps.push(Step::Write { at: header.entries_lba * sector, bytes: array.to_vec(), what: names[0] });
        steps.push(Step::Flush);
        steps.push(Step::Write {
            at: header.my_lba * sector,
            bytes: header.encode(layout.sector_size),
            what: names[1],
        });
        steps.push(Step::Flush);
    }
    steps
}

/// Old superblocks would make `blkid` see two things at once, and the next plan somebody else's data. The place of the meta records
/// is left out: what was spent may stand there, and both copies are written in any case.
fn erase_signatures(layout: &Layout) -> Vec<Step> {
    let sector = u64::from(layout.sector_size);
    let size = layout.sectors * sector;
    let behind_table = (2 + layout.array_sectors()) * sector;
    let before_backup = size - (1 + layout.array_sectors()) * sector;
    let mut zeros = vec![(behind_table, MIB - behind_table)];
    let end = layout.partitions.last().map_or(MIB, |last| last.at + last.len);
    let tail = end.max(size.saturating_sub(MIB));
    zeros.push((tail, before_backup.saturating_sub(tail)));
    for p in layout.partitions.iter().filter(|p| !p.kept) {
        let records = if p.number == 1 { META_COPIES as u64 } else { 0 };
        zeros.push((p.at + records, p.len.min(2 * PARTITION_HEAD) - records));
        zeros.push((p.at + p.len - p.len.min(PARTITION_HEAD), p.len.min(PARTITION_HEAD)));
    }
    zeros.into_iter().filter(|(_, len)| *len > 0).map(|(at, len)| Step::Zero { at, len }).collect()
}
