//! The GUID partition table (UEFI 2.10, section 5.3): headers and entries, to and from bytes.

use crc32fast::hash as crc32;
use uuid::Uuid;

/// UTF-16 units in a partition name.
pub const NAME_UNITS: usize = 36;
/// Entries in the tables that we write.
pub const ENTRY_COUNT: u32 = 128;
/// Bytes of an entry in the tables that we write.
pub const ENTRY_SIZE: u32 = 128;
/// Bytes of the entry array in the tables that we write.
pub const ARRAY_BYTES: usize = (ENTRY_COUNT * ENTRY_SIZE) as usize;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: usize = 92;
/// Largest entry array that is looked at; the usual one has 16 KiB.
const MAX_ARRAY: u64 = 256 << 10;

/// One of the two headers. Positions are logical sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where this header stands.
    pub my_lba: u64,
    /// Where the other one stands.
    pub alternate_lba: u64,
    /// First sector that a partition may use.
    pub first_usable: u64,
    /// Last sector that a partition may use.
    pub last_usable: u64,
    /// Identity of the disk.
    pub disk_guid: Uuid,
    /// Where this header's entry array starts.
    pub entries_lba: u64,
    /// Entries in the array.
    pub entry_count: u32,
    /// Bytes of each entry.
    pub entry_size: u32,
    /// CRC-32 of the array.
    pub entries_crc: u32,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the array, as the kernel numbers partitions: 1 is the first.
    pub number: u32,
    /// What it is for.
    pub type_guid: Uuid,
    /// Which one it is.
    pub unique_guid: Uuid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
    /// Bits 48 to 63 belong to the type.
    pub attributes: u64,
    /// At most [`NAME_UNITS`] UTF-16 units.
    pub name: String,
}

/// Why bytes are not a header or an entry array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// Something else, or nothing, is there.
    #[error("no GPT signature")]
    NoSignature,
    /// A later revision, or nonsense.
    #[error("GPT header of an unknown size or shape")]
    Shape,
    /// Bit rot, a cut write, or a tool that did not finish.
    #[error("GPT header with a wrong checksum")]
    HeaderCrc,
    /// The header is good, its array is not (yet).
    #[error("GPT entries with a wrong checksum")]
    EntriesCrc,
}

impl Header {
    /// The sector that holds this header.
    #[must_use]
    pub fn encode(&self, sector_size: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(sector_size as usize);
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&REVISION.to_le_bytes());
        out.extend_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        out.extend_from_slice(&[0; 8]); // checksum, reserved
        for lba in [self.my_lba, self.alternate_lba, self.first_usable, self.last_usable] {
            out.extend_from_slice(&lba.to_le_bytes());
        }
        out.extend_from_slice(&self.disk_guid.to_bytes_le());
        out.extend_from_slice(&self.entries_lba.to_le_bytes());
        for value in [self.entry_count, self.entry_size, self.entries_crc] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let crc = crc32(&out);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        out.resize(sector_size as usize, 0);
        out
    }

    /// Reads the header in a sector.
    ///
    /// # Errors
    /// Tells nothing, foreign shapes and damage apart.
    pub fn decode(sector: &[u8]) -> Result<Self, GptError> {
        if sector.get(..8) != Some(SIGNATURE) {
            return Err(GptError::NoSignature);
        }
        let size = u32_at(sector, 12).ok_or(GptError::Shape)? as usize;
        if size < HEADER_BYTES || size > sector.len() {
            return Err(GptError::Shape);
        }
        let mut summed = sector[..size].to_vec();
        summed[16..20].fill(0);
        if u32_at(sector, 16) != Some(crc32(&summed)) {
            return Err(GptError::HeaderCrc);
        }
        Self::fields(sector).ok_or(GptError::Shape)
    }

    fn fields(sector: &[u8]) -> Option<Self> {
        Some(Self {
            my_lba: u64_at(sector, 24)?,
            alternate_lba: u64_at(sector, 32)?,
            first_usable: u64_at(sector, 40)?,
            last_usable: u64_at(sector, 48)?,
            disk_guid: guid_at(sector, 56)?,
            entries_lba: u64_at(sector, 72)?,
            entry_count: u32_at(sector, 80)?,
            entry_size: u32_at(sector, 84)?,
            entries_crc: u32_at(sector, 88)?,
        })
    }

    /// Bytes of the entry array, if that is a size one may believe.
    #[must_use]
    pub fn array_bytes(&self) -> Option<usize> {
        let bytes = u64::from(self.entry_count) * u64::from(self.entry_size);
        let sane = self.entry_size >= ENTRY_SIZE && self.entry_size.is_multiple_of(8) && bytes <= MAX_ARRAY;
        sane.then_some(bytes as usize)
    }

    /// Reads this header's entry array; unused entries are left out.
    ///
    /// # Errors
    /// [`GptError::EntriesCrc`] where the bytes are not the ones that the header speaks of.
    pub fn decode_entries(&self, array: &[u8]) -> Result<Vec<Entry>, GptError> {
        let bytes = self.array_bytes().ok_or(GptError::Shape)?;
        let array = array.get(..bytes).ok_or(GptError::Shape)?;
        if crc32(array) != self.entries_crc {
            return Err(GptError::EntriesCrc);
        }
        let places = (1..).zip(array.chunks_exact(self.entry_size as usize));
        Ok(places.filter_map(|(number, bytes)| Entry::decode(number, bytes)).collect())
    }
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_SIZE as usize] {
        let mut out = [0; ENTRY_SIZE as usize];
        out[..16].copy_from_slice(&self.type_guid.to_bytes_le());
        out[16..32].copy_from_slice(&self.unique_guid.to_bytes_le());
        out[32..40].copy_from_slice(&self.first_lba.to_le_bytes());
        out[40..48].copy_from_slice(&self.last_lba.to_le_bytes());
        out[48..56].copy_from_slice(&self.attributes.to_le_bytes());
        for (unit, place) in self.name.encode_utf16().zip(out[56..].chunks_exact_mut(2)) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
        out
    }

    /// `None` for an unused entry.
    fn decode(number: u32, bytes: &[u8]) -> Option<Self> {
        let type_guid = guid_at(bytes, 0).filter(|guid| !guid.is_nil())?;
        let units: Vec<u16> = bytes
            .get(56..ENTRY_SIZE as usize)?
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|unit| *unit != 0)
            .collect();
        Some(Self {
            number,
            type_guid,
            unique_guid: guid_at(bytes, 16)?,
            first_lba: u64_at(bytes, 32)?,
            last_lba: u64_at(bytes, 40)?,
            attributes: u64_at(bytes, 48)?,
            name: String::from_utf16_lossy(&units),
        })
    }
}

/// The entry array that we write: each entry in the place that its number says, the others of the [`ENTRY_COUNT`] unused. A number that
/// has no place there is left out.
#[must_use]
pub fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let mut array = vec![0; ARRAY_BYTES];
    for entry in entries {
        let place = array.chunks_exact_mut(ENTRY_SIZE as usize).zip(1..).find(|(_, number)| *number == entry.number);
        if let Some((place, _)) = place {
            place.copy_from_slice(&entry.encode());
        }
    }
    array
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn guid_at(bytes: &[u8], at: usize) -> Option<Uuid> {
    Some(Uuid::from_bytes_le(bytes.get(at..at + 16)?.try_into().ok()?))
}
