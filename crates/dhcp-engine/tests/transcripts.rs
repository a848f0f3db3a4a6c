//! Conversations: at this time this arrives, this leaves, or nothing does.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::Ipv4Addr;

use common::*;
use dhcp_engine::{Effect, Engine, Ingress, Now, Outcome, ServerPort};

const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 150);

/// Where the hash puts the two clients. A change of these moves every room whose lease file is lost.
const ANNS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 162);
const BOBS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 110);

#[test]
fn discover_offer_request_ack() {
    let mut room = Room::new(policy());
    let offer = room.hear(0, &Packet::new(ANN, DISCOVER));
    let a = yiaddr(&offer);
    assert_eq!(line(&offer), format!("offer Offer(Hashed) to {a}:68 in a frame to {ANN}"));
    // The same client asks again and is offered the same.
    let again = room.hear(1, &Packet::new(ANN, DISCOVER));
    assert_eq!((line(&again), yiaddr(&again)), (format!("offer Offer(Held) to {a}:68 in a frame to {ANN}"), a));
    // Another client, another address.
    assert_ne!(yiaddr(&room.hear(1, &Packet::new(BOB, DISCOVER))), a);
    // Saved before it is sent.
    let ack = room.hear(2, &Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER));
    assert_eq!(line(&ack), format!("save {a} bound {ANN}; ack Ack(Selecting, 3600) to {a}:68 in a frame to {ANN}"));
    let codes: Vec<u8> = options(reply(&ack)).iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 51, 58, 59, 1, 3, 28]);
    // T1 and T2 at a half and at seven eighths (RFC 2131 §4.4.5).
    for (code, seconds) in [(51, 3600u32), (58, 1800), (59, 3150)] {
        assert_eq!(option(reply(&ack), code).unwrap(), seconds.to_be_bytes(), "{code}");
    }
}

#[test]
fn options_leave_in_this_order() {
    let packet = pxe(Packet::new(EVE, DISCOVER).with(61, b"\x01eve").giaddr(OTHER_SERVER).with(82, b"\x01\x01x"), 0);
    let offer = Room::new(policy()).hear(0, &packet);
    let codes: Vec<u8> = options(reply(&offer)).iter().map(|(code, _)| *code).collect();
    // 53 first (clients exist that want that), 82 last (RFC 3046 §2.1); the identifier goes back (RFC 6842).
    assert_eq!(codes, [53, 54, 51, 58, 59, 1, 3, 28, 12, 211, 61, 43, 60, 97, 66, 67, 82]);
}

#[test]
fn where_replies_go() {
    // RFC 2131 §4.1: to the relay before the client's own address before everybody before its hardware address.
    let (mut room, a) = with_ann();
    let mut goes = |packet: &Packet, source| {
        let outcome = line(&room.hear_unicast(1, packet, source));
        outcome.rsplit_once(" to ").unwrap().1.to_owned()
    };
    let none = Ipv4Addr::UNSPECIFIED;
    let renew = Packet::new(ANN, REQUEST).ciaddr(a);
    assert_eq!(goes(&renew.clone().giaddr(OTHER_SERVER).broadcast_flag(), OTHER_SERVER), "10.77.0.2:67");
    assert_eq!(goes(&renew.clone().broadcast_flag(), a), format!("{a}:68"));
    let reboot = Packet::new(ANN, REQUEST).wishes(a);
    assert_eq!(goes(&reboot.clone().broadcast_flag(), none), "255.255.255.255:68");
    assert_eq!(goes(&reboot, none), ANN.to_string());
    // A NAK's client has no address that it could be reached at.
    let wrong = Packet::new(BOB, REQUEST).ciaddr(a);
    assert_eq!(goes(&wrong, a), "255.255.255.255:68");
    assert_eq!(goes(&wrong.giaddr(OTHER_SERVER), OTHER_SERVER), "10.77.0.2:67");
}

#[test]
fn a_client_that_chose_another_server_is_let_go() {
    let mut room = Room::new(policy());
    let a = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER)));
    let other = room.hear(1, &Packet::new(ANN, REQUEST).wishes(a).for_server(OTHER_SERVER));
    assert_eq!(line(&other), "silence: other-server");
    // The address is free for somebody who asks for it.
    let bob = room.hear(1, &Packet::new(BOB, DISCOVER).wishes(a));
    assert_eq!((yiaddr(&bob), line(&bob)), (a, format!("offer Offer(Requested) to {a}:68 in a frame to {BOB}")));
}

