use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;

/// A 48-bit Ethernet address. Written with colons and lower case: `52:54:00:77:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// The text is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no MAC address: write six pairs of hex digits, such as 52:54:00:77:00:01")]
pub struct InvalidMac(String);

impl MacAddr {
    /// The address with these bytes, in the order of transmission.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes in the order of transmission.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The vendor's part: the first three bytes.
    pub const fn oui(self) -> [u8; 3] {
        [self.0[0], self.0[1], self.0[2]]
    }

    /// The form with hyphens that pxelinux puts after the hardware type: `52-54-00-77-00-01`.
    pub fn hyphenated(self) -> String {
        self.to_string().replace(':', "-")
    }

    /// Reads what pxelinux's `IPAPPEND 2` and iPXE's menus put on the command line as `BOOTIF=`: the hardware type 01
    /// (Ethernet) and the address, all with hyphens (syslinux doc/pxelinux.txt).
    pub fn from_bootif(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        text.strip_prefix("01-").or_else(|| text.strip_prefix("01:")).ok_or_else(invalid)?.parse()
    }
}

impl FromStr for MacAddr {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(invalid)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(MacAddr);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr::new([0x52, 0x54, 0x00, 0x77, 0x00, 0x0a]);

    #[test]
    fn reads_colons_hyphens_and_either_case() {
        for text in ["52:54:00:77:00:0a", "52-54-00-77-00-0A"] {
            assert_eq!(text.parse(), Ok(MAC));
        }
        assert_eq!(MAC.to_string(), "52:54:00:77:00:0a");
        assert_eq!(MAC.hyphenated(), "52-54-00-77-00-0a");
    }

    #[test]
    fn bootif_carries_the_hardware_type() {
        assert_eq!(MacAddr::from_bootif("01-52-54-00-77-00-0a"), Ok(MAC));
        assert!(MacAddr::from_bootif("52-54-00-77-00-0a").is_err());
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "52:54:00:77:00",
            "52:54:00:77:00:0a:01",
            "52:54:00:77:00:+1",
            "52:54-00:77:00:0a",
            "é2:54:00:77:00:0a",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
