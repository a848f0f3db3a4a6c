//! Whether somebody has the address already: asked before it is offered, and never waited for by the engine.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::MacAddr;
use common::*;
use dhcp_engine::{Ingress, Outcome, Policy, ServerPort};

fn probing() -> Policy {
    let mut policy = policy();
    policy.probe = true;
    policy
}

/// The address that is asked about before it is offered, if one is.
fn probed(outcome: &Outcome) -> Option<Ipv4Addr> {
    let text = line(outcome);
    let (address, rest) = text.strip_prefix("probe ")?.split_once(' ')?;
    assert!(rest.starts_with("Arp; offer "), "{text}");
    Some(address.parse().unwrap())
}

#[test]
fn a_new_address_is_asked_about_once() {
    let mut room = Room::new(probing());
    let first = room.hear(0, &Packet::new(ANN, DISCOVER));
    let a = yiaddr(&first);
    assert_eq!(probed(&first), Some(a));
    room.engine.not_in_use(a);
    // While it is held, after its ACK and on the next boot there is nothing to ask.
    assert!(line(&room.hear(1, &Packet::new(ANN, DISCOVER))).starts_with("offer Offer(Held)"));
    assert!(line(&room.hear(1, &Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER))).starts_with("save"));
    assert!(line(&room.hear(9, &Packet::new(ANN, DISCOVER))).starts_with("offer Offer(Previous)"));
    // Once the lease has run out anybody may have taken it.
    assert_eq!(probed(&room.hear(9999, &Packet::new(ANN, DISCOVER))), Some(a));
    // A reservation is the administrator's word.
    assert!(line(&room.hear(0, &Packet::new(EVE, DISCOVER))).starts_with("offer Offer(Reserved)"));
}

#[test]
fn a_copy_of_a_discover_does_not_overtake_the_question() {
    let mut policy = probing();
    policy.subnets[0].options.rapid_commit = true;
    let mut room = Room::new(policy);
    let discover = Packet::new(ANN, DISCOVER);
    let copies =
        [discover.clone(), discover.clone().with(80, &[]), discover.clone().giaddr(Ipv4Addr::new(10, 77, 0, 9))];
    let a = probed(&room.hear(0, &discover)).unwrap();
    for copy in &copies {
        assert_eq!(line(&room.hear(0, copy)), "silence: probing");
    }
    // The question ends in one way or the other.
    room.engine.in_use(at(0), a);
    let b = probed(&room.hear(0, &discover)).unwrap();
    assert_ne!(a, b);
    assert_eq!(line(&room.hear(0, &discover)), "silence: probing");
    room.engine.not_in_use(a);
    assert_eq!(line(&room.hear(0, &discover)), "silence: probing", "that was another one");
    room.engine.not_in_use(b);
    for copy in &copies {
        assert_eq!(yiaddr(&room.hear(0, copy)), b);
    }
}

#[test]
fn an_address_in_use_goes_to_nobody_for_an_hour() {
    let mut room = Room::new(probing());
    let a = probed(&room.hear(0, &Packet::new(ANN, DISCOVER))).unwrap();
    room.engine.in_use(at(0), a);
    let b = probed(&room.hear(0, &Packet::new(ANN, DISCOVER))).unwrap();
    assert_ne!(a, b);
    assert_ne!(yiaddr(&room.hear(0, &Packet::new(BOB, DISCOVER).wishes(a))), a);
    assert_eq!(yiaddr(&room.hear(3700, &Packet::new(BOB, DISCOVER).wishes(a))), a);
    // An answer about an address that is nobody's offer, or is promised since, changes nothing.
    room.engine.in_use(at(3700), Ipv4Addr::new(192, 0, 2, 1));
    let mut room = Room::new(probing());
    room.hear(0, &Packet::new(ANN, DISCOVER).wishes(a));
    room.hear(0, &Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER));
    room.engine.in_use(at(1), a);
    assert_eq!(yiaddr(&room.hear(2, &Packet::new(ANN, DISCOVER))), a);
}

#[test]
fn a_guest_that_answers_for_every_address_costs_an_eighth_of_the_pool() {
    let mut room = Room::new(probing());
    let mut poisoned = 0;
    for n in 0..90 {
        let outcome = room.hear(0, &Packet::new(MacAddr::new([2, 0, 0, 0, 1, n]), DISCOVER));
        if let Some(address) = probed(&outcome) {
            room.engine.in_use(at(0), address);
            poisoned += 1;
        }
    }
    // Of 100 addresses in the pool.
    assert_eq!(poisoned, 12);
}

#[test]
fn a_room_that_is_switched_on_is_no_storm_of_questions() {
    let mut policy = probing();
    policy.subnets[0].pools =
        vec![dhcp_engine::AddressRange::new(Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 254)).unwrap()];
    let mut room = Room::new(policy);
    let asked = |room: &mut Room, second, clients: std::ops::Range<u8>| {
        let mut ask = |n| room.hear(second, &Packet::new(MacAddr::new([2, 0, 0, 0, 2, n]), DISCOVER));
        clients.filter(|n| probed(&ask(*n)).is_some()).count()
    };
    assert_eq!(asked(&mut room, 0, 0..200), 100);
    assert_eq!(asked(&mut room, 2, 200..220), 20);
}

#[test]
fn behind_a_relay_it_is_an_echo_request() {
    let relay = Ipv4Addr::new(10, 77, 0, 9);
    let from = Ingress {
        interface: "uplink",
        source: SocketAddrV4::new(relay, 67),
        destination: SERVER,
        port: ServerPort::Dhcp,
    };
    let mut room = Room::new(probing());
    let offer = line(&room.hear_from(0, &Packet::new(ANN, DISCOVER).giaddr(relay), from));
    assert!(offer.contains(" Echo; offer "), "{offer}");
}
