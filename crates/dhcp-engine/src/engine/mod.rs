mod answer;
mod clock;
mod exchange;
mod options;
mod proxy;
mod request;

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::MacAddr;
use dhcproto::v4::{MessageType, OptionCode};

pub use clock::Now;

use crate::boot::BootVerdict;
use crate::client::ClientInfo;
use crate::guard::{self, RateGuard};
use crate::lease::{ClientKey, Lease, LeaseState};
use crate::outcome::{IgnoreReason, Outcome, Verdict};
use crate::policy::{Identity, Mode, Policy};
use crate::table::{Row, Table};
use crate::wire::Request;
use clock::Clock;
use exchange::Exchange;

/// The server's decisions: which address, which promise, which boot file.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    /// One per subnet of the policy, in its order.
    tables: Vec<Table>,
    clients: RateGuard,
    circuits: RateGuard,
    probes: RateGuard,
    clock: Clock,
    store_failing: bool,
}

/// How a message reached us.
#[derive(Debug, Clone, Copy)]
pub struct Ingress<'a> {
    /// The interface's name.
    pub interface: &'a str,
    /// The sender.
    pub source: SocketAddrV4,
    /// The address that it was sent to, ours or a broadcast address.
    pub destination: Ipv4Addr,
    /// The port that it was sent to; the reply leaves from it.
    pub port: ServerPort,
}

/// The ports that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerPort {
    /// 67: DHCP, BOOTP and ProxyDHCP.
    Dhcp,
    /// 4011: the boot server of PXE 2.1 §2.2.5.
    BootServer,
}

impl ServerPort {
    /// Its number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Dhcp => 67,
            Self::BootServer => 4011,
        }
    }
}

/// Sub-option of option 82: a network that the relay chose for the client (RFC 3527).
const LINK_SELECTION: u8 = 5;

/// How long a declined address stays out of use, in milliseconds.
const PROBATION: u64 = 3_600_000;

impl Engine {
    /// An engine that keeps the promises of these leases, as they were saved, oldest first. Leases of addresses that no subnet
    /// has any more are forgotten.
    pub fn new(policy: Policy, saved: impl IntoIterator<Item = Lease>, now: Now) -> Self {
        let saved: Vec<Lease> = saved.into_iter().collect();
        let clock = Clock::new(now, saved.iter().map(|lease| lease.written).max().unwrap_or(0));
        let tables = policy.subnets.iter().map(Table::new).collect();
        let mut engine = Self {
            policy,
            tables,
            clients: RateGuard::new(guard::CLIENT),
            circuits: RateGuard::new(guard::CIRCUIT),
            probes: RateGuard::single(guard::PROBES),
            clock,
            store_failing: false,
        };
        for lease in saved {
            engine.restore(lease, now);
        }
        engine
    }

    /// Decides about one message. Call it for every parsed request, in the order of arrival; carry out the effects in order and
    /// stop at the first that fails.
    pub fn handle(&mut self, now: Now, request: &Request<'_>, from: Ingress<'_>) -> Outcome {
        let client = ClientInfo::of(request);
        let Some(key) = self.key(request, &client) else { return Outcome::Ignore(IgnoreReason::NoIdentity) };
        if request.relay_information().is_some() && !request.is_relayed() {
            return Outcome::Ignore(IgnoreReason::StrayRelayInformation);
        }
        let message_type = request.options.message_type();
        let Some(place) = self.place(request, message_type, &client, from) else {
            return Outcome::Ignore(IgnoreReason::NoSubnet);
        };
        if !self.admit(request, &client, from, self.clock.ms(now)) {
            return Outcome::Ignore(IgnoreReason::RateLimited);
        }
        let mode = self.policy.subnets[place].mode;
        let exchange = Exchange::new(self, place, request, from, client, key, now);
        let decided = match message_type {
            _ if mode == Mode::Off => Err(IgnoreReason::AddressElsewhere),
            _ if from.port == ServerPort::BootServer => self.boot_server(&exchange),
            _ if mode == Mode::Proxy => self.proxy(&exchange),
            Some(MessageType::Discover) => self.discover(&exchange),
            Some(MessageType::Request) => self.request(&exchange),
            Some(MessageType::Decline) => self.decline(&exchange),
            Some(MessageType::Release) => self.release(&exchange),
            Some(MessageType::Inform) => self.inform(&exchange),
            None if request.options.raw(OptionCode::MessageType).is_none() => self.bootp(&exchange),
            _ => Err(IgnoreReason::UnsupportedMessage),
        };
        match decided {
            Ok(decision) => Outcome::Act(decision),
            Err(reason) => Outcome::Ignore(reason),
        }
    }

