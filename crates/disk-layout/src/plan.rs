//! The verdict: leave it, lay it out, lay it out again, or keep off.

use std::fmt;

use boot_model::EraseConsent;

use crate::{
    DiskFacts, FileSystem, Kind, Layout, LayoutSpec, MIB, Mismatch, Persist, Policy, Reason, Signature, Window,
    consent::{claimed, objection},
    facts::wanted,
    gpt::Entry,
    layout::holds_data,
    mbr::Mbr,
    ownership::{Finding, Half, Owner, Tables, meta_record, owner},
    probe::PARTITION_HEAD,
    spec::{META_LABEL, meta_type},
};

/// What to do with a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as required. The everyday case; only partitions that are made anew at every boot have steps.
    Match(Layout),
    /// The disk is provably blank.
    Create(Layout),
    /// The disk is ours but not as required, or a person consented: to a disk of ours being laid out anew, or, where policy says so
    /// too, to somebody's being erased.
    Recreate {
        /// What will be there.
        layout: Layout,
        /// What is not as required.
        why: Vec<Mismatch>,
    },
    /// Nothing may be written.
    Refuse(Vec<Reason>),
}

/// Judges one disk. `facts` must hold everything that [`wanted`] asks for; what is missing leads to a refusal. A consent must be one
/// for this machine's card; whether it is for this disk, and counts, is judged here.
#[must_use]
pub fn plan(spec: &LayoutSpec, facts: &DiskFacts, consent: Option<&EraseConsent>) -> Verdict {
    let reasons = unusable(facts);
    if !reasons.is_empty() {
        return Verdict::Refuse(reasons);
    }
    let mut layout = match Layout::place(spec, facts.size, facts.sector_size) {
        Ok(layout) => layout,
        Err(needed_mib) => return Verdict::Refuse(vec![Reason::TooSmall { size_mib: facts.size / MIB, needed_mib }]),
    };
    let tables = Tables::read(facts);
    let owner = owner(spec, facts, &tables);
    if let Owner::Somebody(findings) | Owner::Shared(findings) = owner {
        return somebody(spec, facts, consent, layout, findings);
    }
    layout.consent = consent.filter(|consent| objection(spec, facts, consent).is_none()).map(|consent| consent.nonce);
    if matches!(owner, Owner::Blank) {
        return match spec.policy {
            Policy::RefuseOnly => Verdict::Refuse(vec![Reason::Policy("the disk is blank".to_owned())]),
            // Its consent is spent, too: the next boot with the same one must not erase what is installed now.
            Policy::CreateIfBlankOrOurs | Policy::Wipe => Verdict::Create(layout),
        };
    }
    ours(spec, facts, &tables, layout)
}

fn ours(spec: &LayoutSpec, facts: &DiskFacts, tables: &Tables, mut layout: Layout) -> Verdict {
    let mut why = mismatches(spec, facts, tables);
    why.extend(layout.consent.map(|_| Mismatch::Reinstall));
    if why.is_empty() {
        return Verdict::Match(as_found(layout, facts, tables));
    }
    if spec.policy == Policy::RefuseOnly {
        return Verdict::Refuse(why.iter().map(|mismatch| Reason::Policy(mismatch.to_string())).collect());
    }
    // An erasing that power interrupted goes on as it began.
    let erases = spec.policy == Policy::Wipe && layout.consent.or(claimed(facts)).is_some();
    let kept = if erases { Ok(()) } else { keep(spec, facts, tables, &mut layout) };
    match kept {
        Ok(()) => Verdict::Recreate { layout, why },
        Err(reason) => Verdict::Refuse(vec![reason]),
    }
}

fn unusable(facts: &DiskFacts) -> Vec<Reason> {
    if ![512, 4096].contains(&facts.sector_size) {
        return vec![Reason::SectorSize(facts.sector_size)];
    }
    if facts.read_only {
        return vec![Reason::ReadOnly];
    }
    wanted(facts).iter().map(|range| Reason::Unread { at: range.start, len: range.end - range.start }).collect()
}

