//! The packet that opens a transfer.

use crate::name::{FileName, NameError};
use crate::options::Asked;
use crate::packet::{ErrorCode, Packet, pairs, split_u16};

/// A read request: RFC 1350 with the options of RFC 2347.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file.
    pub name: FileName,
    /// How the client wants it.
    pub mode: Mode,
    /// The options that are known and have a valid value, in the client's order, each once.
    pub options: Vec<Asked>,
}

/// The transfer mode (RFC 1350 §1); `mail` is a [`RequestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The bytes as they are. Every boot loader uses it.
    Octet,
    /// Text with line ends translated; tftp-hpa's client asks it unless told otherwise. See [`crate::netascii`].
    Netascii,
}

/// Why bytes that arrived at the service's port open no transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No request at all: a stray packet of some transfer, or noise.
    #[error("not a TFTP request")]
    NotARequest,
    /// A write request; this server is read-only.
    #[error("a write request")]
    Write,
    /// Longer than the 512 bytes of RFC 2347.
    #[error("the request is longer than 512 bytes")]
    TooLong,
    /// No file name, no mode, or not a single NUL.
    #[error("the request has no file name or no mode")]
    Malformed,
    /// A mode other than octet and netascii.
    #[error("the mode is neither octet nor netascii")]
    Mode,
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl ReadRequest {
    /// Reads what arrived at the service's port.
    ///
    /// Forgiving where firmware is sloppy: trailing NULs, a missing last NUL, any case, unknown options, invalid
    /// values, an option said twice (the first counts).
    ///
    /// # Errors
    /// See [`RequestError`]; [`RequestError::reply`] is what to answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let (opcode, rest) = split_u16(bytes).map_err(|_| RequestError::NotARequest)?;
        match opcode {
            READ => {}
            WRITE => return Err(RequestError::Write),
            _ => return Err(RequestError::NotARequest),
        }
        if bytes.len() > LONGEST {
            return Err(RequestError::TooLong);
        }
        let mut fields = rest.splitn(3, |&byte| byte == 0);
        let (Some(name), Some(mode)) = (fields.next(), fields.next()) else {
            return Err(RequestError::Malformed);
        };
        if mode.is_empty() {
            return Err(RequestError::Malformed);
        }
        let name = FileName::parse(name)?;
        let mode = Mode::parse(mode).ok_or(RequestError::Mode)?;
        let mut options: Vec<Asked> = Vec::new();
        for asked in pairs(fields.next().unwrap_or_default()).filter_map(|(name, value)| Asked::parse(name, value)) {
            if !options.iter().any(|earlier| earlier.name() == asked.name()) {
                options.push(asked);
            }
        }
        Ok(Self { name, mode, options })
    }

    /// The bytes of the request, as a client sends them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = READ.to_be_bytes().to_vec();
        let mode: &[u8] = match self.mode {
            Mode::Octet => b"octet",
            Mode::Netascii => b"netascii",
        };
        for field in [self.name.as_bytes(), mode] {
            bytes.extend_from_slice(field);
            bytes.push(0);
        }
        for option in &self.options {
            option.encode_into(&mut bytes);
        }
        bytes
    }
}

impl Mode {
    fn parse(raw: &[u8]) -> Option<Self> {
        match raw.to_ascii_lowercase().as_slice() {
            b"octet" => Some(Self::Octet),
            b"netascii" => Some(Self::Netascii),
            _ => None,
        }
    }
}

impl RequestError {
    /// The ERROR to answer, or silence. Short fixed texts: nothing of the request or of this machine is repeated.
    #[must_use]
    pub fn reply(self) -> Option<Packet<'static>> {
        let (code, message): (_, &[u8]) = match self {
            Self::NotARequest => return None,
            Self::Write => (ErrorCode::ACCESS, b"read only"),
            Self::TooLong | Self::Malformed => (ErrorCode::ILLEGAL, b"malformed request"),
            Self::Mode => (ErrorCode::ILLEGAL, b"use octet mode"),
            // To the client a name that can't exist is a file that does not exist.
            Self::Name(_) => (ErrorCode::NOT_FOUND, b"file not found"),
        };
        Some(Packet::Error { code, message })
    }
}

