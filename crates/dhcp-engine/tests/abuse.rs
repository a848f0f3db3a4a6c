//! What a guest on the network can do to others, by messages in their names or by very many: little, and not for long.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use common::*;
use dhcp_engine::{IgnoreReason, Ingress, Outcome, ServerPort};

const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

#[test]
fn release_keeps_the_claim_and_needs_the_right_sender() {
    let (mut room, a) = with_ann();
    let release = Packet::new(ANN, RELEASE).ciaddr(a).for_server(SERVER);
    assert_eq!(line(&room.hear_unicast(1, &release, OTHER_SERVER)), "silence: spoofed-source");
    assert_eq!(
        line(&room.hear_unicast(1, &Packet::new(BOB, RELEASE).ciaddr(a).for_server(SERVER), a)),
        "silence: not-its-lease"
    );
    let elsewhere = Packet::new(ANN, RELEASE).ciaddr(a).for_server(OTHER_SERVER);
    assert_eq!(line(&room.hear_unicast(1, &elsewhere, a)), "silence: other-server");
    assert_eq!(line(&room.hear_unicast(1, &release, a)), format!("save {a} released {ANN}"));
    assert_eq!(line(&room.hear_unicast(2, &release, a)), "silence: not-its-lease");
    let back = room.hear(3, &Packet::new(ANN, DISCOVER));
    assert_eq!((yiaddr(&back), line(&back)), (a, format!("offer Offer(Previous) to {a}:68 in a frame to {ANN}")));
}

#[test]
fn decline_puts_the_address_out_of_use_and_needs_the_right_sender() {
    let (mut room, a) = with_ann();
    let decline = Packet::new(ANN, DECLINE).wishes(a).for_server(SERVER);
    assert_eq!(line(&room.hear(1, &Packet::new(BOB, DECLINE).wishes(a).for_server(SERVER))), "silence: not-its-lease");
    assert_eq!(line(&room.hear(1, &decline)), format!("save {a} declined {ANN}"));
    // Neither for the client that declined it nor for anybody else, until the probation ends.
    assert_ne!(yiaddr(&room.hear(2, &Packet::new(ANN, DISCOVER).wishes(a))), a);
    assert_ne!(yiaddr(&room.hear(2, &Packet::new(BOB, DISCOVER).wishes(a))), a);
    assert_eq!(yiaddr(&room.hear(3602, &Packet::new(BOB, DISCOVER).wishes(a))), a);
}

#[test]
fn declines_cannot_use_up_the_pool() {
    let mut room = Room::new(policy());
    let mut declined = 0;
    for n in 0..=255 {
        let mac = boot_model::MacAddr::new([2, 0, 0, 0, 3, n]);
        let address = yiaddr(&room.hear(0, &Packet::new(mac, DISCOVER)));
        room.hear(0, &Packet::new(mac, REQUEST).wishes(address).for_server(SERVER));
        let outcome = room.hear(0, &Packet::new(mac, DECLINE).wishes(address).for_server(SERVER));
        declined += usize::from(line(&outcome).contains("declined"));
    }
    assert_eq!(declined, 12, "an eighth of the pool, the rest is only released");
}

#[test]
fn a_client_whose_decline_did_not_count_is_offered_another_address() {
    let mut policy = policy();
    // Room for one decline.
    policy.subnets[0].pools =
        vec![dhcp_engine::AddressRange::new(Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 107)).unwrap()];
    let mut room = Room::new(policy);
    let decline = |room: &mut Room, seconds, mac| {
        let address = yiaddr(&room.hear(seconds, &Packet::new(mac, DISCOVER)));
        room.hear(seconds, &Packet::new(mac, REQUEST).wishes(address).for_server(SERVER));
        let saved = line(&room.hear(seconds, &Packet::new(mac, DECLINE).wishes(address).for_server(SERVER)));
        (address, saved)
    };
    assert!(decline(&mut room, 0, ANN).1.contains("declined"));
    let (address, saved) = decline(&mut room, 1, BOB);
    assert!(saved.contains("released"), "{saved}");
    assert_ne!(yiaddr(&room.hear(2, &Packet::new(BOB, DISCOVER))), address);
    // The bound is on addresses out of use now, not on all that ever were.
    assert!(decline(&mut room, 3700, BOB).1.contains("declined"));
}

#[test]
fn a_flood_of_discovers_leaves_room_for_others() {
    let mut room = Room::new(policy());
    for n in 0..10_000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        room.hear(0, &Packet::new(boot_model::MacAddr::new([2, 9, 9, a, b, c]), DISCOVER));
    }
    let a = yiaddr(&room.hear(1, &Packet::new(ANN, DISCOVER)));
    assert!(
        line(&room.hear(1, &Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER))).contains("Ack(Selecting, 3600)")
    );
}

#[test]
fn one_client_cannot_flood() {
    let mut room = Room::new(policy());
    let outcomes: Vec<Outcome> = (0..100).map(|_| room.hear(0, &Packet::new(ANN, DISCOVER))).collect();
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Ignore(IgnoreReason::RateLimited)).count(), 76);
    assert!(line(&room.hear(0, &Packet::new(BOB, DISCOVER))).starts_with("offer"), "others are not held up");
    assert!(line(&room.hear(2, &Packet::new(ANN, DISCOVER))).starts_with("offer"), "and it ends");
}

