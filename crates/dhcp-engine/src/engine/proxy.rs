//! Beside a server that gives the addresses: what to boot, on port 67 and, for who asks there, on port 4011.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{MessageType, OptionCode};

use super::Engine;
use super::exchange::Exchange;
use crate::boot::{BootVerdict, Part, is_answered};
use crate::outcome::{Decision, Destination, IgnoreReason, Verdict};

/// Sub-option of option 43: the boot server and layer that the client has chosen (PXE 2.1 table 2-3, "PXE_BOOT_ITEM").
const BOOT_ITEM: u8 = 71;

/// Asks for a file's credentials instead of the file (PXE 2.1 table 2-3): nobody ever implemented that.
const CREDENTIALS: u8 = 0x80;

impl Engine {
    /// ProxyDHCP: a DISCOVER is answered with what to boot and without an address. Everything else is between the client and
    /// the server whose address it takes.
    pub(super) fn proxy(&self, exchange: &Exchange<'_>) -> Result<Decision, IgnoreReason> {
        if exchange.request.options.message_type() != Some(MessageType::Discover) {
            return Err(IgnoreReason::AddressElsewhere);
        }
        if !is_answered(exchange.client.class, Part::Proxy) {
            return Err(IgnoreReason::NotBooting);
        }
        let mut reply = exchange.reply(Some(MessageType::Offer));
        exchange.echo_identifier(&mut reply);
        let boot = exchange.add_boot(self, Part::Proxy, &mut reply);
        if matches!(boot, BootVerdict::Nothing(_)) {
            // An offer without a file would end the wait for a proxy that has one.
            return Ok(exchange.decision(self, Verdict::NothingToAdd, None, boot, Vec::new()));
        }
        // The client has no address, and the one that it will have is not ours to know.
        let to = if exchange.request.is_relayed() { exchange.to_relay() } else { Destination::Broadcast };
        exchange.send(self, Verdict::ProxyOffer, None, boot, reply, to)
    }

    /// Port 4011: a client that has its address asks for the file.
    pub(super) fn boot_server(&self, exchange: &Exchange<'_>) -> Result<Decision, IgnoreReason> {
        if !matches!(exchange.request.options.message_type(), Some(MessageType::Request | MessageType::Inform)) {
            return Err(IgnoreReason::UnsupportedMessage);
        }
        if !is_answered(exchange.client.class, Part::BootServer) {
            return Err(IgnoreReason::NotBooting);
        }
        let item = boot_item(exchange.request.options.raw(OptionCode::VendorExtensions).unwrap_or_default());
        if item.is_some_and(|item| item[2] & CREDENTIALS != 0) {
            return Err(IgnoreReason::NotBooting);
        }
        let mut reply = exchange.reply(Some(MessageType::Ack));
        reply.ciaddr(exchange.request.ciaddr);
        exchange.echo_identifier(&mut reply);
        let boot = exchange.add_boot(self, Part::BootServer, &mut reply);
        if matches!(boot, BootVerdict::Nothing(_)) {
            return Ok(exchange.decision(self, Verdict::NothingToAdd, None, boot, Vec::new()));
        }
        if let Some(item) = item {
            // A client that chose an item boots only what is confirmed as that item.
            let [a, b, c, d] = item;
            reply.replace_raw_option(OptionCode::VendorExtensions, &[BOOT_ITEM, 4, a, b, c, d, 255]);
        }
        let source = exchange.from.source;
        let to = match source.ip().is_unspecified() {
            true => Destination::Broadcast,
            false => Destination::Unicast(source),
        };
        exchange.send(self, Verdict::BootServer, client_address(exchange.request.ciaddr, source), boot, reply, to)
    }
}

fn client_address(ciaddr: Ipv4Addr, source: SocketAddrV4) -> Option<Ipv4Addr> {
    [ciaddr, *source.ip()].into_iter().find(|address| !address.is_unspecified())
}

/// Type and layer of the chosen item.
fn boot_item(mut vendor_options: &[u8]) -> Option<[u8; 4]> {
    const PAD: u8 = 0;
    loop {
        match vendor_options {
            [PAD, rest @ ..] => vendor_options = rest,
            [BOOT_ITEM, 4, a, b, c, d, ..] => return Some([*a, *b, *c, *d]),
            [_, length, rest @ ..] => vendor_options = rest.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}