fn somebody(
    spec: &LayoutSpec,
    facts: &DiskFacts,
    consent: Option<&EraseConsent>,
    mut layout: Layout,
    findings: Vec<Finding>,
) -> Verdict {
    let mut reasons: Vec<Reason> = findings.into_iter().map(Reason::from).collect();
    let missing = match (spec.policy, consent) {
        (Policy::Wipe, Some(consent)) => objection(spec, facts, consent),
        (Policy::Wipe, None) => Some(Reason::NoConsent),
        (_, Some(_)) => Some(Reason::NotWipe),
        (_, None) => return Verdict::Refuse(reasons),
    };
    if let Some(missing) = missing {
        reasons.push(missing);
        return Verdict::Refuse(reasons);
    }
    layout.consent = consent.map(|consent| consent.nonce);
    let why = reasons.into_iter().map(|reason| Mismatch::Consented(Box::new(reason))).collect();
    Verdict::Recreate { layout, why }
}

/// Everything that is not as required on a disk of ours.
fn mismatches(spec: &LayoutSpec, facts: &DiskFacts, tables: &Tables) -> Vec<Mismatch> {
    match tables.mbr {
        Some(Mbr::Protective) => {}
        Some(Mbr::Claim(_)) => return vec![Mismatch::Interrupted],
        _ => return vec![Mismatch::Damaged("protective MBR")],
    }
    let entries = match (&tables.primary, &tables.backup) {
        (Half::Good { entries: Some(one), .. }, Half::Good { entries: Some(other), .. }) if one == other => one,
        (Half::Good { entries: Some(_), .. }, Half::Good { entries: Some(_), .. }) => {
            return vec![Mismatch::TablesDiffer];
        }
        (Half::Good { entries: Some(_), .. }, _) => return vec![Mismatch::Damaged("backup partition table")],
        _ => return vec![Mismatch::Damaged("primary partition table")],
    };
    let mut why = Vec::new();
    let record = meta_record(facts, entries);
    if record.as_ref().map(|record| record.spec_id) != Some(spec.id()) {
        let found = record.map_or_else(|| "none".to_owned(), |record| record.spec_id.to_string());
        why.push(Mismatch::Spec { found, required: spec.id() });
    }
    why.extend(spec.partitions.iter().filter_map(|wanted| partition_mismatch(wanted, facts, entries)));
    let known = |entry: &Entry| {
        entry.type_guid == meta_type() && entry.name == META_LABEL
            || spec.partitions.iter().any(|p| is_entry_of(p, entry))
    };
    why.extend(entries.iter().filter(|entry| !known(entry)).map(|entry| Mismatch::Extra(entry.name.clone())));
    why
}

fn partition_mismatch(p: &crate::PartitionSpec, facts: &DiskFacts, entries: &[Entry]) -> Option<Mismatch> {
    let mut same = entries.iter().filter(|entry| is_entry_of(p, entry));
    let (Some(entry), None) = (same.next(), same.next()) else { return Some(Mismatch::Missing(p.label.clone())) };
    // One that reaches past the disk's end is none.
    let Some((at, len)) = extent(entry, facts) else { return Some(Mismatch::Missing(p.label.clone())) };
    let max = p.size.max_mib.unwrap_or(u64::MAX / MIB) * MIB;
    if at % MIB != 0 || !(p.size.min_mib * MIB..=max).contains(&len) {
        let max = p.size.max_mib.map_or_else(String::new, |max| format!(" to {max}"));
        let required = format!("{}{max} MiB", p.size.min_mib);
        return Some(Mismatch::Place { label: p.label.clone(), at, found: len, required });
    }
    // What is made anew at every boot need not be right before.
    if p.persist == Persist::FormatEveryBoot {
        return None;
    }
    let found = Window::new(&facts.contents, at, len).head();
    (!holds(p.fs, p.fs_label.as_deref(), &found)).then(|| Mismatch::FileSystem {
        label: p.label.clone(),
        found: describe(&found),
        required: p.fs_label.as_ref().map_or_else(|| p.fs.to_string(), |label| format!("{} labelled {label:?}", p.fs)),
    })
}

/// The layout of a matching disk: where its partitions really are, which need not be where they would be placed today.
fn as_found(mut layout: Layout, facts: &DiskFacts, tables: &Tables) -> Layout {
    let entries = tables.best_entries().unwrap_or_default();
    for partition in &mut layout.partitions {
        let same = |entry: &&Entry| entry.type_guid == partition.type_guid && entry.name == partition.label;
        let Some(entry) = entries.iter().find(same) else { continue };
        if let Some((at, len)) = extent(entry, facts) {
            (partition.at, partition.len, partition.number) = (at, len, entry.number);
        }
    }
    layout
}

