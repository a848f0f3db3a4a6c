//! The record in our meta partition: which spec this disk was laid out by, and which consents to erase it has spent. Readable before
//! anything is mounted.
//!
//! There are two copies, so that while one is being written the other is whole. The first one says what the layout is.

use std::collections::BTreeSet;

use boot_model::Nonce;
use crc32fast::hash as crc32;

use crate::{
    MIB,
    mbr::nonce,
    spec::{LayoutSpec, SpecId},
};

/// What stands in the first 4096 bytes of the meta partition, and once more behind them.
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
    /// The consents that were honoured on this disk: none of them ever is again.
    pub spent: BTreeSet<Nonce>,
}

/// Where the meta partition begins in every layout: what was spent is found there whatever became of the partition table.
pub(crate) const META_AT: u64 = MIB;
/// Bytes of an encoded record.
pub(crate) const META_BYTES: usize = 4096;
/// Bytes of both copies.
pub(crate) const META_COPIES: usize = 2 * META_BYTES;
/// As many as fit.
pub(crate) const MOST_SPENT: usize = (META_BYTES - SPENT_AT) / 16;
const MAGIC: &[u8; 8] = b"RKRYMET1";
const NAME_BYTES: usize = 64;
const SPENT_AT: usize = 48 + 2 * NAME_BYTES;

impl MetaRecord {
    pub(crate) fn of(spec: &LayoutSpec, spent: BTreeSet<Nonce>) -> Self {
        Self { spec_id: spec.id(), version: spec.version, site: spec.site.clone(), role: spec.role.clone(), spent }
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
        for (place, nonce) in out[SPENT_AT..].chunks_exact_mut(16).zip(&self.spent) {
            place.copy_from_slice(&nonce.bytes());
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
            spent: bytes[SPENT_AT..].chunks_exact(16).map_while(nonce).collect(),
        })
    }
}
