//! Options: what a client asks, what it gets.

use std::fmt;
use std::time::Duration;

use crate::packet::{Packet, number, pairs};
use crate::request::{Mode, ReadRequest};

/// A known option with a valid value, as asked by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `blksize`, 8 to 65464 bytes (RFC 2348).
    BlockSize(u16),
    /// `tsize` (RFC 2349). The number in a read request means nothing: some ask with 0, U-Boot with what it knows.
    TransferSize,
    /// `timeout`, 1 to 255 seconds (RFC 2349).
    Timeout(u8),
    /// `windowsize`, 1 to 65535 blocks (RFC 7440).
    WindowSize(u16),
}

/// An option as the server accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Bytes in each block but the last; at most what was asked.
    BlockSize(u16),
    /// Bytes of the file.
    TransferSize(u64),
    /// Seconds between resends; exactly what was asked.
    Timeout(u8),
    /// Blocks sent for one ACK; at most what was asked.
    WindowSize(u16),
}

/// How far the server goes along with a client's wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest block, in bytes. The caller has already taken the path's MTU into account: DATA in an IPv4 datagram
    /// has 32 bytes before the payload. Below 512 it counts as 512, the size that needs no asking.
    pub block_size_max: u16,
    /// The most blocks sent for one ACK. Above 64 nothing is gained (RFC 7440 §6).
    pub window_max: u16,
    /// The most bytes of DATA on the way at once, headers included. At least one block always is.
    pub in_flight_max: u32,
    /// The longest `timeout` accepted. A longer one would let a client that left hold its transfer; it goes unanswered.
    pub timeout_max: u8,
}

/// The outcome of a negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Bytes in each block but the last.
    pub block_size: u16,
    /// Blocks sent for one ACK.
    pub window: u16,
    /// The interval of resends that the client asked for, instead of the measured one.
    pub timeout: Option<Duration>,
    /// How long a client may be silent once it has answered at all.
    pub patience: Duration,
    /// The options to acknowledge, in the client's order; none means there is no OACK and DATA 1 comes first.
    pub answers: Vec<Answer>,
}

impl Asked {
    /// `None` for an unknown option or an invalid value: both are left out of the OACK, which every client understands;
    /// ERROR 8 would end the boot.
    pub(crate) fn parse(name: &[u8], value: &[u8]) -> Option<Self> {
        let value = number(value)?;
        match name.to_ascii_lowercase().as_slice() {
            b"blksize" => u16::try_from(value).ok().filter(|size| BLOCK_SIZES.contains(size)).map(Self::BlockSize),
            b"tsize" => Some(Self::TransferSize),
            b"timeout" => u8::try_from(value).ok().filter(|&seconds| seconds > 0).map(Self::Timeout),
            b"windowsize" => u16::try_from(value).ok().filter(|&blocks| blocks > 0).map(Self::WindowSize),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BlockSize(_) => "blksize",
            Self::TransferSize => "tsize",
            Self::Timeout(_) => "timeout",
            Self::WindowSize(_) => "windowsize",
        }
    }

    pub(crate) fn encode_into(self, bytes: &mut Vec<u8>) {
        let value = match self {
            Self::BlockSize(size) => size.into(),
            Self::TransferSize => 0,
            Self::Timeout(seconds) => seconds.into(),
            Self::WindowSize(blocks) => blocks.into(),
        };
        encode_pair(self.name(), value, bytes);
    }
}

impl Answer {
    const fn parts(self) -> (&'static str, u64) {
        match self {
            Self::BlockSize(size) => ("blksize", size as u64),
            Self::TransferSize(size) => ("tsize", size),
            Self::Timeout(seconds) => ("timeout", seconds as u64),
            Self::WindowSize(blocks) => ("windowsize", blocks as u64),
        }
    }
}

/// As events and the verb `get` print it: `blksize=1468`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = self.parts();
        write!(f, "{name}={value}")
    }
}