#[test]
fn selecting_what_cannot_be_had_is_refused() {
    let (mut room, a) = with_ann();
    let mut select = |address| line(&room.hear(1, &Packet::new(BOB, REQUEST).wishes(address).for_server(SERVER)));
    assert_eq!(select(a), "nak Nak(Taken) to 255.255.255.255:68");
    assert_eq!(select(RESERVED), "nak Nak(NotForThisClient) to 255.255.255.255:68");
    assert_eq!(select(Ipv4Addr::new(10, 77, 0, 5)), "nak Nak(NotForThisClient) to 255.255.255.255:68");
    assert_eq!(select(Ipv4Addr::new(192, 168, 1, 5)), "nak Nak(WrongNetwork) to 255.255.255.255:68");
}

#[test]
fn a_nak_is_bare() {
    let (mut room, a) = with_ann();
    let nak = room.hear(1, &Packet::new(BOB, REQUEST).wishes(a).for_server(SERVER).with(61, b"\x01bob"));
    let codes: Vec<u8> = options(reply(&nak)).iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 56, 61]);
    assert_eq!(reply(&nak)[12..28], [0; 16], "no address field is set");
}

#[test]
fn init_reboot() {
    let (mut room, a) = with_ann();
    let other = Ipv4Addr::new(10, 77, 0, 199);
    let mut reboot = |t, mac, address| line(&room.hear(t, &Packet::new(mac, REQUEST).wishes(address)));
    // Right, and so fresh that nothing is written.
    assert_eq!(reboot(10, ANN, a), format!("ack Ack(StillFresh, 3590) to {a}:68 in a frame to {ANN}"));
    // Right, later.
    assert_eq!(
        reboot(1000, ANN, a),
        format!("save {a} bound {ANN}; ack Ack(InitReboot, 3600) to {a}:68 in a frame to {ANN}")
    );
    assert_eq!(reboot(1001, ANN, other), "nak Nak(OtherAddress) to 255.255.255.255:68");
    assert_eq!(reboot(1001, ANN, Ipv4Addr::new(192, 168, 1, 5)), "nak Nak(WrongNetwork) to 255.255.255.255:68");
    // No record: another server may know it.
    assert_eq!(reboot(1001, BOB, other), "silence: unknown-lease");
    assert_eq!(reboot(1001, BOB, a), "nak Nak(Taken) to 255.255.255.255:68");
}

#[test]
fn an_authoritative_server_refuses_what_it_does_not_know() {
    let mut policy = policy();
    policy.subnets[0].authoritative = true;
    let mut room = Room::new(policy);
    let reboot = room.hear(0, &Packet::new(BOB, REQUEST).wishes(Ipv4Addr::new(10, 77, 0, 199)));
    assert_eq!(line(&reboot), "nak Nak(Unknown) to 255.255.255.255:68");
}

#[test]
fn renewing_and_rebinding() {
    let (mut room, a) = with_ann();
    let renew = Packet::new(ANN, REQUEST).ciaddr(a);
    assert_eq!(line(&room.hear_unicast(10, &renew, a)), format!("ack Ack(StillFresh, 3590) to {a}:68"));
    assert_eq!(line(&room.hear_unicast(900, &renew, a)), format!("ack Ack(StillFresh, 2700) to {a}:68"));
    assert_eq!(
        line(&room.hear_unicast(1800, &renew, a)),
        format!("save {a} bound {ANN}; ack Ack(Renewing, 3600) to {a}:68")
    );
    // By broadcast, close to the end of the second lease.
    assert_eq!(line(&room.hear(5300, &renew)), format!("save {a} bound {ANN}; ack Ack(Rebinding, 3600) to {a}:68"));
    // Even after its end, as long as nobody else got the address.
    assert_eq!(line(&room.hear(90_000, &renew)), format!("save {a} bound {ANN}; ack Ack(Rebinding, 3600) to {a}:68"));
    // Somebody else renews it.
    assert_eq!(
        line(&room.hear_unicast(90_001, &Packet::new(BOB, REQUEST).ciaddr(a), a)),
        "nak Nak(Taken) to 255.255.255.255:68"
    );
    // An address of another network, whoever it is from.
    let moved = Packet::new(BOB, REQUEST).ciaddr(Ipv4Addr::new(192, 168, 1, 5));
    assert_eq!(line(&room.hear(90_002, &moved)), "nak Nak(WrongNetwork) to 255.255.255.255:68");
    // A lease that we know nothing of.
    let unknown = Packet::new(BOB, REQUEST).ciaddr(Ipv4Addr::new(10, 77, 0, 199));
    assert_eq!(line(&room.hear(90_002, &unknown)), "silence: unknown-lease");
}

