//! The record in our meta partition: which spec this disk was laid out by. Readable before anything is mounted.

use crc32fast::hash as crc32;

use crate::spec::{LayoutSpec, SpecId};

/// What stands in the first 4096 bytes of the meta partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaRecord {
    /// The layout of this disk.
    pub spec_id: SpecId,
    /// Its version, for messages.
    pub version: u32,
    /// Whose it is.
    pub site: String,
    /// And for which role.
    pub role: String,
}

/// Bytes of an encoded record.
pub(crate) const META_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"RKRYMET1";
const NAME_BYTES: usize = 64;

impl MetaRecord {
    pub(crate) fn of(spec: &LayoutSpec) -> Self {
        Self { spec_id: spec.id(), version: spec.version, site: spec.site.clone(), role: spec.role.clone() }
    }

    /// The bytes that stand at the start of the partition.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; META_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[12..16].copy_from_slice(&self.version.to_le_bytes());
        out[16..48].copy_from_slice(&self.spec_id.0);
        for (at, name) in [(48, &self.site), (48 + NAME_BYTES, &self.role)] {
            let len = name.len().min(NAME_BYTES);
            out[at..at + len].copy_from_slice(&name.as_bytes()[..len]);
        }
        let crc = crc32(&out);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a record; `None` for anything that is not a whole one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..META_BYTES).filter(|bytes| bytes.starts_with(MAGIC))?;
        let mut summed = bytes.to_vec();
        summed[8..12].fill(0);
        if u32::from_le_bytes(bytes[8..12].try_into().ok()?) != crc32(&summed) {
            return None;
        }
        let name = |at: usize| {
            let field = &bytes[at..at + NAME_BYTES];
            let len = field.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
            String::from_utf8(field[..len].to_vec()).ok()
        };
        Some(Self {
            spec_id: SpecId(bytes[16..48].try_into().ok()?),
            version: u32::from_le_bytes(bytes[12..16].try_into().ok()?),
            site: name(48)?,
            role: name(48 + NAME_BYTES)?,
        })
    }
}