const READ: u16 = 1;
const WRITE: u16 = 2;
/// RFC 2347: "The maximum size of a request packet is 512 octets".
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(bytes: &[u8]) -> Vec<Asked> {
        ReadRequest::parse(bytes).unwrap().options
    }

    /// B1 of the loaders' table: what each client really sends.
    #[test]
    fn requests_of_real_loaders() {
        assert_eq!(
            asked(b"\0\x01lpxelinux.0\0octet\0tsize\x000\0blksize\x001408\0"),
            [Asked::TransferSize, Asked::BlockSize(1408)]
        );
        assert_eq!(
            asked(b"\0\x01undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0multicast\0\0"),
            [Asked::BlockSize(1432), Asked::TransferSize],
            "iPXE asks multicast, which we do not have"
        );
        assert_eq!(
            asked(b"\0\x01bootx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0"),
            [Asked::TransferSize, Asked::BlockSize(1468), Asked::WindowSize(4)]
        );
        assert_eq!(
            asked(b"\0\x01uImage\0octet\0timeout\x005\0tsize\x000\0blksize\x001468\0"),
            [Asked::Timeout(5), Asked::TransferSize, Asked::BlockSize(1468)]
        );
        assert_eq!(asked(b"\0\x01start4.elf\0octet\0"), []);
    }

    #[test]
    fn sloppy_requests_are_understood() {
        assert_eq!(asked(b"\0\x01f\0OcTeT\0BLKSIZE\x00600\0"), [Asked::BlockSize(600)], "case");
        assert_eq!(asked(b"\0\x01f\0octet\0blksize\x00600"), [Asked::BlockSize(600)], "no last NUL");
        assert_eq!(asked(b"\0\x01f\0octet\0tsize\x000\0\0\0\0\0"), [Asked::TransferSize], "padding");
        assert_eq!(asked(b"\0\x01f\0octet\0x\0y\0tsize\x0042\0"), [Asked::TransferSize], "unknown option");
        assert_eq!(asked(b"\0\x01f\0octet\0tsize\x000\0tsize\x000\0"), [Asked::TransferSize], "twice");
        assert_eq!(asked(b"\0\x01f\0octet\0tsize"), [], "an option without a value");
        assert_eq!(asked(b"\0\x01f\0octet"), [], "a mode without NUL");
    }

    #[test]
    fn requests_that_open_nothing() {
        let long = [&b"\0\x01"[..], &[b'a'; 520], b"\0octet\0"].concat();
        let malformed = Some(&b"\0\x05\0\x04malformed request\0"[..]);
        let cases = [
            (&b""[..], RequestError::NotARequest, None),
            (b"\0\x04\0\0", RequestError::NotARequest, None),
            (b"\0\x02f\0octet\0", RequestError::Write, Some(&b"\0\x05\0\x02read only\0"[..])),
            (&long, RequestError::TooLong, malformed),
            (b"\0\x01f", RequestError::Malformed, malformed),
            (b"\0\x01f\0", RequestError::Malformed, malformed),
            (b"\0\x01f\0mail\0", RequestError::Mode, Some(&b"\0\x05\0\x04use octet mode\0"[..])),
            (b"\0\x01f\0binary\0", RequestError::Mode, Some(&b"\0\x05\0\x04use octet mode\0"[..])),
            (b"\0\x01\0octet\0", RequestError::Name(NameError::Empty), Some(&b"\0\x05\0\x01file not found\0"[..])),
            (
                b"\0\x01../x\0octet\0",
                RequestError::Name(NameError::ParentDirectory),
                Some(&b"\0\x05\0\x01file not found\0"[..]),
            ),
        ];
        for (bytes, error, reply) in cases {
            assert_eq!(ReadRequest::parse(bytes), Err(error), "{}", bytes.escape_ascii());
            assert_eq!(error.reply().map(|packet| packet.encode()).as_deref(), reply, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn parse_then_encode_then_parse_is_a_fixpoint(tail in proptest::collection::vec(proptest::sample::select(
            &["\0", "f", "/", "octet\0", "netascii\0", "blksize\0", "1468\0", "tsize\0", "0\0", "windowsize\0", "timeout\0", "é"][..]
        ), 0..16)) {
            let bytes = [b"\0\x01", tail.concat().as_bytes()].concat();
            if let Ok(request) = ReadRequest::parse(&bytes) {
                prop_assert_eq!(ReadRequest::parse(&request.encode()), Ok(request));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = ReadRequest::parse(&bytes);
        }
    }
}