impl ReadRequest {
    /// Settles the options for a file of `size` bytes.
    ///
    /// Only what was asked is answered, in the order asked: pxelinux takes any other option for an error, UEFI aborts.
    #[must_use]
    pub fn negotiate(&self, limits: &Limits, size: u64) -> Agreed {
        let mut agreed = Agreed { patience: self.patience(), ..Agreed::default() };
        // The window is counted in bytes too, so the block size comes first whatever the client's order.
        for asked in &self.options {
            if let Asked::BlockSize(size) = *asked {
                agreed.block_size = size.min(limits.block_size_max.max(Agreed::default().block_size));
            }
        }
        let in_flight = limits.in_flight_max / (u32::from(agreed.block_size) + 4);
        let window_max = limits.window_max.min(u16::try_from(in_flight).unwrap_or(u16::MAX)).max(1);
        for asked in &self.options {
            match *asked {
                Asked::BlockSize(_) => agreed.answers.push(Answer::BlockSize(agreed.block_size)),
                // How long the text will be once translated, the client can't use and we would have to count.
                Asked::TransferSize if self.mode == Mode::Netascii => {}
                Asked::TransferSize => agreed.answers.push(Answer::TransferSize(size)),
                Asked::Timeout(seconds) if seconds > limits.timeout_max => {}
                Asked::Timeout(seconds) => {
                    agreed.timeout = Some(Duration::from_secs(seconds.into()));
                    agreed.answers.push(Answer::Timeout(seconds));
                }
                Asked::WindowSize(blocks) => {
                    agreed.window = blocks.min(window_max);
                    agreed.answers.push(Answer::WindowSize(agreed.window));
                }
            }
        }
        agreed
    }

    /// GRUB stops sending ACKs while 50 packets wait for its reader (grub-core/net/tftp.c), which may be unpacking; its
    /// request is known by its block size.
    fn patience(&self) -> Duration {
        let grub = [Asked::BlockSize(1024), Asked::TransferSize];
        Duration::from_secs(if self.options == grub { 60 } else { 30 })
    }
}

/// What holds when nothing was asked: RFC 1350.
impl Default for Agreed {
    fn default() -> Self {
        Self { block_size: 512, window: 1, timeout: None, patience: Duration::from_secs(30), answers: Vec::new() }
    }
}

impl Agreed {
    /// The OACK to send; `None` where DATA 1 comes first.
    #[must_use]
    pub fn oack(&self) -> Option<Vec<u8>> {
        if self.answers.is_empty() {
            return None;
        }
        let mut options = Vec::new();
        for (name, value) in self.answers.iter().map(|answer| answer.parts()) {
            encode_pair(name, value, &mut options);
        }
        Some(Packet::Oack { options: &options }.encode())
    }

    /// Reads the options of an OACK as the client that asked `asked`; `None` if the server answers what was not asked,
    /// or more than was asked.
    pub(crate) fn accept(asked: &[Asked], options: &[u8]) -> Option<Self> {
        let mut agreed = Self::default();
        for (name, value) in pairs(options) {
            let value = number(value)?;
            let asked = asked.iter().find(|asked| name.eq_ignore_ascii_case(asked.name().as_bytes()))?;
            let answer = match *asked {
                Asked::BlockSize(most) => {
                    agreed.block_size = u16::try_from(value).ok().filter(|size| (8..=most).contains(size))?;
                    Answer::BlockSize(agreed.block_size)
                }
                Asked::TransferSize => Answer::TransferSize(value),
                Asked::Timeout(seconds) if value == u64::from(seconds) => {
                    agreed.timeout = Some(Duration::from_secs(value));
                    Answer::Timeout(seconds)
                }
                Asked::Timeout(_) => return None,
                Asked::WindowSize(most) => {
                    agreed.window = u16::try_from(value).ok().filter(|blocks| (1..=most).contains(blocks))?;
                    Answer::WindowSize(agreed.window)
                }
            };
            agreed.answers.push(answer);
        }
        Some(agreed)
    }
}

fn encode_pair(name: &str, value: u64, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(value.to_string().as_bytes());
    bytes.push(0);
}