#[test]
fn a_reservation_is_its_hosts_alone() {
    let mut room = Room::new(policy());
    let offer = room.hear(0, &Packet::new(EVE, DISCOVER));
    assert_eq!((yiaddr(&offer), option(reply(&offer), 12).unwrap()), (RESERVED, b"eve".to_vec()));
    // Asking for it helps nobody else, and taking every other address neither.
    for n in 0..=255 {
        let mac = boot_model::MacAddr::new([2, 0, 0, 0, 1, n]);
        if let outcome @ Outcome::Act(_) = room.hear(1, &Packet::new(mac, DISCOVER).wishes(RESERVED)) {
            let address = yiaddr(&outcome);
            assert_ne!(address, RESERVED);
            room.hear(1, &Packet::new(mac, REQUEST).wishes(address).for_server(SERVER));
        }
    }
    assert_eq!(room.saved.len(), 99, "all of the pool but the reservation");
    // A known host needs no record to reboot with its address.
    assert!(line(&room.hear(2, &Packet::new(EVE, REQUEST).wishes(RESERVED))).contains("Ack(InitReboot, 3600)"));
    // And may not take another.
    let elsewhere = room.hear(2, &Packet::new(EVE, REQUEST).wishes(Ipv4Addr::new(10, 77, 0, 120)).for_server(SERVER));
    assert_eq!(line(&elsewhere), "nak Nak(NotForThisClient) to 255.255.255.255:68");
}

#[test]
fn a_full_pool_gives_out_what_was_unused_longest() {
    let mut room = Room::new(policy());
    let mac = |n: u8| boot_model::MacAddr::new([2, 0, 0, 0, 2, n]);
    let mut addresses = Vec::new();
    for n in 0..99 {
        let address = yiaddr(&room.hear(n.into(), &Packet::new(mac(n), DISCOVER)));
        room.hear(n.into(), &Packet::new(mac(n), REQUEST).wishes(address).for_server(SERVER));
        addresses.push(address);
    }
    assert_eq!(line(&room.hear(100, &Packet::new(ANN, DISCOVER))), "silence: pool-empty");
    // After all have ended, the first one's goes first, then the second's; a client that comes back keeps its own.
    assert_eq!(yiaddr(&room.hear(4000, &Packet::new(ANN, DISCOVER))), addresses[0]);
    assert_eq!(yiaddr(&room.hear(4000, &Packet::new(BOB, DISCOVER))), addresses[1]);
    assert_eq!(yiaddr(&room.hear(4000, &Packet::new(mac(50), DISCOVER))), addresses[50]);
}

#[test]
fn inform_gets_options_only() {
    let mut room = Room::new(policy());
    let own = Ipv4Addr::new(10, 77, 0, 20);
    let ack = room.hear_unicast(0, &Packet::new(ANN, INFORM).ciaddr(own), own);
    assert_eq!(line(&ack), format!("inform Informed to {own}:68"));
    let codes: Vec<u8> = options(reply(&ack)).iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 1, 3, 28]);
    assert_eq!(yiaddr(&ack), Ipv4Addr::UNSPECIFIED);
    // Some clients leave ciaddr empty; Kea answers those where they ask from, too.
    let bare = room.hear_unicast(0, &Packet::new(ANN, INFORM), own);
    assert_eq!(line(&bare), format!("inform Informed to {own}:68"));
    // No reply to an address that the network does not have: that would be a mirror for spoofed datagrams.
    let outside = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(line(&room.hear_unicast(0, &Packet::new(ANN, INFORM).ciaddr(outside), outside)), "silence: no-address");
}

#[test]
fn bootp_is_for_reservations() {
    let mut room = Room::new(policy());
    assert_eq!(line(&room.hear(0, &Packet::bootp(ANN))), "silence: bootp-unreserved");
    let outcome = room.hear(0, &Packet::bootp(EVE));
    assert_eq!((yiaddr(&outcome), option(reply(&outcome), 53)), (RESERVED, None));
}

#[test]
fn one_machine_keeps_its_address_from_firmware_to_system() {
    let mut room = Room::new(policy());
    let firmware = yiaddr(&room.hear(0, &pxe(Packet::new(ANN, DISCOVER), 7)));
    let ipxe = yiaddr(&room.hear(1, &pxe(Packet::new(ANN, DISCOVER), 7).with(61, b"\x01ann").with(77, b"iPXE")));
    let system =
        yiaddr(&room.hear(2, &Packet::new(ANN, DISCOVER).with(61, b"\xff\x01\x02\x03\x04\x00\x02\x00\x00\xab\x11")));
    assert_eq!((firmware, firmware), (ipxe, system));

    let mut policy = policy();
    policy.identity = dhcp_engine::Identity::ClientId;
    let mut room = Room::new(policy);
    let one = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER).with(61, b"one")));
    let two = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER).with(61, b"two")));
    assert_ne!(one, two, "by identifier they are two clients");
}

