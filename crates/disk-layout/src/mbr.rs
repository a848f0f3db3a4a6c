//! The first sector: protective, foreign, or our claim.
//!
//! A claim is a protective MBR whose boot code area says "rookery is laying this disk out". It is one sector, so it is there as a
//! whole or not at all, and as long as it is there every other sector may be in any state: the disk is ours, half-written. It is the first
//! thing written and the last thing removed. It names what stood in the two header sectors before, so that a claim left behind can't
//! make a table that somebody else wrote later look like ours.

use boot_model::Nonce;
use crc32fast::hash as crc32;
use uuid::Uuid;

use crate::spec::SpecId;

/// Bytes of the sector that matter, whatever the sector size.
pub const MBR_BYTES: usize = 512;

/// What the first sector holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mbr {
    /// All zero or all 0xFF.
    Empty,
    /// One partition of type EE and no other: a GPT disk. Boot code is not looked at.
    Protective,
    /// Ours, while the disk is being laid out.
    Claim(Claim),
    /// A boot signature and something else than the above.
    Foreign,
    /// No boot signature, but not empty either.
    Unknown,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The disk GUID to be.
    pub disk_guid: Uuid,
    /// The layout being made.
    pub spec_id: SpecId,
    /// CRC-32 of sector 1 as it was.
    pub before_primary: u32,
    /// CRC-32 of the last sector as it was.
    pub before_backup: u32,
    /// The consent to erase that this laying out spends. Here it stands before anything is erased.
    pub consent: Option<Nonce>,
}

impl Mbr {
    /// Reads a first sector of at least [`MBR_BYTES`].
    #[must_use]
    pub fn decode(sector: &[u8]) -> Self {
        if sector.iter().all(|byte| *byte == 0) || sector.iter().all(|byte| *byte == 0xFF) {
            return Self::Empty;
        }
        let Some(sector) = sector.get(..MBR_BYTES).filter(|sector| sector[510..] == [0x55, 0xAA]) else {
            return Self::Unknown;
        };
        let slots: Vec<&[u8]> = sector[446..510].chunks_exact(16).collect();
        let used = slots.iter().filter(|slot| slot.iter().any(|byte| *byte != 0)).count();
        if used != 1 || slots[0][4] != 0xEE {
            return Self::Foreign;
        }
        Claim::decode(sector).map_or(Self::Protective, Self::Claim)
    }

    /// A protective MBR without boot code, for a disk of so many sectors.
    #[must_use]
    pub fn protective(sectors: u64, sector_size: u32) -> Vec<u8> {
        let mut out = vec![0; sector_size as usize];
        out[..BOOT_CODE.len()].copy_from_slice(BOOT_CODE);
        let size = u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX);
        out[446..462].copy_from_slice(&[0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 0, 0]);
        out[458..462].copy_from_slice(&size.to_le_bytes());
        out[510..512].copy_from_slice(&[0x55, 0xAA]);
        out
    }
}

impl Claim {
    /// The first sector that carries this claim.
    #[must_use]
    pub fn encode(&self, sectors: u64, sector_size: u32) -> Vec<u8> {
        let mut out = Mbr::protective(sectors, sector_size);
        out[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        out[24..40].copy_from_slice(&self.disk_guid.to_bytes_le());
        out[40..72].copy_from_slice(&self.spec_id.0);
        out[72..76].copy_from_slice(&self.before_primary.to_le_bytes());
        out[76..80].copy_from_slice(&self.before_backup.to_le_bytes());
        let consent = self.consent.unwrap_or(NO_CONSENT);
        out[CONSENT_AT..CONSENT_AT + 16].copy_from_slice(&consent.bytes());
        let crc = crc32(&out[..MBR_BYTES]);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(sector: &[u8]) -> Option<Self> {
        if sector.get(MAGIC_AT..MAGIC_AT + 8)? != MAGIC {
            return None;
        }
        let word = |at: usize| Some(u32::from_le_bytes(sector.get(at..at + 4)?.try_into().ok()?));
        let mut summed = sector.get(..MBR_BYTES)?.to_vec();
        summed[CRC_AT..CRC_AT + 4].fill(0);
        if word(CRC_AT)? != crc32(&summed) {
            return None;
        }
        Some(Self {
            disk_guid: Uuid::from_bytes_le(sector.get(24..40)?.try_into().ok()?),
            spec_id: SpecId(sector.get(40..72)?.try_into().ok()?),
            before_primary: word(72)?,
            before_backup: word(76)?,
            consent: nonce(sector.get(CONSENT_AT..)?),
        })
    }
}

/// A BIOS may run what stands here: `int 18h` (next boot device), then `hlt` for ever.
const BOOT_CODE: &[u8] = &[0xCD, 0x18, 0xF4, 0xEB, 0xFD];
const MAGIC: &[u8; 8] = b"RKRYCLM1";
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 80;
const CONSENT_AT: usize = 84;
/// No number drawn at random is this one.
const NO_CONSENT: Nonce = Nonce::new([0; 16]);

/// The nonce that stands at the beginning of some bytes, if one does.
pub(crate) fn nonce(bytes: &[u8]) -> Option<Nonce> {
    let nonce = Nonce::new(bytes.get(..16)?.try_into().ok()?);
    (nonce != NO_CONSENT).then_some(nonce)
}