/// RFC 2348.
const BLOCK_SIZES: std::ops::RangeInclusive<u16> = 8..=65464;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { block_size_max: 1468, window_max: 64, in_flight_max: 65_507, timeout_max: 10 };

    /// The OACK for `options` of a request for a file of 100,000 bytes.
    fn oack(limits: Limits, options: &[u8]) -> String {
        let request = [b"\0\x01f\0octet\0", options].concat();
        let agreed = ReadRequest::parse(&request).unwrap().negotiate(&limits, 100_000);
        agreed.answers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn asked_and_answered() {
        for (asked, answered) in [
            (&b""[..], ""),
            (b"tsize\x000\0", "tsize=100000"),
            (b"tsize\x0042\0", "tsize=100000"),
            (b"tsize\x000\0blksize\x001408\0", "tsize=100000 blksize=1408"),
            (b"blksize\x001408\0tsize\x000\0", "blksize=1408 tsize=100000"),
            (b"blksize\x0065464\0", "blksize=1468"),
            (b"blksize\x008\0", "blksize=8"),
            (b"blksize\x007\0tsize\x000\0", "tsize=100000"),
            (b"blksize\x0065465\0", ""),
            (b"timeout\x005\0", "timeout=5"),
            (b"timeout\x000\0", ""),
            (b"timeout\x0011\0", ""),
            (b"timeout\x00256\0", ""),
            (b"windowsize\x004\0", "windowsize=4"),
            (b"windowsize\x000\0", ""),
            (b"windowsize\x0065535\0", "windowsize=64"),
            (b"windowsize\x0065535\0blksize\x001468\0", "windowsize=44 blksize=1468"),
            (b"multicast\0\0tsize\x000\0", "tsize=100000"),
        ] {
            assert_eq!(oack(LIMITS, asked), answered, "{}", asked.escape_ascii());
        }
    }

    #[test]
    fn one_block_always_fits_and_512_needs_no_asking() {
        let tight = Limits { block_size_max: 100, in_flight_max: 100, ..LIMITS };
        assert_eq!(oack(tight, b"blksize\x001468\0windowsize\x0016\0"), "blksize=512 windowsize=1");
        assert_eq!(oack(tight, b"blksize\x00200\0"), "blksize=200", "never more than asked");
    }

    #[test]
    fn text_has_no_size() {
        let request = ReadRequest::parse(b"\0\x01f\0netascii\0tsize\x000\0blksize\x00600\0").unwrap();
        assert_eq!(request.negotiate(&LIMITS, 9).answers, [Answer::BlockSize(600)]);
    }

    #[test]
    fn sizes_past_4_gib() {
        let request = ReadRequest::parse(b"\0\x01f\0octet\0tsize\x000\0").unwrap();
        let oack = request.negotiate(&LIMITS, 5 << 32).oack().unwrap();
        assert_eq!(oack, b"\0\x06tsize\x0021474836480\0");
    }

    #[test]
    fn grub_is_given_more_time() {
        let patience = |options: &[u8]| {
            let request = [b"\0\x01f\0octet\0", options].concat();
            ReadRequest::parse(&request).unwrap().negotiate(&LIMITS, 1).patience.as_secs()
        };
        assert_eq!(patience(b"blksize\x001024\0tsize\x000\0"), 60);
        assert_eq!(patience(b"blksize\x001432\0tsize\x000\0"), 30);
    }

    #[test]
    fn a_client_checks_the_oack() {
        let asked = [Asked::BlockSize(1468), Asked::WindowSize(16), Asked::Timeout(2), Asked::TransferSize];
        let agreed = Agreed::accept(&asked, b"BlkSize\x001400\0windowsize\x004\0tsize\x00123456789012\0").unwrap();
        assert_eq!((agreed.block_size, agreed.window, agreed.timeout), (1400, 4, None));
        assert_eq!(agreed.answers[2], Answer::TransferSize(123_456_789_012));
        for bad in
            [&b"blksize\x001469\0"[..], b"blksize\x007\0", b"windowsize\x000\0", b"timeout\x003\0", b"multicast\0x\0"]
        {
            assert_eq!(Agreed::accept(&asked, bad), None, "{}", bad.escape_ascii());
        }
        assert_eq!(Agreed::accept(&asked[..1], b"tsize\x001\0"), None, "not asked");
    }
}