#[test]
fn a_client_that_moved_to_its_reservation_gives_up_its_old_address() {
    let (room, a) = with_ann();
    let mut policy = policy();
    let name = None;
    policy.subnets[0].hosts.insert(ANN, dhcp_engine::Host { address: Some(Ipv4Addr::new(10, 77, 0, 160)), name });
    let mut room = Room::restored(policy, room.saved, 1);
    // Its renewal fails at once, so that it moves.
    assert_eq!(
        line(&room.hear_unicast(2, &Packet::new(ANN, REQUEST).ciaddr(a), a)),
        "nak Nak(NotForThisClient) to 255.255.255.255:68"
    );
    let ack = room.hear(3, &Packet::new(ANN, REQUEST).wishes(Ipv4Addr::new(10, 77, 0, 160)).for_server(SERVER));
    assert!(
        line(&ack).starts_with(&format!("save {a} released {ANN}; save 10.77.0.160 bound {ANN}; ack")),
        "{}",
        line(&ack)
    );
}

#[test]
fn promises_survive_a_restart() {
    let (room, a) = with_ann();
    let mut room = Room::restored(policy(), room.saved, 100);
    assert_eq!(
        line(&room.hear(100, &Packet::new(BOB, REQUEST).wishes(a).for_server(SERVER))),
        "nak Nak(Taken) to 255.255.255.255:68"
    );
    let again = room.hear(100, &Packet::new(ANN, REQUEST).wishes(a));
    assert_eq!(line(&again), format!("ack Ack(StillFresh, 3500) to {a}:68 in a frame to {ANN}"));
}

#[test]
fn a_lease_that_was_not_saved_is_written_again() {
    let mut room = Room::new(policy());
    room.store_works = false;
    let a = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER)));
    let select = Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER);
    for seconds in [1, 5] {
        assert!(line(&room.hear(seconds, &select)).starts_with("save"), "no promise without a record");
    }
}

#[test]
fn a_reload_makes_no_lease_durable() {
    let mut room = Room::new(policy());
    room.store_works = false;
    let a = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER)));
    let select = Packet::new(ANN, REQUEST).wishes(a).for_server(SERVER);
    assert!(line(&room.hear(1, &select)).starts_with("save"));
    room.engine.reload(policy(), at(2));
    assert!(line(&room.hear(3, &select)).starts_with("save"), "it is not on disk yet");
    // Nor while the disk is full, as it may be by the very generation that was published.
    room.engine.set_store_failing(true);
    room.engine.reload(policy(), at(4));
    assert_eq!(line(&room.hear(5, &select)), "silence: store-failing");
}

#[test]
fn a_reload_goes_by_the_clock_that_never_steps() {
    let (mut room, a) = with_ann();
    // The wall clock was set a year ahead and nobody has noticed yet.
    room.engine.reload(policy(), Now { unix: at(0).unix + 31_536_000, ..at(10) });
    let renew = Packet::new(ANN, REQUEST).ciaddr(a);
    assert_eq!(line(&room.hear_unicast(20, &renew, a)), format!("ack Ack(StillFresh, 3580) to {a}:68"));
}

#[test]
fn what_a_client_gave_up_takes_nothing_from_what_it_has() {
    let mut moved = policy();
    moved.subnets[0].hosts.insert(
        ANN,
        dhcp_engine::Host { address: Some(Ipv4Addr::new(10, 77, 0, 250)), name: Some("ann".parse().unwrap()) },
    );
    let mut room = Room::new(moved);
    let take = |room: &mut Room, seconds| {
        let address = yiaddr(&room.hear(seconds, &Packet::new(ANN, DISCOVER)));
        room.hear(seconds, &Packet::new(ANN, REQUEST).wishes(address).for_server(SERVER));
        address
    };
    let reserved = take(&mut room, 0);
    room.engine.reload(policy(), at(10));
    let address = take(&mut room, 10);
    assert!(address < reserved, "the order by address is the wrong one here");
    let keeps = |room: &mut Room, seconds| {
        let bob = room.hear(seconds, &Packet::new(BOB, REQUEST).wishes(address).for_server(SERVER));
        assert_eq!(line(&bob), "nak Nak(Taken) to 255.255.255.255:68");
        let renew = room.hear_unicast(seconds, &Packet::new(ANN, REQUEST).ciaddr(address), address);
        assert!(line(&renew).contains("Ack(StillFresh"), "{}", line(&renew));
    };
    room.engine.reload(policy(), at(20));
    keeps(&mut room, 21);
    let snapshot = room.engine.leases();
    keeps(&mut Room::restored(policy(), snapshot, 30), 31);
}

