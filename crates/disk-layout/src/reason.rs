//! What is said of a disk that is not as required, and of one that may not be written.

use boot_model::Nonce;
use uuid::Uuid;

use crate::{Signature, SpecId, gpt::GptError, ownership::Finding};

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
    /// Nothing is wrong with it.
    #[error("a person consented to its being erased")]
    Reinstall,
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
    /// Somebody's partition beside ours.
    #[error(
        "partition {number} ({label:?}, {mib} MiB) is on a disk of ours, but was not made by rookery; save its data and delete it, or consent to the erasing of the whole disk under the policy `wipe`"
    )]
    NotOurPartition {
        /// As the kernel numbers it.
        number: u32,
        /// GPT name.
        label: String,
        /// Size in MiB, rounded up.
        mib: u64,
    },
    /// Ours by its GUID, and somebody's partition may be there.
    #[error(
        "the disk was one of ours, but no copy of its partition table can be read any more, so it may hold anything; save what is on it and erase it"
    )]
    UnreadableEntries,
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
        "partition `{0}` is to be kept, but to get the layout that is required it would be moved or made anew; save its data and erase the disk, or give it back its place, size, file system and `fs-label` in the layout spec, or another `persist` if its data may go (under another `label` it would be another partition)"
    )]
    WouldLose(String),
    /// What looks like a partition to be kept under a new name.
    #[error(
        "partition `{found}` may hold data to be kept: the layout spec has no such `label` any more, but `{required}`, which is to be kept, is new, and a partition can't be renamed; name it `{found}` again, or, if its data may go, give `{required}` another `persist` until the disks are laid out"
    )]
    Renamed {
        /// On the disk, and not in the spec.
        found: String,
        /// In the spec, and not on the disk.
        required: String,
    },
    /// Policy says wipe, no person said yes.
    #[error(
        "policy is wipe, but nobody consented to erase this disk; on the server `rookery boot-once <host> reinstall --disk-serial <serial>`, and boot again"
    )]
    NoConsent,
    /// A person said yes, the site did not.
    #[error(
        "a person consented to erase this disk, but the layout spec's policy is not `wipe`; set it, or take the disk out"
    )]
    NotWipe,
    /// A menu of yesterday, or a report that never reached the server.
    #[error("the consent {0} was honoured on this disk before, and none is honoured twice; give a new one")]
    Spent(Nonce),
    /// What can't be recorded must not be done.
    #[error("the disk has no room to record another consent; zero its second MiB in a rescue system")]
    ManySpent,
    /// A person said yes to another disk.
    #[error("the consent names disk serial {consented}, this disk is {}; give a consent for this one", .found.as_deref().unwrap_or("without a serial number"))]
    OtherDisk {
        /// In the consent.
        consented: String,
        /// Of this disk.
        found: Option<String>,
    },
    /// See [`crate::choose()`].
    #[error("this machine has no disk that the kernel sees")]
    NoDisk,
    /// There are disks.
    #[error("none of this machine's disks is suitable; connect one that is, or change `disk` in the layout spec")]
    NoneSuitable,
    /// Which of them is the installation?
    #[error("several disks carry our layout ({0}); remove all but one, or name one by serial in the layout spec")]
    SeveralOurs(String),
    /// Size must not decide where a person wrote a rule.
    #[error("a rule of the layout spec fits several disks ({0}); make it narrower")]
    SeveralFit(String),
}

impl From<Finding> for Reason {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Mbr => Self::Mbr,
            Finding::UnknownFirstSector => Self::FirstSector,
            Finding::Gpt { disk_guid, partitions } => Self::Gpt { disk_guid, partitions: names(&partitions) },
            Finding::Partition { number, label, mib } => Self::NotOurPartition { number, label, mib },
            Finding::UnreadableEntries => Self::UnreadableEntries,
            Finding::DamagedGpt(error) => Self::DamagedGpt(error),
            Finding::OtherRole { site, role } => Self::OtherRole { site, role },
            Finding::Signature(signature) => Self::Signature(signature),
            Finding::Data(at) => Self::Data(at),
        }
    }
}

/// Anybody may have written them, and they are shown on a terminal.
fn names(partitions: &[String]) -> String {
    partitions.iter().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
}
