//! The packets of RFC 1350 and RFC 2347 that travel once a transfer has begun.

/// A packet of a running transfer, as a view over its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// One block of the file (opcode 3).
    Data {
        /// The low 16 bits of the block's index.
        block: u16,
        /// At most one block size long; shorter ends the file.
        payload: &'a [u8],
    },
    /// All blocks up to this one have arrived (opcode 4).
    Ack {
        /// The low 16 bits of the block's index.
        block: u16,
    },
    /// The sender has given up (opcode 5).
    Error {
        /// The code, which may be one that no RFC knows.
        code: ErrorCode,
        /// The text without its NUL; any bytes.
        message: &'a [u8],
    },
    /// The options that the server accepts (opcode 6, RFC 2347): name and value, NUL after each.
    Oack {
        /// The pairs as they are on the wire.
        options: &'a [u8],
    },
}

/// Why bytes are no packet of a running transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Too short for the fields of its opcode.
    #[error("the packet is cut short")]
    Short,
    /// An opcode that has no place inside of a transfer.
    #[error("opcode {0} has no place inside of a transfer")]
    Opcode(u16),
}

/// The code of an ERROR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// Not defined, see the message.
    pub const UNDEFINED: Self = Self(0);
    /// File not found.
    pub const NOT_FOUND: Self = Self(1);
    /// Access violation.
    pub const ACCESS: Self = Self(2);
    /// Illegal operation.
    pub const ILLEGAL: Self = Self(4);
    /// The options are refused (RFC 2347). EDK2 ends its probe of a file's size by it.
    pub const OPTIONS: Self = Self(8);
}

const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

impl<'a> Packet<'a> {
    /// Reads a packet. Never panics.
    ///
    /// # Errors
    /// If it is cut short or its opcode is none of DATA, ACK, ERROR and OACK.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (opcode, rest) = split_u16(bytes)?;
        match opcode {
            DATA => split_u16(rest).map(|(block, payload)| Self::Data { block, payload }),
            // Some ROMs pad the ACK; whatever follows the number is of no interest.
            ACK => split_u16(rest).map(|(block, _)| Self::Ack { block }),
            ERROR => split_u16(rest).map(|(code, text)| Self::Error {
                code: ErrorCode(code),
                message: text.split(|&byte| byte == 0).next().unwrap_or_default(),
            }),
            OACK => Ok(Self::Oack { options: rest }),
            other => Err(PacketError::Opcode(other)),
        }
    }

    /// The bytes to send. `options` of an OACK are taken as they are; an ERROR's text must not contain NUL.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Data { block, payload } => [&header(DATA, block)[..], payload].concat(),
            Self::Ack { block } => header(ACK, block).to_vec(),
            Self::Error { code, message } => [&header(ERROR, code.0)[..], message, b"\0"].concat(),
            Self::Oack { options } => [&OACK.to_be_bytes()[..], options].concat(),
        }
    }
}

/// The four bytes before the payload of block `block`. The only place where an index loses its upper bits.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the wire has 16 bits; RFC 1350 block numbers roll over to 0")]
pub const fn data_header(block: u64) -> [u8; 4] {
    header(DATA, block as u16)
}

const fn header(opcode: u16, field: u16) -> [u8; 4] {
    let (opcode, field) = (opcode.to_be_bytes(), field.to_be_bytes());
    [opcode[0], opcode[1], field[0], field[1]]
}

/// Splits NUL-terminated pairs of name and value. Stops at an empty name (padding); a missing last NUL is forgiven.
pub(crate) fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut fields = bytes.split(|&byte| byte == 0);
    std::iter::from_fn(move || {
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name, fields.next()?))
    })
}

/// A decimal number as options carry it.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    // `u64::from_str` would also take a leading `+`.
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

pub(crate) fn split_u16(bytes: &[u8]) -> Result<(u16, &[u8]), PacketError> {
    let (field, rest) = bytes.split_first_chunk::<2>().ok_or(PacketError::Short)?;
    Ok((u16::from_be_bytes(*field), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_on_the_wire() {
        let cases: [(&[u8], Packet<'_>); 5] = [
            (b"\x00\x03 \x00\x01 abc", Packet::Data { block: 0x2000, payload: b"\x01 abc" }),
            (b"\x00\x03\x00\x01", Packet::Data { block: 1, payload: b"" }),
            (b"\x00\x04\xff\xff", Packet::Ack { block: 65535 }),
            (b"\x00\x05\x00\x08User aborted\0", Packet::Error { code: ErrorCode::OPTIONS, message: b"User aborted" }),
            (b"\x00\x06tsize\x0042\0", Packet::Oack { options: b"tsize\x0042\0" }),
        ];
        for (bytes, packet) in cases {
            assert_eq!(Packet::parse(bytes), Ok(packet));
            assert_eq!(packet.encode(), bytes);
        }
    }

    #[test]
    fn cut_and_foreign_packets() {
        assert_eq!(Packet::parse(b""), Err(PacketError::Short));
        assert_eq!(Packet::parse(b"\0"), Err(PacketError::Short));
        assert_eq!(Packet::parse(b"\x00\x04\x01"), Err(PacketError::Short));
        assert_eq!(Packet::parse(b"\x00\x01file\0octet\0"), Err(PacketError::Opcode(1)));
        assert_eq!(Packet::parse(b"\x00\x04\x00\x07padding"), Ok(Packet::Ack { block: 7 }));
        // An ERROR without its last NUL.
        assert_eq!(
            Packet::parse(b"\x00\x05\x00\x00closed"),
            Ok(Packet::Error { code: ErrorCode::UNDEFINED, message: b"closed" })
        );
    }

    #[test]
    fn only_the_wire_rolls_over() {
        assert_eq!(data_header(65_535), [0, 3, 0xff, 0xff]);
        assert_eq!(data_header(65_536), [0, 3, 0, 0]);
        assert_eq!(data_header(65_537), [0, 3, 0, 1]);
    }

    #[test]
    fn numbers_are_plain_decimal() {
        assert_eq!(number(b"1468"), Some(1468));
        assert_eq!(number(b"007"), Some(7));
        for bad in [&b""[..], b"+5", b"-1", b" 5", b"5k", b"99999999999999999999", b"\xff"] {
            assert_eq!(number(bad), None, "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn parse_then_encode_then_parse_is_a_fixpoint(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let encoded = packet.encode();
                prop_assert_eq!(Packet::parse(&encoded), Ok(packet));
            }
        }
    }
}
