//! Replies: their options and where they go.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

use super::exchange::Exchange;
use super::{Engine, ServerPort};
use crate::boot::{self, BootVerdict, Part};
use crate::client::ClientClass;
use crate::outcome::{AckReason, Choice, Decision, Destination, Effect, IgnoreReason, NakReason, Verdict};
use crate::wire::Reply;

const CLIENT_PORT: u16 = 68;

/// The relay asks for replies to the port that it sent from (RFC 8357 §4).
const RELAY_SOURCE_PORT: u8 = 19;

impl Exchange<'_> {
    pub(super) fn answer_offer(
        &self,
        engine: &Engine,
        address: Ipv4Addr,
        choice: Choice,
    ) -> Result<Decision, IgnoreReason> {
        let seconds = engine.policy.subnets[self.place].lease_seconds;
        let mut reply = self.reply(Some(MessageType::Offer));
        reply.yiaddr(address);
        self.add_times(&mut reply, seconds.into());
        let boot = self.add_options(engine, &mut reply);
        self.send(engine, Verdict::Offer(choice), Some(address), boot, reply, self.to_client(address, None))
    }

    pub(super) fn answer_ack(
        &self,
        engine: &Engine,
        address: Ipv4Addr,
        seconds: u64,
        reason: AckReason,
    ) -> Result<Decision, IgnoreReason> {
        let ciaddr = Some(self.request.ciaddr).filter(|ciaddr| *ciaddr == address);
        let mut reply = self.reply(Some(MessageType::Ack));
        reply.yiaddr(address);
        if let Some(ciaddr) = ciaddr {
            reply.ciaddr(ciaddr);
        }
        if reason == AckReason::RapidCommit {
            reply.raw_option(OptionCode::RapidCommit, &[]);
        }
        self.add_times(&mut reply, seconds);
        let boot = self.add_options(engine, &mut reply);
        let verdict = Verdict::Ack(reason, seconds);
        self.send(engine, verdict, Some(address), boot, reply, self.to_client(address, ciaddr))
    }

    /// A NAK has no address field and few options (RFC 2131 table 3). The client has no address that it could be reached at, so
    /// it is broadcast, by the relay too (§4.3.2).
    pub(super) fn answer_nak(
        &self,
        engine: &Engine,
        address: Ipv4Addr,
        reason: NakReason,
    ) -> Result<Decision, IgnoreReason> {
        let mut reply = self.reply(Some(MessageType::Nak));
        reply.option(&DhcpOption::Message(reason.to_string()));
        self.echo_identifier(&mut reply);
        let to = if self.request.is_relayed() {
            reply.set_broadcast();
            self.to_relay()
        } else {
            Destination::Broadcast
        };
        self.send(engine, Verdict::Nak(reason), Some(address), BootVerdict::NotAsked, reply, to)
    }

    pub(super) fn answer_inform(&self, engine: &Engine, address: Ipv4Addr) -> Result<Decision, IgnoreReason> {
        let mut reply = self.reply(Some(MessageType::Ack));
        reply.ciaddr(self.request.ciaddr);
        let boot = self.add_options(engine, &mut reply);
        self.send(engine, Verdict::Informed, Some(address), boot, reply, self.to_client(address, Some(address)))
    }

    pub(super) fn answer_bootp(&self, engine: &Engine, address: Ipv4Addr) -> Result<Decision, IgnoreReason> {
        let mut reply = self.reply(None);
        reply.yiaddr(address);
        let boot = self.add_options(engine, &mut reply);
        let ciaddr = Some(self.request.ciaddr).filter(|ciaddr| *ciaddr == address);
        self.send(engine, Verdict::Bootp, Some(address), boot, reply, self.to_client(address, ciaddr))
    }

    pub(super) fn reply(&self, message_type: Option<MessageType>) -> Reply {
        let mut reply = Reply::to(self.request);
        if let Some(message_type) = message_type {
            reply.option(&DhcpOption::MessageType(message_type));
            reply.option(&DhcpOption::ServerIdentifier(self.server));
        }
        reply
    }

    /// Lease time, T1 at a half, T2 at seven eighths (RFC 2131 §4.4.5).
    fn add_times(&self, reply: &mut Reply, seconds: u64) {
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        reply.option(&DhcpOption::AddressLeaseTime(seconds));
        reply.option(&DhcpOption::Renewal(seconds / 2));
        reply.option(&DhcpOption::Rebinding(seconds / 8 * 7));
    }

    /// The subnet's options and what there is to boot. They are sent whether asked for in option 55 or not: the Raspberry Pi's
    /// ROM asks for neither 1 nor 3 and needs both, and HTTP firmware fills 55 with garbage.
    fn add_options(&self, engine: &Engine, reply: &mut Reply) -> BootVerdict {
        let subnet = &engine.policy.subnets[self.place];
        reply.option(&DhcpOption::SubnetMask(subnet.network.netmask()));
        self.add_routes(subnet, reply);
        if !subnet.routers.is_empty() {
            reply.option(&DhcpOption::Router(subnet.routers.clone()));
        }
        reply.option(&DhcpOption::BroadcastAddr(subnet.network.broadcast()));
        if !subnet.dns.is_empty() {
            reply.option(&DhcpOption::DomainNameServer(subnet.dns.clone()));
        }
        if let Some(domain) = &subnet.domain {
            reply.option(&DhcpOption::DomainName(domain.clone()));
        }
        if let Some(name) = self.host(engine).and_then(|host| host.name.as_ref()) {
            reply.option(&DhcpOption::Hostname(name.to_string()));
        }
        self.add_wished(subnet, reply);
        self.echo_identifier(reply);
        // Who sends this discards a reply without it (RFC 3011 §2).
        if let Some(network) = self.request.options.address(OptionCode::SubnetSelection) {
            reply.option(&DhcpOption::SubnetSelection(network));
        }
        if self.client.class == ClientClass::Plain {
            reply.allow_overload();
        }
        self.add_boot(engine, Part::Full, reply)
    }

    /// What there is to boot.
    pub(super) fn add_boot(&self, engine: &Engine, part: Part, reply: &mut Reply) -> BootVerdict {
        let boot = engine.boot_verdict(self.place, self.request, &self.client);
        let server = engine.policy.subnets[self.place].server;
        boot::add_to(reply, part, &boot, server, self.request, &self.client);
        boot
    }

    /// RFC 6842: the client's identifier goes back to it.
    pub(super) fn echo_identifier(&self, reply: &mut Reply) {
        if let Some(id) = self.request.options.raw(OptionCode::ClientIdentifier) {
            reply.raw_option(OptionCode::ClientIdentifier, id);
        }
    }

    pub(super) fn send(
        &self,
        engine: &Engine,
        verdict: Verdict,
        address: Option<Ipv4Addr>,
        boot: BootVerdict,
        reply: Reply,
        to: Destination,
    ) -> Result<Decision, IgnoreReason> {
        let reply = reply.encode().map_err(|_| IgnoreReason::ReplyTooLarge)?;
        let from = engine.policy.subnets[self.place].server;
        Ok(self.decision(engine, verdict, address, boot, vec![Effect::Send { reply, from, to }]))
    }

    /// RFC 2131 §4.1, for all but NAK: the relay, else the address that the client has, else everybody if it asks for that, else
    /// its hardware address. A client with other hardware than Ethernet gets a broadcast (InfiniBand: RFC 4390).
    fn to_client(&self, address: Ipv4Addr, ciaddr: Option<Ipv4Addr>) -> Destination {
        match (ciaddr, self.client.mac) {
            _ if self.request.is_relayed() => self.to_relay(),
            (Some(ciaddr), _) => Destination::Unicast(SocketAddrV4::new(ciaddr, CLIENT_PORT)),
            (None, Some(mac)) if !self.request.wants_broadcast() => Destination::LinkLayer { mac, address },
            _ => Destination::Broadcast,
        }
    }

    pub(super) fn to_relay(&self) -> Destination {
        let other_port = self.request.relay_sub_option(RELAY_SOURCE_PORT).is_some();
        let port = if other_port { self.from.source.port() } else { ServerPort::Dhcp.number() };
        Destination::Unicast(SocketAddrV4::new(self.request.giaddr, port))
    }
}