    /// To be told when leases are on disk, as they were in [`Effect::SaveLease`](crate::Effect). Until then they are written again
    /// each time they are promised.
    pub fn saved<'a>(&mut self, leases: impl IntoIterator<Item = &'a Lease>) {
        for lease in leases {
            if let Some(place) = self.policy.subnets.iter().position(|subnet| subnet.network.contains(lease.address)) {
                self.tables[place].saved(lease);
            }
        }
    }

    /// To be told when a probe was answered: somebody uses the address that was about to be offered. It is not given out for a
    /// while, and its client will be offered another; let it ask again, or hand its DISCOVER in again.
    pub fn in_use(&mut self, now: Now, address: Ipv4Addr) {
        let (ms, wall) = (self.clock.ms(now), self.clock.wall(now));
        if let Some(place) = self.policy.subnets.iter().position(|subnet| subnet.network.contains(address)) {
            self.tables[place].conflict(address, ms + PROBATION, (ms, wall));
        }
    }

    /// To be told when a probe was not answered in time, or the network could not be asked: until then the client's further
    /// DISCOVERs are not answered.
    pub fn not_in_use(&mut self, address: Ipv4Addr) {
        if let Some(place) = self.policy.subnets.iter().position(|subnet| subnet.network.contains(address)) {
            self.tables[place].not_in_use(address);
        }
    }

    /// To be told when leases cannot be written, and when they can again. Meanwhile known leases are promised up to the end
    /// that is on disk, and nothing new.
    pub fn set_store_failing(&mut self, failing: bool) {
        self.store_failing = failing;
    }

    /// The configuration, or what there is to boot, has changed. Leases are kept as they are, those too that are not on disk yet; offers start anew, at no
    /// worse than a client's retry.
    pub fn reload(&mut self, policy: Policy, now: Now) {
        let tables = policy.subnets.iter().map(Table::new).collect();
        self.policy = policy;
        let mut rows: Vec<Row> =
            std::mem::replace(&mut self.tables, tables).into_iter().flat_map(Table::into_rows).collect();
        rows.sort_by_key(|row| (row.written, row.lease.address));
        for row in rows {
            self.keep(row.lease, (row.written, row.deadline), row.durable, now);
        }
    }

    /// Call it every few seconds. True says that the wall clock was set: write a new snapshot of [`Engine::leases`], because
    /// the ends that are on disk are by the old time.
    #[must_use]
    pub fn wall_clock_was_set(&mut self, now: Now) -> bool {
        if !self.clock.was_set(now) {
            return false;
        }
        let (ms, wall) = (self.clock.ms(now), self.clock.wall(now));
        self.tables.iter_mut().for_each(|table| table.restate(ms, wall));
        true
    }

    /// All leases, ended ones too, oldest first: what a snapshot holds.
    pub fn leases(&self) -> Vec<Lease> {
        let mut leases: Vec<Lease> = self.tables.iter().flat_map(Table::rows).map(|row| row.lease.clone()).collect();
        leases.sort_by_key(|lease| (lease.written, lease.address));
        leases
    }

    /// What this client would be told to boot in its subnet.
    fn boot_verdict(&self, place: usize, request: &Request<'_>, client: &ClientInfo) -> BootVerdict {
        let subnet = &self.policy.subnets[place];
        let class = self.policy.boot.classes.iter().find(|class| class.fits(request, client));
        crate::boot::decide(&self.policy.boot, class, &subnet.unknown, subnet.server, client)
    }

    /// Takes in a lease from disk: its wall clock times become monotonic ones.
    fn restore(&mut self, lease: Lease, now: Now) {
        let (ms, wall) = (self.clock.ms(now), self.clock.wall(now));
        // A clock that was set back must not make a lease longer than it was promised.
        let length = lease.expires.saturating_sub(lease.written);
        let deadline = match lease.expires.checked_sub(wall) {
            Some(left) => ms.saturating_add(left.min(length).saturating_mul(1000)),
            None => ms.saturating_sub((wall - lease.expires).saturating_mul(1000)),
        };
        let written = ms.saturating_sub(wall.saturating_sub(lease.written).saturating_mul(1000));
        self.keep(lease, (written, deadline), Some(deadline), now);
    }

    /// Puts a lease into the table of its subnet, if there is one. Of two addresses of one client the later counts.
    fn keep(&mut self, lease: Lease, (written, deadline): (u64, u64), durable: Option<u64>, now: Now) {
        let Some(place) = self.policy.subnets.iter().position(|subnet| subnet.network.contains(lease.address)) else {
            return;
        };
        let (ms, wall) = (self.clock.ms(now), self.clock.wall(now));
        let table = &mut self.tables[place];
        if let Some(before) = table.put(lease, written, deadline, durable) {
            table.release(before.lease.address, ms, wall);
        }
    }

    /// Whether client and circuit (RFC 3046 §3.1) keep within what they need. A client without an Ethernet address can have another
    /// name in its next message, so all such clients of one sender count together.
    ///
    /// Who sent the datagram, and through which relay, is part of each name: a hardware address in a message is anybody's to fill
    /// in, and a flood in a client's name from elsewhere must not count as the client's.
    fn admit(&mut self, request: &Request<'_>, client: &ClientInfo, from: Ingress<'_>, ms: u64) -> bool {
        let path = [from.source.ip().octets(), request.giaddr.octets()].concat();
        let mac = client.mac.map(MacAddr::bytes);
        if let Some(mac) = mac
            && !self.clients.admit(&[&path[..], &mac].concat(), ms)
        {
            return false;
        }
        let circuit = match request.circuit() {
            Some(circuit) => circuit,
            None if mac.is_none() => from.interface.as_bytes(),
            None => return true,
        };
        self.circuits.admit(&[&path[..], circuit].concat(), ms)
    }

    /// Who the client is. Without an Ethernet address its hardware address with type, or its identifier.
    fn key(&self, request: &Request<'_>, client: &ClientInfo) -> Option<ClientKey> {
        let id = request.options.raw(OptionCode::ClientIdentifier).filter(|id| !id.is_empty());
        // A record holds 255 bytes of it; more is nobody's identifier.
        let id = id.map(|id| ClientKey::Id(id[..id.len().min(255)].into()));
        let mac = client.mac.map(ClientKey::Mac);
        if self.policy.identity == Identity::ClientId { id.or(mac) } else { mac.or(id) }
    }

    /// The subnet that the client is in. Link selection by the relay (RFC 3527) goes before subnet selection by the client
    /// (RFC 3011) before the relay's address; otherwise the interface and what the client says of its address decide.
    fn place(
        &self,
        request: &Request<'_>,
        message_type: Option<MessageType>,
        client: &ClientInfo,
        from: Ingress<'_>,
    ) -> Option<usize> {
        let subnets = &self.policy.subnets;
        let containing = |address| subnets.iter().position(|subnet| subnet.network.contains(address));
        let here = |subnet: &crate::policy::Subnet| {
            subnet.interface == from.interface && subnet.network.contains(subnet.server)
        };
        let local =
            |address: Ipv4Addr| subnets.iter().position(|subnet| here(subnet) && subnet.network.contains(address));
        let link = request.relay_address(LINK_SELECTION);
        let selected = link.or_else(|| request.options.address(OptionCode::SubnetSelection));
        if let Some(address) = selected.or(request.is_relayed().then_some(request.giaddr)) {
            // A broadcast of a client's chooses among the networks of its wire, or it would reach past a firewall, and past the server
            // that another network has. What is sent to us alone has come through what routers let pass.
            let of_this_wire = !request.is_relayed() && is_broadcast(from.destination);
            return if of_this_wire { local(address) } else { containing(address) };
        }
        // Some ROMs leave an old address in the ciaddr of a DISCOVER (dnsmasq rfc2131.c): it says nothing.
        let ciaddr =
            (message_type != Some(MessageType::Discover) && !request.ciaddr.is_unspecified()).then_some(request.ciaddr);
        if let Some(ciaddr) = ciaddr {
            // A client behind a relay renews by unicast, past its relay, so it may come in by any interface.
            let anywhere = if is_broadcast(from.destination) { local(ciaddr) } else { containing(ciaddr) };
            if anywhere.is_some() {
                return anywhere;
            }
        }
        let reserved = client.mac.and_then(|mac| {
            let reserves =
                |subnet: &crate::policy::Subnet| subnet.hosts.get(&mac).is_some_and(|host| host.address.is_some());
            subnets.iter().position(|subnet| here(subnet) && reserves(subnet))
        });
        let wished = || local(request.options.address(OptionCode::RequestedIpAddress)?);
        let served = |subnet: &crate::policy::Subnet| here(subnet) && subnet.mode != Mode::Off;
        reserved.or_else(wished).or_else(|| subnets.iter().position(served))
    }

    fn release(&mut self, exchange: &Exchange<'_>) -> Result<crate::Decision, IgnoreReason> {
        let address = exchange.request.ciaddr;
        exchange.check_server_identifier(self)?;
        self.check_sender(exchange, address)?;
        let table = &mut self.tables[exchange.place];
        if !exchange.has_bound(table, address) {
            return Err(IgnoreReason::NotItsLease);
        }
        let lease = table.release(address, exchange.ms, exchange.wall).ok_or(IgnoreReason::NotItsLease)?;
        Ok(exchange.saving(self, Verdict::Released, lease))
    }

    fn decline(&mut self, exchange: &Exchange<'_>) -> Result<crate::Decision, IgnoreReason> {
        let wished = exchange.request.options.address(OptionCode::RequestedIpAddress);
        let address = wished.ok_or(IgnoreReason::NoAddress)?;
        exchange.check_server_identifier(self)?;
        // Whoever declines an address has none (RFC 2131 §4.4.4).
        if !exchange.from.source.ip().is_unspecified() {
            self.check_sender(exchange, address)?;
        }
        let table = &mut self.tables[exchange.place];
        if !exchange.has_bound(table, address) {
            return Err(IgnoreReason::NotItsLease);
        }
        let mut lease = exchange.lease(address, PROBATION / 1000, None);
        lease.state = LeaseState::Declined;
        if table.may_decline(exchange.ms) {
            table.put(lease.clone(), exchange.ms, exchange.ms + PROBATION, None);
        } else {
            lease = table.disown(address, exchange.ms, exchange.wall).ok_or(IgnoreReason::NotItsLease)?;
        }
        Ok(exchange.saving(self, Verdict::Declined, lease))
    }

    /// Whether this may come from the machine with the address, or from a relay agent. The hardware address in a message is
    /// anybody's to fill in, and so is a relay's; a datagram's source is not, for programs without privileges.
    fn check_sender(&self, exchange: &Exchange<'_>, address: Ipv4Addr) -> Result<(), IgnoreReason> {
        let source = *exchange.from.source.ip();
        let is_client = |table: &Table| table.in_pool(source) || table.row(source).is_some();
        let genuine = match exchange.request.is_relayed() {
            true => !self.tables.iter().any(is_client),
            false => source == address,
        };
        if genuine { Ok(()) } else { Err(IgnoreReason::SpoofedSource) }
    }

    fn inform(&mut self, exchange: &Exchange<'_>) -> Result<crate::Decision, IgnoreReason> {
        // Some clients leave ciaddr empty; Kea answers those at their source address too.
        let ciaddr = exchange.request.ciaddr;
        let address = if ciaddr.is_unspecified() { *exchange.from.source.ip() } else { ciaddr };
        if !self.policy.subnets[exchange.place].network.is_host(address) {
            return Err(IgnoreReason::NoAddress);
        }
        exchange.answer_inform(self, address)
    }

    fn bootp(&mut self, exchange: &Exchange<'_>) -> Result<crate::Decision, IgnoreReason> {
        let address = exchange.reserved(self).ok_or(IgnoreReason::BootpUnreserved)?;
        exchange.answer_bootp(self, address)
    }
}

/// Whether a datagram to this address was meant for everybody. Clients without an address have nothing better than the limited
/// broadcast; a subnet's own broadcast address counts as unicast, which no client uses.
fn is_broadcast(address: Ipv4Addr) -> bool {
    address == Ipv4Addr::BROADCAST
}
