//! The layout spec as it is written, and what may not be written.

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    DiskSelector, FileSystem, LayoutSpec, OnRefuse, PartitionSpec, Persist, Policy, SizeRange, gpt,
    spec::{META_LABEL, meta_type, pending_type},
};

/// The document as written; [`LayoutSpec`] is what survives validation.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Document {
    version: u32,
    site: String,
    role: String,
    partitions: Vec<PartitionDocument>,
    #[serde(default)]
    disk: DiskSelector,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    on_refuse: OnRefuse,
}

/// One partition as written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PartitionDocument {
    label: String,
    #[serde(rename = "type")]
    type_guid: Uuid,
    size: SizeRange,
    fs: FileSystem,
    #[serde(default)]
    fs_label: Option<String>,
    #[serde(default)]
    mount: Option<String>,
    #[serde(default)]
    persist: Option<Persist>,
}

/// Why a spec is not usable. The message names the place and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Names end up in a hash, in GPT and on command lines of mkfs.
    #[error("{field}: `{value}` must be 1 to {max} letters, digits, `.`, `_` or `-`, and must not begin with `-`")]
    Name {
        /// Where it stands.
        field: String,
        /// What stands there.
        value: String,
        /// Longest name allowed there.
        max: usize,
    },
    /// Labels are how partitions are found.
    #[error("partitions: label `{0}` is used twice")]
    DuplicateLabel(String),
    /// The meta partition's name or type belongs to us.
    #[error("partitions: `{0}` uses a name or type that is reserved for rookery's own partition")]
    Reserved(String),
    /// Between 1 and 16.
    #[error("partitions: {0} given; give 1 to {MAX_PARTITIONS}")]
    Count(usize),
    /// Minimum 1 MiB, maximum not below minimum, nothing over 8 PiB.
    #[error("partitions: size of `{0}`: min-mib must be 1 to {MAX_MIB} and max-mib not below it")]
    Size(String),
}

/// More do not fit what [`crate::probe`] may assume about the unused part of the table.
const MAX_PARTITIONS: usize = 16;
/// 8 PiB: keeps every sum of sizes far from overflow.
const MAX_MIB: u64 = 1 << 33;

impl TryFrom<Document> for LayoutSpec {
    type Error = SpecError;

    fn try_from(document: Document) -> Result<Self, SpecError> {
        let Document { version, site, role, partitions, disk, policy, on_refuse } = document;
        name("site", &site, 63)?;
        name("role", &role, 63)?;
        if partitions.is_empty() || partitions.len() > MAX_PARTITIONS {
            return Err(SpecError::Count(partitions.len()));
        }
        let partitions: Vec<PartitionSpec> = partitions.into_iter().map(PartitionSpec::from).collect();
        for (index, p) in partitions.iter().enumerate() {
            check_partition(index, p)?;
            if partitions[..index].iter().any(|earlier| earlier.label == p.label) {
                return Err(SpecError::DuplicateLabel(p.label.clone()));
            }
        }
        Ok(Self { version, site, role, partitions, disk, policy, on_refuse })
    }
}

impl From<PartitionDocument> for PartitionSpec {
    fn from(document: PartitionDocument) -> Self {
        let PartitionDocument { label, type_guid, size, fs, fs_label, mount, persist } = document;
        let can_be_had_again = fs == FileSystem::Swap || mount.as_deref().is_some_and(is_store);
        let unsaid = if can_be_had_again { Persist::WipeOnRecreate } else { Persist::Keep };
        Self { label, type_guid, size, fs, fs_label, mount, persist: persist.unwrap_or(unsaid) }
    }
}

/// `/nix`, or something below it.
fn is_store(mount: &str) -> bool {
    mount.strip_prefix("/nix").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_partition(index: usize, p: &PartitionSpec) -> Result<(), SpecError> {
    name(&format!("partitions[{index}].label"), &p.label, gpt::NAME_UNITS)?;
    if let Some(label) = &p.fs_label {
        name(&format!("partitions[{index}].fs-label"), label, longest_label(p.fs))?;
    }
    if p.label == META_LABEL || [pending_type(), meta_type(), Uuid::nil()].contains(&p.type_guid) {
        return Err(SpecError::Reserved(p.label.clone()));
    }
    let SizeRange { min_mib, max_mib, .. } = p.size;
    if min_mib == 0 || min_mib > MAX_MIB || max_mib.is_some_and(|max| max < min_mib || max > MAX_MIB) {
        return Err(SpecError::Size(p.label.clone()));
    }
    Ok(())
}

fn name(field: &str, value: &str, max: usize) -> Result<(), SpecError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if value.is_empty() || value.len() > max || value.starts_with('-') || !value.bytes().all(plain) {
        return Err(SpecError::Name { field: field.to_owned(), value: value.to_owned(), max });
    }
    Ok(())
}

/// Longest label that its mkfs takes, in bytes.
fn longest_label(fs: FileSystem) -> usize {
    match fs {
        FileSystem::None => 0,
        FileSystem::Ext4 | FileSystem::Swap => 15,
        FileSystem::Xfs => 12,
        FileSystem::Btrfs => 255,
        FileSystem::Vfat => 11,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::{PART, parse};

    #[test]
    fn defaults_are_the_careful_ones() {
        let spec = parse(PART, "").unwrap();
        assert_eq!((spec.policy, spec.on_refuse), (Policy::CreateIfBlankOrOurs, OnRefuse::Halt));
        assert_eq!((spec.partitions[0].size.max_mib, spec.partitions[0].size.weight), (None, 1));
    }

    #[test]
    fn what_can_not_be_had_again_is_kept_unless_somebody_says_otherwise() {
        let table = [
            ("", Persist::Keep),
            (r#""mount":"/home","#, Persist::Keep),
            (r#""mount":"/nixos","#, Persist::Keep),
            (r#""mount":"/nix","#, Persist::WipeOnRecreate),
            (r#""mount":"/nix/store","#, Persist::WipeOnRecreate),
            (r#""mount":"/nix","persist":"keep","#, Persist::Keep),
            (r#""mount":"/home","persist":"wipe-on-recreate","#, Persist::WipeOnRecreate),
            (r#""mount":"/tmp","persist":"format-every-boot","#, Persist::FormatEveryBoot),
        ];
        for (keys, expected) in table {
            let spec = parse(&PART.replace(r#""fs""#, &format!(r#"{keys}"fs""#)), "").unwrap();
            assert_eq!(spec.partitions[0].persist, expected, "{keys}");
        }
        assert_eq!(parse(&PART.replace("ext4", "swap"), "").unwrap().partitions[0].persist, Persist::WipeOnRecreate);
    }

    #[test]
    fn refused_specs_say_where() {
        let cases = [
            (PART.replace("nb-nix", "-rf"), "partitions[0].label"),
            (PART.replace("nb-nix", "rookery-meta"), "reserved"),
            (PART.replace("64}", "0}"), "size of `nb-nix`"),
            (PART.replace("64}", r#"64,"max-mib":63}"#), "size of `nb-nix`"),
            (PART.replace(r#""fs""#, r#""fs-label":"sixteen-letters-","fs""#), "fs-label"),
            (PART.replace(r#""fs""#, r#""extra":1,"fs""#), "unknown field"),
            (format!("{PART},{PART}"), "used twice"),
            (String::new(), "0 given"),
        ];
        for (partitions, expected) in cases {
            let error = parse(&partitions, "").unwrap_err();
            assert!(error.contains(expected), "{partitions}: {error}");
        }
    }
}
