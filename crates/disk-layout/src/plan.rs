//! The verdict: leave it, lay it out, lay it out again, or keep off.

use std::fmt;

use uuid::Uuid;

use crate::{
    DiskFacts, FileSystem, Kind, Layout, LayoutSpec, MIB, Persist, Policy, Signature, SpecId, Window,
    facts::wanted,
    gpt::{Entry, GptError},
    layout::holds_data,
    mbr::Mbr,
    ownership::{Finding, Half, Owner, Tables, meta_record, owner},
    spec::{META_LABEL, meta_type},
};

/// What to do with a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as required. The everyday case; only partitions that are made anew at every boot have steps.
    Match(Layout),
    /// The disk is provably blank.
    Create(Layout),
    /// The disk is ours but not as required, or it is somebody's and policy and consent both say that it may go.
    Recreate {
        /// What will be there.
        layout: Layout,
        /// What is not as required.
        why: Vec<Mismatch>,
    },
    /// Nothing may be written.
    Refuse(Vec<Reason>),
}

/// One-shot permission to erase somebody's disk, given for this machine by a person. It is never enough alone: the site's
/// policy must be [`Policy::Wipe`]. How it reaches the client is not this crate's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Which disk it speaks of.
    pub disk: ConsentedDisk,
}

/// What a [`Consent`] speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentedDisk {
    /// The disk with this serial number.
    Serial(String),
    /// Whatever disk the spec chooses on this machine; the caller has compared the machine's MAC address.
    ThisMachine,
}

/// Something that is not as required on a disk that may be laid out again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Power went while the disk was being laid out.
    #[error("laying the disk out was interrupted")]
    Interrupted,
    /// One of the two tables, or the first sector, is not whole.
    #[error("the {0} is missing or damaged")]
    Damaged(&'static str),
    /// The copies are whole but say different things.
    #[error("the primary and the backup partition table differ")]
    TablesDiffer,
    /// Another version of the spec.
    #[error("the disk was laid out by another spec ({found}, required {required})")]
    Spec {
        /// On the disk; `none` if there is no record.
        found: String,
        /// In the initrd.
        required: SpecId,
    },
    /// Not there by type and label.
    #[error("partition `{0}` is missing, or there is more than one of it")]
    Missing(String),
    /// There, but not within its bounds or not aligned.
    #[error("partition `{label}` has {found} bytes at byte {at}; required are {required}, at a multiple of 1 MiB")]
    Place {
        /// Which.
        label: String,
        /// Offset.
        at: u64,
        /// Length.
        found: u64,
        /// What the spec says.
        required: String,
    },
    /// Not in the spec.
    #[error("partition `{0}` is not in the spec")]
    Extra(String),
    /// The wrong thing, or nothing, is on it.
    #[error("partition `{label}` holds {found}; required is {required}")]
    FileSystem {
        /// Which.
        label: String,
        /// What is there.
        found: String,
        /// What the spec says.
        required: String,
    },
    /// Somebody's data goes, because policy and consent say so.
    #[error("erased with consent: {0}")]
    Consented(Box<Reason>),
}

/// Why nothing may be written. Each message says what was found and what a person can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A range could not be read. Not read is not blank.
    #[error("{len} bytes at byte {at} could not be read, so the disk may hold anything; check the disk and its cable")]
    Unread {
        /// Offset.
        at: u64,
        /// Length.
        len: u64,
    },
    /// Write-protected.
    #[error("the disk is write-protected; remove the protection or choose another disk in the layout spec")]
    ReadOnly,
    /// GPT of other sector sizes is not defined for us.
    #[error("the disk has sectors of {0} bytes; 512 and 4096 are supported")]
    SectorSize(u32),
    /// Does not fit.
    #[error("the disk has {size_mib} MiB and the layout needs {needed_mib}; use a larger disk or a smaller layout")]
    TooSmall {
        /// The disk.
        size_mib: u64,
        /// The spec.
        needed_mib: u64,
    },
    /// The site said so.
    #[error("policy is refuse-only: {0}")]
    Policy(String),
    /// Somebody's partition table.
    #[error("the disk has an MBR partition table that is not ours")]
    Mbr,
    /// Boot code without a table, an encrypted volume, anything.
    #[error("the disk's first sector holds unknown data")]
    FirstSector,
    /// Somebody's GPT.
    #[error("the disk has a GPT partition table that is not ours (disk {disk_guid}, partitions: {partitions})")]
    Gpt {
        /// Its identity.
        disk_guid: Uuid,
        /// Names, for a person to recognise it.
        partitions: String,
    },
    /// Somebody's, damaged: there may be data to rescue.
    #[error("the disk has a damaged partition table of unknown origin ({0})")]
    DamagedGpt(GptError),
    /// Ours, of another role.
    #[error(
        "the disk belongs to role `{role}` of site `{site}`; boot that role, or erase the disk to give it to another"
    )]
    OtherRole {
        /// As recorded.
        site: String,
        /// As recorded.
        role: String,
    },
    /// Somebody's file system or volume.
    #[error("the disk holds {0}")]
    Signature(Signature),
    /// Nothing known, yet not empty.
    #[error("the disk is not blank: data at byte {0}")]
    Data(u64),
    /// A partition that must survive does not fit the new layout.
    #[error(
        "partition `{0}` is to be kept but the new layout would move or remake it; save its data and erase the disk, or change the spec"
    )]
    WouldLose(String),
    /// Policy says wipe, no person said yes.
    #[error(
        "policy is wipe, but nobody consented to erase this machine; give a one-shot consent on the server and boot again"
    )]
    NoConsent,
    /// A person said yes to another disk.
    #[error("the consent names disk serial {consented}, this disk is {}; give a consent for this one", .found.as_deref().unwrap_or("without a serial number"))]
    OtherDisk {
        /// In the consent.
        consented: String,
        /// Of this disk.
        found: Option<String>,
    },
    /// No disk, or several: see [`crate::choose()`].
    #[error("{0}")]
    Choice(String),
}

