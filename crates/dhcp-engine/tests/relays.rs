//! Clients behind relay agents: RFC 2131 §4.1, RFC 3046, 3527, 3011, 5107 and 8357.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::MacAddr;
use common::*;
use dhcp_engine::{AddressRange, Ingress, Ipv4Network, Outcome, Policy, ServerPort, Subnet};

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// The router to [`behind`], by its far side.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 10);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// As a relay agent with this address passes it on.
fn from(relay: Ipv4Addr) -> Ingress<'static> {
    let source = SocketAddrV4::new(relay, 67);
    Ingress { interface: "lan", source, destination: SERVER, port: ServerPort::Dhcp }
}

/// A room with a second network that is reached through a router only, and whose server's address is in the first.
fn two_networks() -> Policy {
    let behind = Subnet {
        network: Ipv4Network::new(ROUTER, 24).unwrap(),
        pools: vec![AddressRange::new(BEHIND, BEHIND).unwrap()],
        routers: vec![ROUTER],
        ..subnet()
    };
    Policy { subnets: vec![behind, subnet()], ..policy() }
}

#[test]
fn information_goes_back_verbatim_and_last() {
    let mut room = Room::new(policy());
    // Sub-options out of order, one twice: a server that sorts them breaks relays (insomniacslk/dhcp#535, staticdhcpd#69).
    let information = [200, 1, 7, 1, 2, 0, 1, 200, 0];
    let relayed = Packet::new(ANN, DISCOVER).giaddr(RELAY).with(61, b"\x01ann").with(82, &information);
    let offer = room.hear_from(0, &relayed, from(RELAY));
    assert!(line(&offer).ends_with("to 10.77.0.9:67"), "{}", line(&offer));
    assert_eq!(options(reply(&offer)).last().unwrap(), &(82, information.to_vec()));
    assert_eq!(reply(&offer)[24..28], RELAY.octets());
    // In a NAK too (RFC 3046 §2.2), which the relay is to broadcast (RFC 2131 §4.3.2).
    let wrong = Packet::new(ANN, REQUEST).giaddr(RELAY).wishes(ELSEWHERE).with(82, &[1, 0]);
    let nak = room.hear_from(0, &wrong, from(RELAY));
    assert_eq!(line(&nak), "nak Nak(WrongNetwork) to 10.77.0.9:67");
    assert_eq!((reply(&nak)[10], options(reply(&nak)).last().unwrap()), (0x80, &(82, vec![1, 0])));
}

#[test]
fn what_no_relay_of_ours_sent_is_not_answered() {
    let mut room = Room::new(policy());
    assert_eq!(line(&room.hear(0, &Packet::new(ANN, DISCOVER).with(82, &[1, 0]))), "silence: stray-relay-information");
    let foreign = Packet::new(ANN, DISCOVER).giaddr(ELSEWHERE);
    assert_eq!(line(&room.hear_from(0, &foreign, from(ELSEWHERE))), "silence: no-subnet");
    let nobodys = Ingress { interface: "uplink", ..from(RELAY) };
    assert_eq!(line(&room.hear_from(0, &Packet::new(ANN, DISCOVER), nobodys)), "silence: no-subnet");
    // Whichever interface a relay is behind, its address says where the client is.
    let relayed = Packet::new(ANN, DISCOVER).giaddr(RELAY);
    assert!(line(&room.hear_from(0, &relayed, nobodys)).starts_with("offer"));
}

#[test]
fn a_network_behind_a_relay_is_reached_by_an_address_outside() {
    let mut room = Room::new(two_networks());
    // Broadcasts on the interface come from the network that we are in, whatever they wish and whichever is named first.
    let local = room.hear(0, &Packet::new(BOB, DISCOVER).wishes(BEHIND));
    assert!(policy().subnets[0].network.contains(yiaddr(&local)), "{}", line(&local));
    let offer = room.hear_from(0, &pxe(Packet::new(ANN, DISCOVER), 0).giaddr(ROUTER), from(ROUTER));
    assert_eq!(yiaddr(&offer), BEHIND, "{}", line(&offer));
    assert_eq!(option(reply(&offer), 54).unwrap(), SERVER.octets());
    assert_eq!(reply(&offer)[20..24], SERVER.octets(), "siaddr");
    let request = Packet::new(ANN, REQUEST).wishes(BEHIND).for_server(SERVER);
    assert_eq!(yiaddr(&room.hear_from(1, &request.giaddr(ROUTER), from(ROUTER))), BEHIND);
    // It renews past its relay, by unicast.
    let renewal = Packet::new(ANN, REQUEST).ciaddr(BEHIND);
    assert_eq!(yiaddr(&room.hear_unicast(1800, &renewal, BEHIND)), BEHIND);
}

