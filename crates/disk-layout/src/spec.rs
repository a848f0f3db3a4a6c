//! The layout that a role's clients must have, as it stands in the initrd (JSON).

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::document::Document;

/// A validated layout specification. Parse it with serde; an invalid one does not deserialize.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Document")]
pub struct LayoutSpec {
    /// Counts up when the site changes the layout; shown to people, the [`SpecId`] is what decides.
    pub version: u32,
    /// The site's name. With `role` it makes the disk GUID by which a disk is ours.
    pub site: String,
    /// The role whose clients are laid out like this.
    pub role: String,
    /// In the order in which they lie on the disk. Our own meta partition comes before them and is not listed.
    pub partitions: Vec<PartitionSpec>,
    /// Which disk of the machine is meant.
    pub disk: DiskSelector,
    /// What may be done to a disk that is not as required.
    pub policy: Policy,
    /// What the client does when its disk may not be touched.
    pub on_refuse: OnRefuse,
}

/// One partition of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    /// GPT partition name, unique in the layout; `/dev/disk/by-partlabel/` shows it.
    pub label: String,
    /// GPT type GUID (Discoverable Partitions Specification).
    pub type_guid: Uuid,
    /// Size in MiB.
    pub size: SizeRange,
    /// What is made on it.
    pub fs: FileSystem,
    /// Label of the file system; without one none is set and none is required.
    pub fs_label: Option<String>,
    /// Where stage 1 mounts it; NixOS generates its file systems from the same document. Here it tells the store from everything else.
    pub mount: Option<String>,
    /// What happens to its contents.
    pub persist: Persist,
}

/// How large a partition may be, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SizeRange {
    /// A smaller disk is refused.
    pub min_mib: u64,
    /// Without it the partition may take all that is left.
    #[serde(default)]
    pub max_mib: Option<u64>,
    /// Share of what is left when everybody has the minimum. 0: stay at the minimum.
    #[serde(default = "one")]
    pub weight: u32,
}

/// What is made on a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// Nothing, and nothing is checked.
    None,
    /// The default choice.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs, without subvolumes.
    Btrfs,
    /// FAT, for an EFI system partition.
    Vfat,
    /// Swap space.
    Swap,
}

/// What happens to a partition's contents. Where the document says nothing, swap and the store (mounted at or below `/nix`), which can be
/// had again, are [`Persist::WipeOnRecreate`], and everything else is [`Persist::Keep`]: what may go is for a person to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Persist {
    /// Survives even a change of the layout, as long as it stays where it is; where it can't, the layout is refused.
    Keep,
    /// Survives until the layout changes. Right for a store, which is a cache.
    WipeOnRecreate,
    /// Made anew at every boot.
    FormatEveryBoot,
}

/// Which disk is meant: ordered rules, the first one that any disk satisfies decides. Without rules the largest fixed disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskSelector {
    /// Tried in order.
    #[serde(default)]
    pub rules: Vec<DiskRule>,
    /// Disks below this size (MiB) are never considered.
    #[serde(default)]
    pub min_size_mib: u64,
}

/// All fields given must hold. Names like `/dev/sda` are not among them: they change between boots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskRule {
    /// Serial number, exactly.
    #[serde(default)]
    pub serial: Option<String>,
    /// World wide name, exactly.
    #[serde(default)]
    pub wwn: Option<String>,
    /// Model, exactly.
    #[serde(default)]
    pub model: Option<String>,
    /// Bus path as sysfs shows it (the device directory below `/sys/devices`), `*` stands for anything.
    #[serde(default)]
    pub path: Option<String>,
    /// Transport, exactly.
    #[serde(default)]
    pub transport: Option<crate::Transport>,
}

/// What may be done to a disk that is not as required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Blank disks are laid out, our own are laid out again, all others are refused.
    #[default]
    CreateIfBlankOrOurs,
    /// Nothing is written; the server hears of it.
    RefuseOnly,
    /// Also somebody else's disk, but only together with a one-shot consent for this machine.
    Wipe,
}

/// What the client does after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefuse {
    /// Stay at the message.
    #[default]
    Halt,
    /// Try again from the firmware on.
    Reboot,
}

/// Identity of everything in a spec that decides what is on the disk: SHA-256 of its canonical form. Policy, selector,
/// mount points and persistence are not part of it: changing them must not erase anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpecId(pub [u8; 32]);

/// Our corner of UUID space; everything derived starts here.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f0d_9c1e_5b7a_5c3e_9a55_2a6f_42d1_7c10);

impl LayoutSpec {
    /// The GUID that a disk of this site and role carries.
    #[must_use]
    pub fn disk_guid(&self) -> Uuid {
        disk_guid(&self.site, &self.role)
    }

    /// See [`SpecId`].
    #[must_use]
    pub fn id(&self) -> SpecId {
        SpecId(Sha256::digest(self.canonical().as_bytes()).into())
    }

    /// One line per fact. Names hold no spaces or line breaks, so different specs have different texts.
    fn canonical(&self) -> String {
        let mut text = format!("rookery layout 1\nsite {}\nrole {}\nversion {}\n", self.site, self.role, self.version);
        for p in &self.partitions {
            let max = p.size.max_mib.map_or_else(|| "-".to_owned(), |max| max.to_string());
            let label = p.fs_label.as_deref().unwrap_or("");
            text.push_str(&format!(
                "partition {} {} {} {max} {} {:?} {label}\n",
                p.label, p.type_guid, p.size.min_mib, p.size.weight, p.fs
            ));
        }
        text
    }
}

/// The disk GUID of a role's clients at a site.
pub(crate) fn disk_guid(site: &str, role: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("disk {site} {role}").as_bytes())
}

/// Type of a partition whose file system is not finished. No other tool knows it, so nothing mounts it by type.
pub(crate) fn pending_type() -> Uuid {
    Uuid::new_v5(&NAMESPACE, b"type pending")
}

/// Type of the meta partition.
pub(crate) fn meta_type() -> Uuid {
    Uuid::new_v5(&NAMESPACE, b"type meta")
}

/// Name of the meta partition.
pub(crate) const META_LABEL: &str = "rookery-meta";

impl fmt::Display for SpecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpecId({self})")
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
        })
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PART: &str =
        r#"{"label":"nb-nix","type":"0fc63daf-8483-4772-8e79-3d69d8477de4","size":{"min-mib":64},"fs":"ext4"}"#;

    pub(crate) fn parse(partitions: &str, rest: &str) -> Result<LayoutSpec, String> {
        let json = format!(r#"{{"version":1,"site":"s","role":"lab","partitions":[{partitions}]{rest}}}"#);
        serde_json::from_str(&json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_change_the_disk_does_not_change_the_id() {
        let id = parse(PART, "").unwrap().id();
        assert_eq!(parse(PART, r#","policy":"wipe","on-refuse":"reboot""#).unwrap().id(), id);
        assert_eq!(parse(&PART.replace(r#""fs""#, r#""mount":"/nix","fs""#), "").unwrap().id(), id);
        assert_ne!(parse(&PART.replace("64}", "65}"), "").unwrap().id(), id);
        assert_ne!(parse(&PART.replace(r#""fs""#, r#""fs-label":"x","fs""#), "").unwrap().id(), id);
    }
}
