use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, OptionCode};
use dhcproto::{Encodable, Encoder};
use thiserror::Error;

use super::options::push_framed;
use super::overload::{self, Overload};
use super::{END, FILE, FIXED, MAGIC, Request, SNAME};

/// The shortest reply that leaves us. OpenBSD's and OPNsense's relays discard shorter ones (opnsense/core#7744).
const SHORTEST: usize = 300;

/// IPv4 and UDP headers, which option 57 may or may not mean to include: counted, to be safe.
const HEADERS: u16 = 28;

/// What an option 57 may ask for: the least that every client must accept (RFC 2132 §9.10), and an Ethernet frame.
/// OVMF 2022.11 sends 65280 in its PXE REQUEST.
const MESSAGE_SIZES: (u16, u16) = (576, 1500);

/// What is left out first when a reply grows too long, least useful first. Options that are not listed always stay.
const DROPPED_FIRST: [OptionCode; 16] = [
    OptionCode::Unknown(114),
    OptionCode::Unknown(108),
    OptionCode::NtpServers,
    OptionCode::DomainSearch,
    OptionCode::DomainName,
    OptionCode::Hostname,
    OptionCode::BroadcastAddr,
    OptionCode::Unknown(249),
    OptionCode::ClasslessStaticRoute,
    OptionCode::Unknown(150),
    OptionCode::DomainNameServer,
    OptionCode::Rebinding,
    OptionCode::Renewal,
    OptionCode::ClientIdentifier,
    OptionCode::ClientMachineIdentifier,
    OptionCode::VendorExtensions,
];

/// A reply being put together. Options leave in the order in which they were added: firmware exists that wants 53 first.
#[derive(Debug, Clone)]
pub struct Reply {
    fixed: [u8; FIXED],
    options: Vec<(u8, Vec<u8>)>,
    relay_information: Vec<u8>,
    limit: usize,
    may_overload: bool,
}

/// Even without everything that may be left out, the reply is longer than a frame or than the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the reply would have {0} bytes, more than the client or the network takes")]
pub struct TooLarge(pub usize);

impl Reply {
    /// An empty reply to this request: its transaction, hardware address, flags and relay, and its option 82, which will stand
    /// last (RFC 3046 §2.1).
    pub fn to(request: &Request<'_>) -> Self {
        let mut fixed = [0; FIXED];
        fixed[0] = 2;
        fixed[1] = request.htype;
        fixed[2] = request.hlen;
        fixed[4..8].copy_from_slice(&request.xid.to_be_bytes());
        fixed[10..12].copy_from_slice(&request.flags.to_be_bytes());
        fixed[24..28].copy_from_slice(&request.giaddr.octets());
        fixed[28..44].copy_from_slice(&request.chaddr);
        fixed[FIXED - 4..].copy_from_slice(&MAGIC);
        let mut relay_information = Vec::new();
        if let Some(value) = request.relay_information() {
            push_framed(&mut relay_information, OptionCode::RelayAgentInformation.into(), value);
        }
        let (least, most) = MESSAGE_SIZES;
        let size = request.options.max_message_size().unwrap_or(least).clamp(least, most);
        let limit = usize::from(size - HEADERS);
        Self { fixed, options: Vec::with_capacity(16), relay_information, limit, may_overload: false }
    }

    /// Sets the address that the client has, in replies to one that has an address.
    pub fn ciaddr(&mut self, address: Ipv4Addr) {
        self.fixed[12..16].copy_from_slice(&address.octets());
    }

    /// Sets the address that the client is given.
    pub fn yiaddr(&mut self, address: Ipv4Addr) {
        self.fixed[16..20].copy_from_slice(&address.octets());
    }

    /// Sets the server that the boot file comes from.
    pub fn siaddr(&mut self, address: Ipv4Addr) {
        self.fixed[20..24].copy_from_slice(&address.octets());
    }

    /// Tells a relay to broadcast the reply (RFC 2131 §4.3.2, NAK).
    pub fn set_broadcast(&mut self) {
        self.fixed[10] |= 0x80;
    }

    /// Sets `sname`, if the name fits with its NUL.
    pub fn sname(&mut self, name: &str) {
        fill(&mut self.fixed[SNAME], name.as_bytes());
    }

