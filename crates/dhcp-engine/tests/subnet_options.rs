//! Options that only some clients read, and only some networks have.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::Ipv4Addr;

use common::*;
use dhcp_engine::{Ipv4Network, Policy, Route};

fn rich() -> Policy {
    let mut policy = policy();
    let options = &mut policy.subnets[0].options;
    options.search = vec!["lab.example.org".into()];
    options.ntp = vec![SERVER];
    options.routes = vec![Route {
        to: Ipv4Network::new(Ipv4Addr::new(10, 9, 0, 0), 16).unwrap(),
        via: Ipv4Addr::new(10, 77, 0, 254),
    }];
    options.captive_portal = Some("https://portal.example.org/api".into());
    options.ipv6_only_seconds = Some(1800);
    options.mtu = Some(9000);
    options.pxelinux_prefix = Some("http://10.77.0.1:8080/".into());
    options.pxelinux_config = Some("pxelinux.cfg/all".into());
    policy
}

/// The optional options of an offer, in order.
fn offered(packet: &Packet) -> Vec<(u8, Vec<u8>)> {
    let outcome = Room::new(rich()).hear(0, packet);
    let usual = [53, 54, 51, 58, 59, 1, 28, 43, 60, 66, 67, 97];
    options(reply(&outcome)).into_iter().filter(|(code, _)| !usual.contains(code)).collect()
}

#[test]
fn who_asks_is_told() {
    let asks = Packet::new(ANN, DISCOVER).with(55, &[1, 3, 26, 42, 108, 114, 119, 121, 150]);
    let expected = vec![
        // RFC 3442: before 3, and with the default route, because its reader ignores 3.
        (121, vec![16, 10, 9, 10, 77, 0, 254, 0, 10, 77, 0, 1]),
        (3, SERVER.octets().to_vec()),
        (42, SERVER.octets().to_vec()),
        (119, b"\x03lab\x07example\x03org\0".to_vec()),
        (108, 1800u32.to_be_bytes().to_vec()),
        (26, 9000u16.to_be_bytes().to_vec()),
        (114, b"https://portal.example.org/api".to_vec()),
    ];
    assert_eq!(offered(&asks), expected);
    // Windows XP's number of 121.
    let microsoft = offered(&Packet::new(ANN, DISCOVER).with(55, &[249]));
    assert_eq!(microsoft[0], (249, expected[0].1.clone()));
}

#[test]
fn what_does_not_fit_travels_in_the_fields_of_names() {
    let mut policy = rich();
    policy.subnets[0].domain = Some("a-long-name-of-a-department.example.org".into());
    policy.subnets[0].options.search = (0..8).map(|n| format!("search-domain-{n}.example.org")).collect();
    let asks = |packet: Packet| packet.with(55, &[1, 3, 15, 42, 108, 114, 119, 121]);
    let hear = |packet: &Packet| Room::new(policy.clone()).hear(0, packet);

    // A running system that takes 548 bytes (no option 57) is told all of it, by option 52 (RFC 2131 §4.1).
    let outcome = hear(&asks(Packet::new(ANN, DISCOVER).giaddr(SERVER).with(82, b"\x01\x01x")));
    let offer = reply(&outcome);
    assert!(offer.len() <= 548 + 5, "{}", offer.len());
    assert!(option(offer, 52).is_some());
    assert_eq!(
        options(offer).last().unwrap().0,
        82,
        "the relay looks for it at the end of the options, and nowhere else"
    );
    let mut request = offer.to_vec();
    request[0] = 1;
    let read = dhcp_engine::Request::parse(&request).unwrap();
    for code in [1, 3, 15, 28, 42, 51, 53, 54, 58, 59, 108, 114, 119, 121] {
        assert!(read.options.raw(code).is_some(), "{code}");
    }
    assert_eq!(read.options.raw(119).unwrap().len(), 8 * 29);

    // One that takes more needs nothing of the kind.
    let large = hear(&asks(Packet::new(ANN, DISCOVER).with(57, &1500u16.to_be_bytes())));
    assert_eq!(option(reply(&large), 52), None);
    assert_eq!(reply(&large)[44..236], [0; 192]);

    // Old ROMs take whatever stands there for names (dnsmasq --dhcp-no-override): the least useful is left out instead.
    let rom = hear(&asks(pxe(Packet::new(ANN, DISCOVER), 0)));
    assert_eq!((option(reply(&rom), 52), option(reply(&rom), 119)), (None, None));
    assert_eq!(reply(&rom)[108..119], *b"lpxelinux.0");
}

#[test]
fn who_does_not_ask_keeps_the_room() {
    assert_eq!(offered(&Packet::new(ANN, DISCOVER)), [(3, SERVER.octets().to_vec())]);
}

#[test]
fn pxelinux_reads_what_no_rom_asks_for() {
    // It parses the ROM's packets again (RFC 5071; syslinux core/fs/pxe/dhcp_option.c).
    let rom = offered(&pxe(Packet::new(ANN, DISCOVER), 0).with(55, &[150]));
    let expected = vec![
        (3, SERVER.octets().to_vec()),
        (150, SERVER.octets().to_vec()),
        (209, b"pxelinux.cfg/all".to_vec()),
        (210, b"http://10.77.0.1:8080/".to_vec()),
        // A machine that could not be booted starts over after seconds, not after five minutes.
        (211, 15u32.to_be_bytes().to_vec()),
    ];
    assert_eq!(rom, expected);
    // U-Boot asks.
    let u_boot = Packet::new(ANN, DISCOVER).with(60, b"U-Boot.armv8").with(55, &[209]);
    assert_eq!(offered(&u_boot)[1..], [(209, b"pxelinux.cfg/all".to_vec())]);
}

#[test]
fn rapid_commit_saves_first_and_only_where_it_is_wanted() {
    let hasty = Packet::new(ANN, DISCOVER).with(80, &[]);
    let mut room = Room::new(policy());
    assert!(line(&room.hear(0, &hasty)).starts_with("offer "), "off unless configured (RFC 4039 §1)");
    let mut policy = policy();
    policy.subnets[0].options.rapid_commit = true;
    let mut room = Room::new(policy);
    let ack = room.hear(0, &hasty);
    let a = yiaddr(&ack);
    assert_eq!(line(&ack), format!("save {a} bound {ANN}; ack Ack(RapidCommit, 3600) to {a}:68 in a frame to {ANN}"));
    assert_eq!(option(reply(&ack), 80), Some(vec![]));
    assert!(line(&room.hear(0, &Packet::new(BOB, DISCOVER))).starts_with("offer "));
}
