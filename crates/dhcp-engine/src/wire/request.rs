use std::net::Ipv4Addr;

use boot_model::MacAddr;
use dhcproto::v4::OptionCode;
use thiserror::Error;

use super::{FILE, FIXED, MAGIC, Options, SNAME};

/// One message of a client, possibly forwarded by a relay. Fields are those of RFC 2131 §2.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Kind of hardware address; 1 is Ethernet.
    pub htype: u8,
    /// Bytes of `chaddr` that count, at most 16.
    pub hlen: u8,
    /// Transaction, repeated in the reply.
    pub xid: u32,
    /// Seconds since the client began, in theory; iPXE keeps state bits here.
    pub secs: u16,
    /// The flags field; see [`Request::wants_broadcast`].
    pub flags: u16,
    /// The address that the client has, where it has one.
    pub ciaddr: Ipv4Addr,
    /// The relay that forwarded the message; unspecified if none did.
    pub giaddr: Ipv4Addr,
    /// The whole hardware address field, echoed as it is.
    pub chaddr: [u8; 16],
    /// The options, of all fields that carry some.
    pub options: Options<'a>,
}

/// These bytes are no request of a DHCP or BOOTP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MalformedRequest {
    /// Shorter than the fixed part.
    #[error("{0} bytes are too short for a DHCP message, which has at least {FIXED}")]
    TooShort(usize),
    /// Not sent by a client.
    #[error("the op field is {0}, not 1 (BOOTREQUEST)")]
    NotARequest(u8),
    /// The hardware address cannot be that long. dhcproto would panic here.
    #[error("the hardware address has {0} bytes, at most 16 fit")]
    HardwareLength(u8),
    /// Plain BOOTP (RFC 951) without vendor extensions, or no DHCP at all.
    #[error("the magic cookie 63 82 53 63 is missing")]
    NoMagic,
}

impl<'a> Request<'a> {
    /// Reads the payload of a datagram. Never panics; every accessor of the result is safe on any input.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedRequest> {
        let Some((fixed, options)) = bytes.split_first_chunk::<FIXED>() else {
            return Err(MalformedRequest::TooShort(bytes.len()));
        };
        if fixed[0] != 1 {
            return Err(MalformedRequest::NotARequest(fixed[0]));
        }
        if fixed[2] > 16 {
            return Err(MalformedRequest::HardwareLength(fixed[2]));
        }
        if fixed[FIXED - 4..] != MAGIC {
            return Err(MalformedRequest::NoMagic);
        }
        let mut chaddr = [0; 16];
        chaddr.copy_from_slice(&fixed[28..44]);
        Ok(Self {
            htype: fixed[1],
            hlen: fixed[2],
            xid: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            secs: u16::from_be_bytes([fixed[8], fixed[9]]),
            flags: u16::from_be_bytes([fixed[10], fixed[11]]),
            ciaddr: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            giaddr: Ipv4Addr::new(fixed[24], fixed[25], fixed[26], fixed[27]),
            chaddr,
            options: Options::read(options, &fixed[FILE], &fixed[SNAME]),
        })
    }

    /// The client's Ethernet address, if it has one that a single machine can have.
    pub fn mac(&self) -> Option<MacAddr> {
        let [a, b, c, d, e, f, ..] = self.chaddr;
        let group = a & 1 == 1;
        let mac = MacAddr::new([a, b, c, d, e, f]);
        (self.htype == 1 && self.hlen == 6 && !group && mac.bytes() != [0; 6]).then_some(mac)
    }

    /// The part of `chaddr` that counts.
    pub fn hardware_address(&self) -> &[u8] {
        &self.chaddr[..usize::from(self.hlen.min(16))]
    }

    /// The client cannot receive unicast before its address is configured (RFC 2131 §4.1).
    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Whether a relay forwarded this.
    pub fn is_relayed(&self) -> bool {
        !self.giaddr.is_unspecified()
    }

    /// Option 82 as the relay wrote it. It goes back byte for byte: dhcproto would sort its sub-options.
    pub fn relay_information(&self) -> Option<&[u8]> {
        self.options.raw(OptionCode::RelayAgentInformation)
    }

    /// One sub-option of option 82 (RFC 3046 §2.0).
    pub fn relay_sub_option(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = self.relay_information()?;
        while let [code, length, tail @ ..] = rest {
            let (value, tail) = tail.split_at_checked(usize::from(*length))?;
            if *code == wanted {
                return Some(value);
            }
            rest = tail;
        }
        None
    }

    /// The relay's name for the wire that the client is on (RFC 3046 §3.1).
    pub fn circuit(&self) -> Option<&[u8]> {
        const CIRCUIT_ID: u8 = 1;
        self.relay_sub_option(CIRCUIT_ID)
    }

    /// A sub-option of option 82 that holds an address.
    pub(crate) fn relay_address(&self, wanted: u8) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.relay_sub_option(wanted)?).ok().map(Ipv4Addr::from)
    }
}