    /// Sets `file`, if the name fits with its NUL; longer ones travel in option 67 only.
    pub fn file(&mut self, name: &str) {
        fill(&mut self.fixed[FILE], name.as_bytes());
    }

    /// Lets options that do not fit travel in `file` and `sname`, if these are left empty. Not for firmware: old ROMs read names
    /// there whatever option 52 says (dnsmasq has `--dhcp-no-override` for them).
    pub fn allow_overload(&mut self) {
        self.may_overload = true;
    }

    /// Adds an option in dhcproto's type.
    pub fn option(&mut self, option: &DhcpOption) {
        let mut framed = Vec::with_capacity(8);
        // Encoding into a growing buffer fails only for values that no caller builds (names over 255 bytes); such an option is
        // left out rather than sent in half.
        if option.encode(&mut Encoder::new(&mut framed)).is_ok() {
            self.options.push((OptionCode::from(option).into(), framed));
        }
    }

    /// Adds an option by its bytes.
    pub fn raw_option(&mut self, code: impl Into<u8>, value: &[u8]) {
        let code = code.into();
        let mut framed = Vec::with_capacity(value.len() + 2);
        push_framed(&mut framed, code, value);
        self.options.push((code, framed));
    }

    /// Puts an option's bytes where the option stands, or behind all others.
    pub fn replace_raw_option(&mut self, code: impl Into<u8>, value: &[u8]) {
        let code = code.into();
        let mut framed = Vec::with_capacity(value.len() + 2);
        push_framed(&mut framed, code, value);
        match self.options.iter_mut().find(|(other, _)| *other == code) {
            Some((_, old)) => *old = framed,
            None => self.options.push((code, framed)),
        }
    }

    /// The datagram's payload: options in order, option 82 last, padded. What the client sees keeps to its option 57; option
    /// 82, which the relay takes off, comes on top as long as the whole fits a frame.
    pub fn encode(mut self) -> Result<Vec<u8>, TooLarge> {
        let mut droppable = DROPPED_FIRST.into_iter().map(u8::from);
        while !self.fits(0) {
            if let Some(overloaded) = self.overloaded() {
                self = overloaded;
                break;
            }
            let Some(code) = droppable.next() else {
                return Err(TooLarge(self.client_part() + self.relay_information.len()));
            };
            self.options.retain(|(other, _)| *other != code);
        }
        let mut bytes = Vec::with_capacity(SHORTEST.max(self.client_part() + self.relay_information.len()));
        bytes.extend_from_slice(&self.fixed);
        for (_, framed) in &self.options {
            bytes.extend_from_slice(framed);
        }
        bytes.extend_from_slice(&self.relay_information);
        bytes.push(END);
        if bytes.len() < SHORTEST {
            bytes.resize(SHORTEST, 0);
        }
        Ok(bytes)
    }

    /// The same with as many of the last options in `file` and `sname` as it takes to fit, if that may be and is enough.
    fn overloaded(&self) -> Option<Self> {
        let names = SNAME.start..FILE.end;
        if !self.may_overload || self.fixed[names].iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut reply = self.clone();
        let mut fields = Overload::default();
        // The first one is the message type, which clients look for at its place.
        for at in (1..reply.options.len()).rev() {
            if fields.take(&reply.options[at].1) {
                reply.options.remove(at);
            }
            if reply.fits(overload::LENGTH) {
                let option = fields.write(&mut reply.fixed);
                reply.options.push((option[0], option.to_vec()));
                return Some(reply);
            }
        }
        None
    }

    fn fits(&self, more: usize) -> bool {
        let client = self.client_part() + more;
        client <= self.limit && client + self.relay_information.len() <= usize::from(MESSAGE_SIZES.1 - HEADERS)
    }

    fn client_part(&self) -> usize {
        FIXED + self.options.iter().map(|(_, framed)| framed.len()).sum::<usize>() + 1
    }
}

fn fill(field: &mut [u8], text: &[u8]) {
    if text.len() < field.len() {
        field.fill(0);
        field[..text.len()].copy_from_slice(text);
    }
}