#[test]
fn the_link_goes_before_the_selected_subnet_before_the_relay() {
    let network = |address: Ipv4Addr| {
        let [a, b, c, _] = address.octets();
        [a, b, c, 0]
    };
    let link = |address| [&[5, 4][..], &network(address)].concat();
    let discover = || Packet::new(ANN, DISCOVER);
    let place = |packet: Packet, from| {
        let outcome = Room::new(two_networks()).hear_from(0, &packet, from);
        match &outcome {
            Outcome::Ignore(reason) => reason.name(),
            Outcome::Act(_) if yiaddr(&outcome) == BEHIND => "behind",
            Outcome::Act(_) => "here",
        }
    };
    let (near, far) = (from(RELAY), from(ROUTER));
    // RFC 2131 §4.3.1.
    assert_eq!(place(discover().giaddr(RELAY), near), "here");
    assert_eq!(place(discover().giaddr(ROUTER), far), "behind");
    // RFC 3527: the relay's address need not be in the client's network, nor in one that we know.
    assert_eq!(place(discover().giaddr(RELAY).with(82, &link(ROUTER)), near), "behind");
    assert_eq!(place(discover().giaddr(ELSEWHERE).with(82, &link(RELAY)), from(ELSEWHERE)), "here");
    assert_eq!(place(discover().giaddr(RELAY).with(82, &link(ELSEWHERE)), near), "no-subnet");
    // RFC 3011.
    assert_eq!(place(discover().giaddr(RELAY).with(118, &network(ROUTER)), near), "behind");
    assert_eq!(place(discover().giaddr(RELAY).with(118, &network(ROUTER)).with(82, &link(RELAY)), near), "here");
    assert_eq!(place(discover().with(118, &network(ROUTER)), from(RELAY)), "behind", "without a relay too");
    assert_eq!(place(discover().with(118, &network(ELSEWHERE)), from(RELAY)), "no-subnet");
    let broadcast = Ingress { destination: Ipv4Addr::BROADCAST, ..near };
    assert_eq!(place(discover().with(118, &network(ROUTER)), broadcast), "no-subnet", "a wire has its own networks");
    assert_eq!(place(discover().with(118, &network(RELAY)), broadcast), "here");
    // Of a wrong length they are nothing.
    assert_eq!(place(discover().giaddr(RELAY).with(82, &[5, 3, 10, 78, 0]), near), "here");
    assert_eq!(place(discover().giaddr(RELAY).with(118, &[10, 78]), near), "here");
}

#[test]
fn a_selected_subnet_is_confirmed() {
    // Who sends option 118 discards replies without it (RFC 3011 §2).
    let selected = Packet::new(ANN, DISCOVER).with(118, &[10, 77, 0, 0]);
    let mut room = Room::new(policy());
    let offer = room.hear(0, &selected);
    assert_eq!(option(reply(&offer), 118), Some(vec![10, 77, 0, 0]));
    assert_eq!(option(reply(&room.hear(0, &Packet::new(ANN, DISCOVER))), 118), None);
    // What is no address is no selection, and takes no room from the reply.
    let long = Packet::new(ANN, DISCOVER).with(118, &[1; 250]).with(118, &[1; 250]);
    assert_eq!(option(reply(&room.hear(0, &long)), 118), None);
}

#[test]
fn a_promise_that_has_no_room_in_its_reply_is_none() {
    let mut room = Room::new(policy());
    // Option 82 is repeated whole, so the relay says how long the reply is.
    let mut information = |packet: Packet| {
        let packet = packet.giaddr(RELAY);
        let long = (0..5).fold(packet, |packet, _| packet.with(82, &[&[2, 250][..], &[7; 250]].concat()));
        line(&room.hear_from(0, &long, from(RELAY)))
    };
    let wished = Ipv4Addr::new(10, 77, 0, 177);
    assert_eq!(information(Packet::new(ANN, DISCOVER).wishes(wished)), "silence: reply-too-large");
    let takes = Packet::new(ANN, REQUEST).wishes(wished).for_server(SERVER);
    assert_eq!(information(takes), "silence: reply-too-large");
    assert_eq!(room.engine.leases(), []);
    // Nor is it held for her.
    assert_eq!(yiaddr(&room.hear(0, &Packet::new(BOB, DISCOVER).wishes(wished))), wished);
}