/// Marks the partitions whose contents stay, or says of one that it would be lost.
fn keep(spec: &LayoutSpec, facts: &DiskFacts, tables: &Tables, layout: &mut Layout) -> Result<(), Reason> {
    // While a claim holds, one of the copies may still be somebody else's.
    let entries = tables.entries_of(layout.disk_guid).unwrap_or_default();
    let keepers = spec.partitions.iter().filter(|p| p.persist == Persist::Keep);
    for p in keepers {
        let Some(entry) = entries.iter().find(|entry| entry.name == p.label && holds_data(entry)) else { continue };
        let lost = || Reason::WouldLose(p.label.clone());
        let (at, len) = extent(entry, facts).ok_or_else(lost)?;
        let found = Window::new(&facts.contents, at, len).head();
        if is_empty(facts, at, len, &found) {
            continue;
        }
        let place = layout.partitions.iter_mut().find(|placed| placed.label == p.label);
        match place {
            Some(placed) if (placed.at, placed.len) == (at, len) && holds(p.fs, p.fs_label.as_deref(), &found) => {
                placed.kept = true;
            }
            _ => return Err(lost()),
        }
    }
    renamed(spec, facts, entries).map_or(Ok(()), Err)
}

/// The disk does not say what an older layout meant to keep. One that drops a label and has a new one to be kept may have renamed it,
/// and may have moved it and changed its type as well; nobody keeps swap.
fn renamed(spec: &LayoutSpec, facts: &DiskFacts, entries: &[Entry]) -> Option<Reason> {
    let is_new = |p: &&crate::PartitionSpec| entries.iter().all(|entry| entry.name != p.label);
    let required = spec.partitions.iter().filter(|p| p.persist == Persist::Keep).find(is_new)?;
    let is_dropped = |entry: &&Entry| entry.name != META_LABEL && spec.partitions.iter().all(|p| p.label != entry.name);
    let may_matter = |entry: &&Entry| {
        let Some((at, len)) = extent(entry, facts) else { return true };
        let found = Window::new(&facts.contents, at, len).head();
        !is_empty(facts, at, len, &found) && !holds(FileSystem::Swap, None, &found)
    };
    let found = entries.iter().filter(is_dropped).filter(|entry| holds_data(entry)).find(may_matter)?;
    Some(Reason::Renamed { found: found.name.clone(), required: required.label.clone() })
}

fn is_entry_of(p: &crate::PartitionSpec, entry: &Entry) -> bool {
    entry.type_guid == p.type_guid && entry.name == p.label
}

/// Offset and length in bytes of an entry that lies on the disk.
fn extent(entry: &Entry, facts: &DiskFacts) -> Option<(u64, u64)> {
    let sector = u64::from(facts.sector_size);
    let at = entry.first_lba.checked_mul(sector)?;
    let end = entry.last_lba.checked_add(1)?.checked_mul(sector)?;
    (at < end && end <= facts.size).then(|| (at, end - at))
}

/// Nothing known, as a file system without its superblock is, is not nothing.
fn is_empty(facts: &DiskFacts, at: u64, len: u64, found: &[Signature]) -> bool {
    let head = facts.contents.slice(at, len.min(PARTITION_HEAD) as usize);
    found.is_empty() && head.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

fn holds(fs: FileSystem, label: Option<&str>, found: &[Signature]) -> bool {
    let kind = match fs {
        FileSystem::None => return true,
        FileSystem::Ext4 => Kind::Ext4,
        FileSystem::Xfs => Kind::Xfs,
        FileSystem::Btrfs => Kind::Btrfs,
        FileSystem::Vfat => Kind::Vfat,
        FileSystem::Swap => Kind::Swap,
    };
    let [only] = found else { return false };
    only.kind == kind && label.is_none_or(|label| only.label.as_deref() == Some(label))
}

fn describe(found: &[Signature]) -> String {
    if found.is_empty() {
        return "nothing known".to_owned();
    }
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(_) => f.write_str("match"),
            Self::Create(_) => f.write_str("create"),
            Self::Recreate { .. } => f.write_str("recreate"),
            Self::Refuse(_) => f.write_str("refuse"),
        }
    }
}
