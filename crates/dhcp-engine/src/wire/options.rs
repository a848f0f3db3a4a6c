use std::borrow::Cow;
use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::{END, PAD};

/// The options of one message: values as they came, repeated codes joined (RFC 3396).
///
/// A value is decoded only when somebody asks for it, so an option that makes no sense costs itself and nothing else.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    entries: Vec<(u8, Cow<'a, [u8]>)>,
    /// Where in `entries` a code stands; `ABSENT` if it does not. Keeps the scan linear for a message of 600 empty options.
    position: [u8; 256],
}

const ABSENT: u8 = u8::MAX;

impl<'a> Options<'a> {
    /// Reads the options field, then, where option 52 says so, `file` and `sname` in this order (RFC 3396 §5: the fields
    /// count as one buffer). A length that points beyond its field ends that field; what was read is kept.
    pub(super) fn read(options: &'a [u8], file: &'a [u8], sname: &'a [u8]) -> Self {
        let mut read = Self { entries: Vec::with_capacity(16), position: [ABSENT; 256] };
        read.scan(options);
        let overload = match read.decode(OptionCode::OptionOverload) {
            Some(DhcpOption::OptionOverload(fields)) => fields,
            _ => 0,
        };
        if matches!(overload, 1 | 3) {
            read.scan(file);
        }
        if matches!(overload, 2 | 3) {
            read.scan(sname);
        }
        read
    }

    /// The value as it came, if the option was sent.
    pub fn raw(&self, code: impl Into<u8>) -> Option<&[u8]> {
        let at = self.position[usize::from(code.into())];
        self.entries.get(usize::from(at)).map(|(_, value)| &**value)
    }

    /// The option in dhcproto's type, if it was sent and makes sense.
    pub fn decode(&self, code: OptionCode) -> Option<DhcpOption> {
        let number = u8::from(code);
        let value = self.raw(number)?;
        if !length_fits(code, value.len()) {
            return None;
        }
        // dhcproto joins adjacent equal codes itself, so a joined value travels as adjacent chunks.
        let mut framed = Vec::with_capacity(value.len() + 2);
        push_framed(&mut framed, number, value);
        DhcpOption::decode(&mut Decoder::new(&framed)).ok()
    }

    /// Every code that was sent, in the order of first appearance.
    pub fn codes(&self) -> impl Iterator<Item = u8> {
        self.entries.iter().map(|(code, _)| *code)
    }

    /// Option 53.
    pub fn message_type(&self) -> Option<MessageType> {
        match self.decode(OptionCode::MessageType)? {
            DhcpOption::MessageType(message_type) => Some(message_type),
            _ => None,
        }
    }

    /// An option that holds one address: 50, 54, 118.
    pub fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        match self.decode(code)? {
            DhcpOption::RequestedIpAddress(a) | DhcpOption::ServerIdentifier(a) | DhcpOption::SubnetSelection(a) => {
                Some(a)
            }
            _ => None,
        }
    }

    /// Option 57, as sent: firmware sends nonsense here (OVMF 2022.11: 65280), see [`Reply`](super::Reply).
    pub fn max_message_size(&self) -> Option<u16> {
        match self.decode(OptionCode::MaxMessageSize)? {
            DhcpOption::MaxMessageSize(size) => Some(size),
            _ => None,
        }
    }

    fn scan(&mut self, mut field: &'a [u8]) {
        loop {
            match field {
                [PAD, rest @ ..] => field = rest,
                [code, length, rest @ ..] if *code != END => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
                    self.add(*code, value);
                    field = rest;
                }
                _ => return,
            }
        }
    }

    fn add(&mut self, code: u8, value: &'a [u8]) {
        let at = &mut self.position[usize::from(code)];
        match self.entries.get_mut(usize::from(*at)) {
            Some((_, joined)) => joined.to_mut().extend_from_slice(value),
            None => {
                // At most 254 codes exist besides pad and end, so the position never reaches ABSENT.
                *at = self.entries.len() as u8;
                self.entries.push((code, Cow::Borrowed(value)));
            }
        }
    }
}

/// Appends an option, split where its value is longer than 255 bytes (RFC 3396).
pub(super) fn push_framed(to: &mut Vec<u8>, code: u8, value: &[u8]) {
    if value.is_empty() {
        to.extend([code, 0]);
    }
    for chunk in value.chunks(255) {
        to.extend([code, chunk.len() as u8]);
        to.extend_from_slice(chunk);
    }
}

/// Whether dhcproto may see a value of this length. It ignores surplus bytes of fixed-size options, and asserts the length of
/// some in debug builds, where a wrong one would be a panic.
fn length_fits(code: OptionCode, length: usize) -> bool {
    match code {
        OptionCode::RapidCommit => length == 0,
        OptionCode::MessageType | OptionCode::OptionOverload => length == 1,
        OptionCode::MaxMessageSize => length == 2,
        OptionCode::ClientNetworkInterface => length == 3,
        OptionCode::ClientFQDN => length >= 3,
        OptionCode::AddressLeaseTime
        | OptionCode::BulkLeaseQueryBaseTime
        | OptionCode::BulkLeasQueryStartTimeOfState
        | OptionCode::BulkLeaseQueryQueryStartTime
        | OptionCode::BulkLeaseQueryQueryEndTime => length == 4,
        _ => true,
    }
}