#[test]
fn while_leases_cannot_be_written_known_ones_are_kept_and_new_ones_not_made() {
    let (mut room, a) = with_ann();
    room.engine.set_store_failing(true);
    let renew = Packet::new(ANN, REQUEST).ciaddr(a);
    assert_eq!(line(&room.hear_unicast(3000, &renew, a)), format!("ack Ack(StoreFailing, 600) to {a}:68"));
    assert_eq!(line(&room.hear_unicast(3601, &renew, a)), "silence: store-failing");
    assert_eq!(line(&room.hear(3602, &Packet::new(BOB, DISCOVER))), "silence: store-failing");
    room.engine.set_store_failing(false);
    assert!(line(&room.hear_unicast(3603, &renew, a)).starts_with("save"));
}

#[test]
fn the_wall_clock_may_step() {
    let (mut room, a) = with_ann();
    // Two years ahead, as when the network time arrives: the lease neither ends nor becomes longer.
    let later = |seconds: u64| Now { unix: 1_863_072_000 + seconds, ..at(seconds) };
    assert!(!room.engine.wall_clock_was_set(at(50)));
    assert!(room.engine.wall_clock_was_set(later(100)), "the shell writes a snapshot");
    assert!(!room.engine.wall_clock_was_set(later(110)), "once");
    let lease = &room.engine.leases()[0];
    assert_eq!((lease.address, lease.expires), (a, later(3600).unix));
    let mut after = Engine::new(policy(), [lease.clone()], later(200));
    let bytes = Packet::new(BOB, REQUEST).wishes(a).for_server(SERVER).bytes();
    let request = dhcp_engine::Request::parse(&bytes).unwrap();
    let source = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let from = Ingress { interface: "lan", source, destination: Ipv4Addr::BROADCAST, port: ServerPort::Dhcp };
    let outcome = after.handle(later(3500), &request, from);
    assert!(line(&outcome).starts_with("nak"), "{}", line(&outcome));
    // Restarted with a clock that is not set at all: time goes on from the last record.
    let unset = Now { monotonic_ms: 0, unix: 12 };
    let mut after = Engine::new(policy(), [lease.clone()], unset);
    let outcome = after.handle(Now { monotonic_ms: 3_000_000, unix: 3012 }, &request, from);
    assert!(line(&outcome).starts_with("nak"), "{}", line(&outcome));
}

#[test]
fn messages_that_are_not_for_servers() {
    let mut room = Room::new(policy());
    for message_type in [0, 2, 5, 6, 9, 10, 255] {
        assert_eq!(line(&room.hear(0, &Packet::new(ANN, message_type))), "silence: unsupported-message");
    }
    let mut nobody = Packet::new(ANN, DISCOVER);
    nobody.header[2] = 0;
    assert_eq!(line(&room.hear(0, &nobody)), "silence: no-identity");
    // InfiniBand has no hardware address here, only an identifier; it is answered by broadcast (RFC 4390).
    nobody.header[1] = 32;
    assert!(line(&room.hear(0, &nobody.with(61, b"infiniband"))).ends_with("to 255.255.255.255:68"));
}

#[test]
fn the_same_messages_have_the_same_answers() {
    let run = || {
        let mut room = Room::new(policy());
        (0..200)
            .map(|n| line(&room.hear(n, &Packet::new(boot_model::MacAddr::new([2, 0, 0, 0, 4, n as u8]), DISCOVER))))
            .collect()
    };
    let first: Vec<String> = run();
    assert_eq!(first, run());
    let mut room = Room::new(policy());
    assert_eq!(yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER))), ANNS);
    assert_eq!(yiaddr(&room.hear(0, &Packet::new(BOB, DISCOVER))), BOBS);
}

#[test]
fn effects_are_saves_before_sends() {
    let (room, a) = with_ann();
    let mut room = Room::restored(policy(), room.saved, 0);
    let Outcome::Act(decision) = room.hear_unicast(1800, &Packet::new(ANN, REQUEST).ciaddr(a), a) else { panic!() };
    assert!(matches!(decision.effects[..], [Effect::SaveLease(_), Effect::Send { .. }]));
}