/// Judges one disk. `facts` must hold everything that [`wanted`] asks for; what is missing leads to a refusal.
#[must_use]
pub fn plan(spec: &LayoutSpec, facts: &DiskFacts, consent: Option<&Consent>) -> Verdict {
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
    let why = match &owner {
        Owner::Ours => mismatches(spec, facts, &tables),
        Owner::Blank | Owner::Somebody(_) => Vec::new(),
    };
    match owner {
        Owner::Ours if why.is_empty() => Verdict::Match(as_found(layout, facts, &tables)),
        Owner::Ours if spec.policy == Policy::RefuseOnly => {
            Verdict::Refuse(why.iter().map(|mismatch| Reason::Policy(mismatch.to_string())).collect())
        }
        Owner::Ours => match keep(spec, facts, &tables, &mut layout) {
            Ok(()) => Verdict::Recreate { layout, why },
            Err(label) => Verdict::Refuse(vec![Reason::WouldLose(label)]),
        },
        Owner::Blank if spec.policy == Policy::RefuseOnly => {
            Verdict::Refuse(vec![Reason::Policy("the disk is blank".to_owned())])
        }
        Owner::Blank => Verdict::Create(layout),
        Owner::Somebody(findings) => somebody(spec, facts, consent, layout, findings),
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
    consent: Option<&Consent>,
    layout: Layout,
    findings: Vec<Finding>,
) -> Verdict {
    let mut reasons: Vec<Reason> = findings.into_iter().map(Reason::from).collect();
    if spec.policy != Policy::Wipe {
        return Verdict::Refuse(reasons);
    }
    let missing = match consent.map(|consent| &consent.disk) {
        None => Some(Reason::NoConsent),
        Some(ConsentedDisk::Serial(serial)) if facts.serial.as_ref() != Some(serial) => {
            Some(Reason::OtherDisk { consented: serial.clone(), found: facts.serial.clone() })
        }
        Some(_) => None,
    };
    if let Some(missing) = missing {
        reasons.push(missing);
        return Verdict::Refuse(reasons);
    }
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
    let (at, len) = extent(entry, facts)?;
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
        let Some(index) = entries.iter().position(|entry| same(&entry)) else { continue };
        if let Some((at, len)) = extent(&entries[index], facts) {
            (partition.at, partition.len, partition.number) = (at, len, index as u32 + 1);
        }
    }
    layout
}

/// Marks the partitions whose contents stay, or names one that would be lost.
fn keep(spec: &LayoutSpec, facts: &DiskFacts, tables: &Tables, layout: &mut Layout) -> Result<(), String> {
    // While a claim holds, one of the copies may still be somebody else's.
    let entries = tables.entries_of(layout.disk_guid).unwrap_or_default();
    let keepers = spec.partitions.iter().filter(|p| p.persist == Persist::Keep);
    for p in keepers {
        let Some(entry) = entries.iter().find(|entry| entry.name == p.label && holds_data(entry)) else { continue };
        let Some((at, len)) = extent(entry, facts) else { continue };
        let found = Window::new(&facts.contents, at, len).head();
        if found.is_empty() {
            continue;
        }
        let place = layout.partitions.iter_mut().find(|placed| placed.label == p.label);
        match place {
            Some(placed) if (placed.at, placed.len) == (at, len) && holds(p.fs, None, &found) => placed.kept = true,
            _ => return Err(p.label.clone()),
        }
    }
    Ok(())
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

impl From<Finding> for Reason {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Mbr => Self::Mbr,
            Finding::UnknownFirstSector => Self::FirstSector,
            Finding::Gpt { disk_guid, partitions } => Self::Gpt { disk_guid, partitions: partitions.join(", ") },
            Finding::DamagedGpt(error) => Self::DamagedGpt(error),
            Finding::OtherRole { site, role } => Self::OtherRole { site, role },
            Finding::Signature(signature) => Self::Signature(signature),
            Finding::Data(at) => Self::Data(at),
        }
    }
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