#[test]
fn a_flood_in_a_clients_name_does_not_silence_the_client() {
    let (mut room, _, bobs) = with_both();
    let elsewhere = Ipv4Addr::new(192, 0, 2, 1);
    let discover = Packet::new(ANN, DISCOVER);
    for second in 0..5 {
        // From a neighbour, from far away, and as if a relay had passed it on.
        for (message, source) in [
            (discover.clone(), bobs),
            (discover.clone(), elsewhere),
            (discover.clone().giaddr(elsewhere), elsewhere),
            (discover.clone().giaddr(RELAY), bobs),
        ] {
            let flood: Vec<_> =
                (0..100).map(|_| line(&room.hear_from(second, &message, datagram(source, SERVER)))).collect();
            assert!(flood[99].starts_with("silence: "), "{}", flood[99]);
        }
        assert!(line(&room.hear(second, &discover)).starts_with("offer"));
        let relayed = room.hear_from(second, &discover.clone().giaddr(RELAY), datagram(RELAY, SERVER));
        assert!(line(&relayed).starts_with("offer"));
    }
}

#[test]
fn what_is_no_ethernet_cannot_flood() {
    let mut room = Room::new(policy());
    let mut heard = |second, client: u32, from| {
        let mut packet = Packet::new(ANN, DISCOVER).with(61, &client.to_be_bytes());
        // InfiniBand (RFC 4390).
        packet.header[1..3].copy_from_slice(&[32, 0]);
        room.hear_from(second, &packet, from) != Outcome::Ignore(IgnoreReason::RateLimited)
    };
    let from = datagram(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let passed = (0..6000).filter(|client| heard(0, *client, from)).count();
    assert_eq!(passed, 4000, "a room that is switched on passes, ten times over");
    assert!(heard(0, 7000, datagram(Ipv4Addr::new(10, 77, 0, 50), SERVER)), "others are not held up");
    assert!(heard(1, 7001, from), "and it ends");
}

/// What a program without privileges can send from a machine with this address: it fills in all of the message, a relay's
/// address included, and nothing outside it.
fn datagram(source: Ipv4Addr, destination: Ipv4Addr) -> Ingress<'static> {
    let source = SocketAddrV4::new(source, 40_000);
    Ingress { interface: "lan", source, destination, port: ServerPort::Dhcp }
}

/// Ann's lease, and Bob's.
fn with_both() -> (Room, Ipv4Addr, Ipv4Addr) {
    let (mut room, a) = with_ann();
    let bobs = yiaddr(&room.hear(0, &Packet::new(BOB, DISCOVER)));
    room.hear(0, &Packet::new(BOB, REQUEST).wishes(bobs).for_server(SERVER));
    (room, a, bobs)
}

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

#[test]
fn another_clients_address_is_not_given_up_in_its_name() {
    let (mut room, a, bobs) = with_both();
    let messages = [
        Packet::new(ANN, RELEASE).ciaddr(a).for_server(SERVER),
        Packet::new(ANN, DECLINE).wishes(a).for_server(SERVER),
    ];
    for message in messages {
        for message in [message.clone(), message.giaddr(RELAY)] {
            for destination in [SERVER, Ipv4Addr::BROADCAST] {
                let outcome = room.hear_from(1, &message, datagram(bobs, destination));
                assert_eq!(line(&outcome), "silence: spoofed-source");
            }
        }
    }
    // What the relay passes on comes from the relay.
    let released = Packet::new(ANN, RELEASE).ciaddr(a).for_server(SERVER).giaddr(RELAY);
    assert_eq!(line(&room.hear_from(1, &released, datagram(RELAY, SERVER))), format!("save {a} released {ANN}"));
}

#[test]
fn another_client_is_not_moved_in_its_name() {
    let (mut room, a, bobs) = with_both();
    let free = Ipv4Addr::new(10, 77, 0, 199);
    let takes = Packet::new(ANN, REQUEST).wishes(free).for_server(SERVER);
    for message in [takes.clone(), takes.clone().giaddr(RELAY), takes.clone().ciaddr(free)] {
        for destination in [SERVER, Ipv4Addr::BROADCAST] {
            let outcome = room.hear_from(1, &message, datagram(bobs, destination));
            assert_eq!(line(&outcome), "silence: spoofed-source");
        }
    }
    assert_eq!(line(&room.hear_unicast(2, &Packet::new(ANN, REQUEST).ciaddr(a), a)).split(';').count(), 1, "fresh");
    // Ann herself: from no address, from hers, through a relay.
    let moved = format!("save {a} released {ANN}; save {free} bound {ANN}; ack Ack(Selecting, 3600)");
    assert!(line(&room.hear(3, &takes)).starts_with(&moved));
    let back = Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER);
    assert!(line(&room.hear_unicast(4, &back, free)).starts_with(&format!("save {free} released")));
    assert!(line(&room.hear_from(5, &takes.giaddr(RELAY), datagram(RELAY, SERVER))).starts_with(&moved));
}

#[test]
fn a_lease_that_has_ended_keeps_nobody_from_another() {
    // A machine that has an address by other means by now, which is no business of its old lease.
    let (mut room, _) = with_ann();
    let takes = Packet::new(ANN, REQUEST).wishes(Ipv4Addr::new(10, 77, 0, 199)).for_server(SERVER);
    assert!(line(&room.hear_unicast(9999, &takes, Ipv4Addr::new(10, 77, 0, 50))).starts_with("save"));
}
