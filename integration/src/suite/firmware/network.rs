//! What may lie between a server and the machines that boot from it.

use std::net::{Ipv4Addr, Ipv6Addr};

use boot_model::Circuit;
use boot_model::event::{Event, EventKind};

use crate::bench::unpacked;
use crate::client::{Client, Firmware};
use crate::namespace::{BRIDGE, Namespace, PREFIX_LENGTH, SERVER};
use crate::process::Process;
use crate::servers::{Addresses, Subnet};
use crate::{Error, Lab, Result, Workspace};

/// Where the clients are, and who gives them addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// On the server's bridge; the server does.
    Plain,
    /// On the server's bridge; dnsmasq on another machine does, and says nothing about booting.
    BesideDnsmasq,
    /// On a bridge that the server has no address on; the server does, by way of a relay agent, which is the router between the two.
    BehindRelay,
    /// The same with an agent that writes more than its address: the wire that it heard the client on, and the client's network
    /// (option 82), which its address is not of.
    BehindInformativeRelay,
    /// Each on a bridge of its own, as on two VLANs; the server does, with an address on both.
    TwoBridges,
}

/// Where one client is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The bridge that its cable ends in.
    bridge: &'static str,
    /// The server, as it is told.
    pub(super) server: Ipv4Addr,
    /// An address of the network that it is given one in.
    within: Ipv4Addr,
}

/// The other machines of a network. They end with it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    // Programs before the namespaces that they run in.
    _programs: Vec<Process>,
    _machines: Vec<Namespace>,
}

/// The second bridge. A kernel without VLANs can still have two switches.
const SECOND: &str = "br1";

/// The server's address on the second bridge, where it has one.
const SECOND_SERVER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// Where another DHCP server is, or the router's near side.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// The router's cards: towards the server, and towards the clients.
const NEAR_CARD: &str = "eth0";
const FAR_CARD: &str = "eth1";

/// The router's far side.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);

/// Whoever is on the second bridge and advertises routes.
const ADVERTISER: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1);
const ADVERTISED: &str = "fd78::";

impl Network {
    /// The server's configuration for it.
    pub(super) const fn subnets(self) -> &'static [Subnet] {
        const OWN: Subnet = Subnet { bridge: BRIDGE, server: SERVER, addresses: Addresses::Own };
        const SECOND_OWN: Subnet = Subnet { bridge: SECOND, server: SECOND_SERVER, addresses: Addresses::Own };
        const RELAYED: Subnet = Subnet { addresses: Addresses::Relayed(ROUTER), ..OWN };
        const ELSEWHERE: Subnet = Subnet { addresses: Addresses::Elsewhere, ..OWN };
        match self {
            Self::Plain => &[OWN],
            Self::BesideDnsmasq => &[ELSEWHERE],
            Self::BehindRelay | Self::BehindInformativeRelay => &[OWN, RELAYED],
            Self::TwoBridges => &[OWN, SECOND_OWN],
        }
    }

    /// Where the client with this number is.
    pub(super) const fn place(self, number: usize) -> Place {
        let first = Place { bridge: BRIDGE, server: SERVER, within: SERVER };
        match (self, number) {
            (Self::BehindRelay | Self::BehindInformativeRelay, _) => {
                Place { bridge: SECOND, server: SERVER, within: ROUTER }
            }
            (Self::TwoBridges, 1..) => Place { bridge: SECOND, server: SECOND_SERVER, within: SECOND_SERVER },
            _ => first,
        }
    }

    /// Lays the cables and starts the other machines.
    pub(super) fn build(self, workspace: &Workspace, lab: &Lab, clients: &[Client]) -> Result<Surroundings> {
        let surroundings = match self {
            Self::Plain => Surroundings::default(),
            Self::BesideDnsmasq => beside_dnsmasq(lab)?,
            Self::BehindRelay => behind_relay(lab, dnsmasq_relay)?,
            Self::BehindInformativeRelay => behind_relay(lab, |lab, router| dhcrelay(workspace, lab, router))?,
            Self::TwoBridges => second_bridge(lab)?,
        };
        for (number, client) in clients.iter().enumerate() {
            lab.namespace().plug(&client.tap(), self.place(number).bridge)?;
        }
        Ok(surroundings)
    }

    /// Every client was answered as it should be, by dhcpd's events: with an address of its own network, or, beside another
    /// server, with a file and no address. Where the relay agent names wires, the events do.
    pub(super) fn expect_answers(self, events: &[Event], clients: &[Client]) -> Result<()> {
        for (number, client) in clients.iter().enumerate() {
            let said: Vec<&Event> = events.iter().filter(|event| concerns(event, client)).collect();
            let wanted = match self {
                Self::BesideDnsmasq => boot_files(client.firmware),
                _ => &["ACK for"],
            };
            for part in wanted {
                if !said.iter().any(|event| is_answer(event, part)) {
                    return Err(Error::Wrong(format!("dhcpd has sent {} no {part:?}: {said:?}", client.name)));
                }
            }
            if self == Self::BehindInformativeRelay && !said.iter().all(|event| names_wire(event)) {
                return Err(Error::Wrong(format!(
                    "an offer to {} lacks the circuit {FAR_CARD}: {said:?}",
                    client.name
                )));
            }
            let within = self.place(number).within;
            let given = said.iter().filter(|event| is_answer(event, "ACK for")).map(|event| event.address);
            for address in given {
                let fits = self != Self::BesideDnsmasq && address.is_some_and(|address| same_network(address, within));
                if !fits {
                    return Err(Error::Wrong(format!("dhcpd has given {} the address {address:?}", client.name)));
                }
            }
        }
        Ok(())
    }
}

