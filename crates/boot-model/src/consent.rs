use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;
use crate::{KernelParameter, MacAddr};

/// A person's permission to erase one disk of one machine, once: the kernel parameter `rookery.erase=`.
///
/// Written as `<card>/<nonce>/<serial>`, the card with hyphens, the nonce as 32 hexadecimal digits, and the serial with `%` and two
/// digits for each byte that is no letter, digit, `.`, `_` or `-`.
///
/// It is never enough alone: the disk's layout must have the policy `wipe`. The agent compares the card with the one that it booted
/// from and the serial with the disk's, writes the nonce to the disk with the new layout, and honours no nonce that it finds there.
/// Nothing signs it: whoever can give a machine another menu can give it another kernel, too (docs/threat-model.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraseConsent {
    /// The card that the machine boots from.
    pub mac: MacAddr,
    /// Drawn at random for this consent.
    pub nonce: Nonce,
    /// The disk.
    pub serial: DiskSerial,
}

/// 16 random bytes, written as hexadecimal digits, that tell one wish from every other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; 16]);

/// A disk's serial number as the kernel shows it (`lsblk -o NAME,SERIAL`): 1 to 64 printable ASCII characters, no blank at either
/// end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskSerial(Box<str>);

/// The text is no consent, or a part of one is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidConsent {
    /// Not 32 hexadecimal digits.
    #[error("{0:?} is no nonce of 32 hexadecimal digits")]
    Nonce(String),
    /// No serial number.
    #[error("{0:?} is no serial number of a disk: write it as `lsblk -o NAME,SERIAL` shows it")]
    Serial(String),
    /// The parts are not there, or the card is none.
    #[error("{0:?} is no consent to erase of the form <card>/<nonce>/<serial>")]
    Form(String),
}

impl EraseConsent {
    /// The kernel parameter's name.
    pub const PARAMETER: &str = "rookery.erase";

    /// The kernel parameter.
    pub fn parameter(&self) -> String {
        format!("{}={self}", Self::PARAMETER)
    }
}

impl Nonce {
    /// From random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl DiskSerial {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EraseConsent {
    type Err = InvalidConsent;

    fn from_str(text: &str) -> Result<Self, InvalidConsent> {
        let form = || InvalidConsent::Form(text.to_owned());
        let (mac, rest) = text.split_once('/').ok_or_else(form)?;
        let (nonce, serial) = rest.split_once('/').ok_or_else(form)?;
        Ok(Self { mac: mac.parse().map_err(|_| form())?, nonce: nonce.parse()?, serial: unescape(serial)?.parse()? })
    }
}

impl fmt::Display for EraseConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.mac.hyphenated(), self.nonce)?;
        for byte in self.serial.as_str().bytes() {
            match byte {
                b if b.is_ascii_alphanumeric() || b"._-".contains(&b) => write!(f, "{}", char::from(b))?,
                b => write!(f, "%{b:02x}")?,
            }
        }
        Ok(())
    }
}

/// What stands for one command line word.
impl From<&EraseConsent> for KernelParameter {
    fn from(consent: &EraseConsent) -> Self {
        Self::ours(consent.parameter())
    }
}

fn unescape(text: &str) -> Result<String, InvalidConsent> {
    let invalid = || InvalidConsent::Serial(text.to_owned());
    let mut pieces = text.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2).ok_or_else(invalid)?;
        let byte = u8::from_str_radix(code, 16).ok().filter(u8::is_ascii).ok_or_else(invalid)?;
        plain.push(char::from(byte));
        plain.push_str(rest);
    }
    Ok(plain)
}

impl FromStr for Nonce {
    type Err = InvalidConsent;

    fn from_str(text: &str) -> Result<Self, InvalidConsent> {
        let invalid = || InvalidConsent::Nonce(text.to_owned());
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid());
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| invalid())
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DiskSerial {
    type Err = InvalidConsent;

    fn from_str(text: &str) -> Result<Self, InvalidConsent> {
        let printable = (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        if printable && text.trim() == text {
            Ok(Self(text.into()))
        } else {
            Err(InvalidConsent::Serial(text.to_owned()))
        }
    }
}

impl fmt::Display for DiskSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DiskSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

serde_as_text!(Nonce);
serde_as_text!(DiskSerial);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_is_one_harmless_word_that_reads_back() {
        let consent = EraseConsent {
            mac: "52:54:00:77:00:01".parse().unwrap(),
            nonce: Nonce::new([0x0a; 16]),
            serial: "WD 1/2%\"'$".parse().unwrap(),
        };
        let text = consent.to_string();
        assert_eq!(text, "52-54-00-77-00-01/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/WD%201%2f2%25%22%27%24");
        assert_eq!(text.parse::<EraseConsent>().unwrap(), consent);
        assert_eq!(KernelParameter::from(&consent).as_str(), format!("rookery.erase={text}"));
        let smuggled = consent.parameter().parse::<KernelParameter>();
        assert!(smuggled.is_err(), "a generation's own parameters can't consent");
    }

    #[test]
    fn what_is_no_consent() {
        let nonce = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
        for bad in [
            String::new(),
            "52-54-00-77-00-01".to_owned(),
            format!("52-54-00-77-00-01/{nonce}"),
            format!("52-54-00-77-00-01/{nonce}/"),
            format!("52-54-00-77-00-01/{nonce}/a%2"),
            format!("52-54-00-77-00-01/{nonce}/a%zz"),
            format!("52-54-00-77-00-01/{nonce}/%20"),
            format!("52-54-00-77-00/{nonce}/a"),
            format!("52-54-00-77-00-01/{}/a", &nonce[1..]),
            format!("52-54-00-77-00-01/{}/a", nonce.to_uppercase()),
        ] {
            assert!(bad.parse::<EraseConsent>().is_err(), "{bad}");
        }
    }
}
