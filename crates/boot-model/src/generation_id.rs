use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;
use crate::{RoleName, StorePath};

const SHORT_HASH_LEN: usize = 8;

/// One published generation of a role: its number, and the first 8 characters of its toplevel's store hash.
///
/// Nix uses a profile's numbers again after a deletion; the hash keeps two generations of the same number apart, in URLs,
/// receipts and events. Ordered by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId {
    number: u32,
    short_hash: [u8; SHORT_HASH_LEN],
}

/// A generation and its role, as in `lab/42-9f3k2xq1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationRef {
    /// The kind of machine.
    pub role: RoleName,
    /// Which of its generations.
    pub id: GenerationId,
}

/// The text is no generation id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no generation: write <number>-<8 characters of the hash>, with the role before it where one is asked for (lab/42-9f3k2xq1)"
)]
pub struct InvalidGenerationId(String);

impl GenerationId {
    /// The id of generation `number` whose system is `toplevel`.
    pub fn new(number: u32, toplevel: &StorePath) -> Self {
        let short = toplevel.hash();
        let short_hash = short.short().as_bytes().try_into().expect("a short hash has 8 characters");
        Self { number, short_hash }
    }

    /// The number within the role, as Nix profiles count.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The first 8 characters of the toplevel's hash.
    pub fn short_hash(&self) -> &str {
        std::str::from_utf8(&self.short_hash).expect("a short hash is ASCII, checked when it was read")
    }
}

impl FromStr for GenerationId {
    type Err = InvalidGenerationId;

    fn from_str(text: &str) -> Result<Self, InvalidGenerationId> {
        let invalid = || InvalidGenerationId(text.to_owned());
        let (number, hash) = text.split_once('-').ok_or_else(invalid)?;
        let canonical = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
        let short_hash: [u8; SHORT_HASH_LEN] = hash.as_bytes().try_into().map_err(|_| invalid())?;
        if !canonical || !short_hash.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z')) {
            return Err(invalid());
        }
        Ok(Self { number: number.parse().map_err(|_| invalid())?, short_hash })
    }
}

impl FromStr for GenerationRef {
    type Err = InvalidGenerationId;

    fn from_str(text: &str) -> Result<Self, InvalidGenerationId> {
        let invalid = || InvalidGenerationId(text.to_owned());
        let (role, id) = text.split_once('/').ok_or_else(invalid)?;
        Ok(Self { role: role.parse().map_err(|_| invalid())?, id: id.parse().map_err(|_| invalid())? })
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.short_hash())
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GenerationRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.id)
    }
}

impl fmt::Debug for GenerationRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(GenerationId);
serde_as_text!(GenerationRef);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let toplevel = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos-system-lab".parse().unwrap();
        let id = GenerationId::new(42, &toplevel);
        assert_eq!(id.to_string(), "42-9f3k2xq1");
        assert_eq!("42-9f3k2xq1".parse(), Ok(id));
        assert_eq!("lab/42-9f3k2xq1".parse::<GenerationRef>().unwrap().id, id);
    }

    #[test]
    fn one_spelling_for_each_id() {
        for bad in [
            "",
            "42",
            "042-9f3k2xq1",
            "+2-9f3k2xq1",
            "42-9f3k2xq",
            "42-9f3k2xq1x",
            "42-9F3K2XQ1",
            "-9f3k2xq1",
            "99999999999-9f3k2xq1",
            "0-9f3k2xq1",
        ] {
            assert!(bad.parse::<GenerationId>().is_err(), "{bad}");
        }
        assert!("../42-9f3k2xq1".parse::<GenerationRef>().is_err());
    }

    #[test]
    fn the_number_orders() {
        let ids: Vec<GenerationId> = ["9-zzzzzzzz", "10-00000000", "10-11111111"].map(|t| t.parse().unwrap()).to_vec();
        assert!(ids.is_sorted());
    }
}