#[test]
fn a_relay_that_stands_in_for_the_server_sees_renewals_too() {
    // RFC 5107: clients are told the relay's address as the server's, and renew there.
    let information = [&[11, 4][..], &RELAY.octets()].concat();
    let relayed = |packet: Packet| packet.giaddr(RELAY).with(82, &information);
    let mut room = Room::new(policy());
    let offer = room.hear_from(0, &relayed(pxe(Packet::new(ANN, DISCOVER), 0)), from(RELAY));
    let a = yiaddr(&offer);
    assert_eq!(option(reply(&offer), 54).unwrap(), RELAY.octets());
    assert_eq!(reply(&offer)[20..24], SERVER.octets(), "boot files still come from us");
    let take = Packet::new(ANN, REQUEST).wishes(a).for_server(RELAY);
    assert_eq!(line(&room.hear(1, &take)), "silence: other-server", "without the relay's word it is another server");
    let offer = room.hear_from(1, &relayed(Packet::new(ANN, DISCOVER)), from(RELAY));
    assert_eq!(yiaddr(&offer), a);
    let ack = room.hear_from(2, &relayed(take), from(RELAY));
    assert_eq!(line(&ack), format!("save {a} bound {ANN}; ack Ack(Selecting, 3600) to 10.77.0.9:67"));
    let renewal = room.hear_from(1800, &relayed(Packet::new(ANN, REQUEST).ciaddr(a)), from(RELAY));
    assert_eq!(line(&renewal), format!("save {a} bound {ANN}; ack Ack(Renewing, 3600) to 10.77.0.9:67"));
    assert_eq!(option(reply(&renewal), 54).unwrap(), RELAY.octets());
    let release = room.hear_from(1900, &relayed(Packet::new(ANN, RELEASE).ciaddr(a).for_server(RELAY)), from(RELAY));
    assert_eq!(line(&release), format!("save {a} released {ANN}"));
}

#[test]
fn a_relay_may_ask_from_any_port() {
    // RFC 8357 §4.
    let mut room = Room::new(policy());
    let odd = Ingress { source: SocketAddrV4::new(RELAY, 4567), ..from(RELAY) };
    let discover = || Packet::new(BOB, DISCOVER).giaddr(RELAY);
    assert!(line(&room.hear_from(0, &discover().with(82, &[19, 0]), odd)).ends_with("to 10.77.0.9:4567"));
    assert!(line(&room.hear_from(0, &discover(), odd)).ends_with("to 10.77.0.9:67"));
}

#[test]
fn the_circuit_is_told() {
    let mut room = Room::new(policy());
    let mut circuit = |information: &[u8]| {
        let packet = Packet::new(ANN, DISCOVER).giaddr(RELAY).with(82, information);
        let Outcome::Act(decision) = room.hear_from(0, &packet, from(RELAY)) else { panic!() };
        decision.circuit.map(|circuit| circuit.to_string())
    };
    assert_eq!(circuit(b"\x02\x01x\x01\x04eth1").as_deref(), Some("eth1"));
    assert_eq!(circuit(&[1, 6, 0, 4, 0, 10, 1, 2]).as_deref(), Some("0x0004000a0102"));
    assert_eq!(circuit(b"\x02\x01x"), None);
    assert_eq!(circuit(b"\x01\x09x"), None, "a length beyond the end");
}

#[test]
fn one_circuit_cannot_flood() {
    let mut room = Room::new(policy());
    let mut heard = |seconds, client: u32, circuit: u8| {
        let [_, a, b, c] = client.to_be_bytes();
        let packet = Packet::new(MacAddr::new([2, 8, 8, a, b, c]), DISCOVER).giaddr(RELAY).with(82, &[1, 1, circuit]);
        room.hear_from(seconds, &packet, from(RELAY)) != Outcome::Ignore(dhcp_engine::IgnoreReason::RateLimited)
    };
    // A room that is switched on passes, ten times over.
    let passed = (0..6000).filter(|client| heard(0, *client, 1)).count();
    assert_eq!(passed, 4000);
    assert!(heard(0, 7000, 2), "the neighbours are not held up");
    assert!(heard(1, 7001, 1), "and it ends");
}
