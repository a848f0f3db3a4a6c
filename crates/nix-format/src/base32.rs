//! Nix's base32: its own alphabet, and the digits in reverse order (NixOS/nix src/libutil, `base-nix-32`).

use thiserror::Error;

/// Without e, o, u and t, so that no hash spells a word.
const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Encodes bytes; 32 bytes become 52 characters, 20 bytes 32.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |position: usize| {
        let (byte, shift) = (position * 5 / 8, position * 5 % 8);
        let low = u16::from(bytes[byte]);
        let high = bytes.get(byte + 1).copied().map_or(0, u16::from);
        ALPHABET[usize::from(((high << 8 | low) >> shift) & 0x1f)] as char
    };
    (0..encoded_len(bytes.len())).rev().map(digit).collect()
}

/// Decodes exactly `N` bytes.
///
/// # Errors
/// Refuses another length, a character outside the alphabet, and bits beyond the last byte that are not zero: each
/// value has one spelling only.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], Base32Error> {
    let expected = encoded_len(N);
    if text.len() != expected {
        return Err(Base32Error::Length { expected, found: text.len() });
    }
    let mut bytes = [0; N];
    for (position, character) in text.bytes().rev().enumerate() {
        let digit = ALPHABET.iter().position(|&c| c == character).ok_or(Base32Error::Character)?;
        let (byte, shift) = (position * 5 / 8, position * 5 % 8);
        let wide = digit << shift;
        bytes[byte] |= (wide & 0xff) as u8;
        match (bytes.get_mut(byte + 1), (wide >> 8) as u8) {
            (Some(next), carry) => *next |= carry,
            (None, 0) => {}
            (None, _) => return Err(Base32Error::Overflow),
        }
    }
    Ok(bytes)
}

/// The text isn't base32 of the length asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Base32Error {
    /// Too short or too long.
    #[error("it has {found} characters instead of {expected}")]
    Length {
        /// Characters needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A character that Nix's alphabet does not have.
    #[error("it has a character outside Nix's base32 alphabet (no e, o, u, t; lower case only)")]
    Character,
    /// The first character stands for more bits than there are.
    #[error("its first character is too large for the length")]
    Overflow,
}

/// Whether a character belongs to the alphabet.
pub const fn is_digit(character: u8) -> bool {
    IS_DIGIT[character as usize]
}

/// One look-up per byte: scans of whole files ask this.
const IS_DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        table[ALPHABET[digit] as usize] = true;
        digit += 1;
    }
    table
};

const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_vectors() {
        // nix-hash --type sha256 --to-base32 of the SHA-256 of nothing.
        let empty = [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
            0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
        ];
        let text = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        assert_eq!(encode(&empty), text);
        assert_eq!(decode(text), Ok(empty));
        assert_eq!(encode(&[0; 20]), "0".repeat(32));
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn refusals() {
        assert_eq!(decode::<32>("0"), Err(Base32Error::Length { expected: 52, found: 1 }));
        assert_eq!(decode::<32>(&"e".repeat(52)), Err(Base32Error::Character));
        assert_eq!(decode::<32>(&"é".repeat(26)), Err(Base32Error::Character));
        // 52 digits hold 260 bits: the four above the 256th must be zero.
        assert_eq!(decode::<32>(&format!("2{}", "0".repeat(51))), Err(Base32Error::Overflow));
        assert!(decode::<32>(&format!("1{}", "0".repeat(51))).is_ok());
    }

    proptest! {
        #[test]
        fn round_trip(bytes: [u8; 32], short: [u8; 20]) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
            prop_assert_eq!(decode(&encode(&short)), Ok(short));
        }

        #[test]
        fn any_text_is_refused_or_has_one_spelling(text in "[0-9a-z]{52}") {
            if let Ok(bytes) = decode::<32>(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
