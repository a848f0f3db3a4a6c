use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;

/// A relay agent's name for the wire that a client is on (sub-option 1 of option 82, RFC 3046 §3.1): a card's name, a port of a
/// switch, or whatever bytes its maker chose, at most 255. Any program on the network can write one into a datagram.
///
/// As text it is itself where it is printable ASCII without blanks, as `eth1`; else hexadecimal digits behind `0x`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Circuit(Box<[u8]>);

/// Neither bytes nor text are a circuit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no circuit: write what the relay agent sends, as eth1 or as 0x0004000a0102, up to 255 bytes")]
pub struct InvalidCircuit(String);

/// What one sub-option holds.
const LONGEST: usize = 255;

impl Circuit {
    /// The circuit with these bytes; `None` if they are more than a sub-option holds.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= LONGEST).then(|| Self(bytes.into()))
    }
}

impl FromStr for Circuit {
    type Err = InvalidCircuit;

    fn from_str(text: &str) -> Result<Self, InvalidCircuit> {
        let invalid = || InvalidCircuit(text.to_owned());
        let Some(digits) = text.strip_prefix("0x") else {
            let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            return Self::new(text.as_bytes()).filter(|_| fits).ok_or_else(invalid);
        };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let value = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8; 2]| Some((value(pair[0])? * 16 + value(pair[1])?) as u8);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.filter(|_| rest.is_empty()).and_then(|bytes| Self::new(&bytes)).ok_or_else(invalid)
    }
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = !self.0.is_empty() && self.0.iter().all(u8::is_ascii_graphic) && !self.0.starts_with(b"0x");
        if printable {
            return self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)));
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

serde_as_text!(Circuit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_nothing_else_is_taken_for_it() {
        let pairs: [(&[u8], &str); 5] = [
            (b"ge-0/0/1.7", "ge-0/0/1.7"),
            // Cisco: type, length, VLAN, slot, port.
            (&[0, 4, 0, 10, 1, 2], "0x0004000a0102"),
            (b"eth1\n", "0x657468310a"),
            (b"0x07", "0x30783037"),
            (b"", "0x"),
        ];
        for (bytes, text) in pairs {
            let circuit = Circuit::new(bytes).unwrap();
            assert_eq!(circuit.to_string(), text);
            assert_eq!(text.parse(), Ok(circuit));
        }
        assert_eq!("0x0A".parse::<Circuit>(), Ok(Circuit::new(b"\n").unwrap()));
    }

    #[test]
    fn refuses_what_no_agent_sends() {
        for text in ["", "eth 1", "0x0", "0xg0", "0x+1", "é"] {
            assert!(text.parse::<Circuit>().is_err(), "{text}");
        }
        assert!("x".repeat(256).parse::<Circuit>().is_err() && Circuit::new(&[0; 256]).is_none());
    }
}