/// What dhcpd sends beside another server: with the offers, and to firmware that asks there on port 4011.
const fn boot_files(firmware: Firmware) -> &'static [&'static str] {
    match firmware {
        Firmware::Ipxe | Firmware::PlainPxe => &["OFFER of a boot file"],
        _ => &["OFFER of a boot file", "ACK of the boot server"],
    }
}

fn concerns(event: &Event, client: &Client) -> bool {
    event.mac.is_some_and(|mac| mac.to_string() == client.mac())
}

/// What services wrote about this one of the clients, by its card or by an address that it was given here; about the only one all.
pub(super) fn events_of(events: &[Event], client: &Client, clients: &[Client]) -> Vec<Event> {
    if clients.len() == 1 {
        return events.to_vec();
    }
    let given: Vec<_> =
        events.iter().filter(|event| concerns(event, client)).filter_map(|event| event.address).collect();
    let is_its = |event: &&Event| concerns(event, client) || event.address.is_some_and(|one| given.contains(&one));
    events.iter().filter(is_its).cloned().collect()
}

fn is_answer(event: &Event, wanted: &str) -> bool {
    matches!(&event.kind, EventKind::Dhcp { reason, .. } if reason.starts_with(wanted))
}

/// Whether it is no offer, or one on the relay agent's far card. Renewals pass the agent by.
fn names_wire(event: &Event) -> bool {
    match &event.kind {
        EventKind::Dhcp { message, circuit, .. } if message == "OFFER" => *circuit == Circuit::new(FAR_CARD.as_bytes()),
        _ => true,
    }
}

fn same_network(one: Ipv4Addr, other: Ipv4Addr) -> bool {
    (one.to_bits() ^ other.to_bits()).leading_zeros() >= PREFIX_LENGTH.into()
}

fn beside_dnsmasq(lab: &Lab) -> Result<Surroundings> {
    let machine = lab.namespace().beside(NEIGHBOUR)?;
    let mut dnsmasq = machine.command("dnsmasq");
    dnsmasq.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0", "--no-ping"]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", lab.scratch().join("dnsmasq.leases").display()));
    dnsmasq.args(["--dhcp-range=10.77.0.100,10.77.0.199,255.255.0.0,1h", "--dhcp-authoritative", "--log-dhcp"]);
    let program = lab.start_server("dnsmasq", &mut dnsmasq, "DHCP, IP range")?;
    Ok(Surroundings { _programs: vec![program], _machines: vec![machine] })
}

fn behind_relay(lab: &Lab, agent: impl FnOnce(&Lab, &Namespace) -> Result<Process>) -> Result<Surroundings> {
    lab.namespace().add_bridge(SECOND)?;
    let router = lab.namespace().beside(NEIGHBOUR)?;
    lab.namespace().connect(&router, FAR_CARD, SECOND)?;
    router.give(FAR_CARD, ROUTER)?;
    router.give(FAR_CARD, ADVERTISER)?;
    router.forward()?;
    lab.namespace().route(ROUTER, NEIGHBOUR)?;
    let relay = agent(lab, &router)?;
    let advertiser = lab.advertise(&router, FAR_CARD, ADVERTISED)?;
    Ok(Surroundings { _programs: vec![relay, advertiser], _machines: vec![router] })
}

/// It writes its address and nothing else.
fn dnsmasq_relay(lab: &Lab, router: &Namespace) -> Result<Process> {
    let mut relay = router.command("dnsmasq");
    relay.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0", "--log-dhcp"]);
    relay.arg(format!("--dhcp-relay={ROUTER},{SERVER}"));
    lab.start_server("relay", &mut relay, "DHCP relay from")
}

/// ISC's: `-a` adds the wire (RFC 3046), `-U` gives its near address and adds the client's network (RFC 3527). It drops replies
/// whose information is not as it wrote it. 4.4.3 crashes if the near card is named by `-iu` as well.
fn dhcrelay(workspace: &Workspace, lab: &Lab, router: &Namespace) -> Result<Process> {
    let mut relay = router.command(unpacked::server(workspace, "isc-dhcp-relay", "dhcrelay")?);
    relay.args(["-4", "-d", "--no-pid", "-a", "-U", NEAR_CARD, "-id", FAR_CARD, &SERVER.to_string()]);
    lab.start_server("relay", &mut relay, "Socket/fallback")
}

fn second_bridge(lab: &Lab) -> Result<Surroundings> {
    let server = lab.namespace();
    server.add_bridge(SECOND)?;
    server.give(SECOND, SECOND_SERVER)?;
    server.give(SECOND, ADVERTISER)?;
    let advertiser = lab.advertise(server, SECOND, ADVERTISED)?;
    Ok(Surroundings { _programs: vec![advertiser], _machines: Vec::new() })
}
