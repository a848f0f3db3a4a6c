//! What clients and relays get wrong, each with its source: the list of quirks that this server was written against.
//!
//! Elsewhere: option 60 without 43 sends UEFI to port 4011 (FOGProject/fog-docs#188, tianocore/edk2#8149) and its menu code is
//! broken (dnsmasq `pxe_uefi_workaround`): `boot_matrix.rs`, `uefi_pxe_gets_neither_60_nor_43`. iPXE ignores a proxy's file without
//! `siaddr` (ipxe/ipxe#954, netbootxyz#736): `proxy.rs`, `ipxe_needs_60_siaddr_and_a_file_to_stop_waiting`. An invalid 12, 77 or 81
//! drops no packet (Technitium#1738, systemd#31708, OPNsense#8081): `boot_matrix.rs`, `invalid_options_never_cost_a_boot`. A
//! Raspberry Pi says that it is an x86 BIOS (rpi-eeprom#720): `boot_matrix.rs`, `raspberry_pi_is_known_by_its_address`.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::MacAddr;
use common::*;
use dhcp_engine::{Effect, Ingress, Mode, Outcome, ServerPort};

const PI: MacAddr = MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]);
const PI_BOOT: &[u8] = b"\x06\x01\x08\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

#[test]
fn uefi_that_never_merges_two_offers_boots_from_one() {
    // garybowers/bootimus#77, danderson/netboot#43: some firmware takes address and file from the same offer or not at all.
    for architecture in [6, 7, 9, 11] {
        let mut room = Room::new(policy());
        let offer = room.hear(0, &pxe(Packet::new(ANN, DISCOVER), architecture));
        let file = String::from_utf8_lossy(&reply(&offer)[108..236]).trim_end_matches('\0').to_owned();
        assert!(!yiaddr(&offer).is_unspecified() && file.ends_with(".efi"), "{architecture}: {file}");
        let ack = room.hear(1, &pxe(Packet::new(ANN, REQUEST), architecture).wishes(yiaddr(&offer)).for_server(SERVER));
        assert_eq!(reply(&ack)[108..236], reply(&offer)[108..236], "and the ACK says the same");
    }
}

#[test]
fn the_raspberry_pi_takes_an_offer_for_a_promise() {
    // It goes to TFTP after the OFFER, without a REQUEST (raspberrypi/firmware#1699).
    let mut room = Room::new(policy());
    let address = yiaddr(&room.hear(0, &pxe(Packet::new(PI, DISCOVER), 0)));
    assert_ne!(yiaddr(&room.hear(59, &Packet::new(BOB, DISCOVER).wishes(address))), address);
    assert_eq!(yiaddr(&room.hear(61, &Packet::new(ANN, DISCOVER).wishes(address))), address, "then it is free");
}

#[test]
fn the_raspberry_pis_request_lacks_option_60() {
    // raspberrypi/rpi-eeprom#84.
    let mut room = Room::new(policy());
    let address = yiaddr(&room.hear(0, &pxe(Packet::new(PI, DISCOVER), 0)));
    let request = Packet::new(PI, REQUEST).with(93, &[0, 0]).wishes(address).for_server(SERVER);
    let ack = room.hear(0, &request);
    assert_eq!(option(reply(&ack), 43).as_deref(), Some(PI_BOOT), "{}", line(&ack));
}

#[test]
fn the_raspberry_pi_needs_what_it_does_not_ask_for() {
    // raspberrypi/firmware#894: neither option 1 nor 3 is in its 55.
    let asks = pxe(Packet::new(PI, DISCOVER).with(55, &[43, 60, 66, 67]), 0);
    let offer = Room::new(policy()).hear(0, &asks);
    for code in [1, 3, 51, 54] {
        assert!(option(reply(&offer), code).is_some(), "{code}");
    }
    assert_eq!(
        option(reply(&offer), 66),
        Some(b"10.77.0.1".to_vec()),
        "66 and siaddr: versions differ in which they read"
    );
    assert_eq!(reply(&offer)[20..24], SERVER.octets());
}

#[test]
fn no_pad_stands_between_options() {
    // The Raspberry Pi's ROM took one for the end before 2020-01-17 (raspberrypi/rpi-eeprom#82).
    for mode in [Mode::Full, Mode::Proxy] {
        let mut policy = policy();
        policy.subnets[0].mode = mode;
        let offer = Room::new(policy).hear(0, &pxe(Packet::new(PI, DISCOVER), 0));
        let codes: Vec<u8> = options(reply(&offer)).iter().map(|(code, _)| *code).collect();
        assert!(codes.contains(&43) && !codes.contains(&0), "{codes:?}");
    }
}

#[test]
fn the_broadcast_flag_is_obeyed_and_copied() {
    // Relays unicast what is not flagged, and UEFI's card drops it (pyke369/pdhcp#3).
    let mut room = Room::new(policy());
    let flagged = Packet::new(ANN, DISCOVER).broadcast_flag();
    let offer = room.hear(0, &flagged);
    assert!(line(&offer).ends_with("to 255.255.255.255:68"), "{}", line(&offer));
    assert_eq!(reply(&offer)[10], 0x80);
    let relay = Ipv4Addr::new(10, 77, 0, 9);
    let source = SocketAddrV4::new(relay, 67);
    let from = Ingress { interface: "lan", source, destination: SERVER, port: ServerPort::Dhcp };
    let offer = room.hear_from(0, &flagged.giaddr(relay), from);
    assert!(line(&offer).ends_with("to 10.77.0.9:67"), "{}", line(&offer));
    assert_eq!(reply(&offer)[10], 0x80);
}

#[test]
fn a_stale_ciaddr_in_a_discover_is_ignored() {
    // dnsmasq rfc2131.c clears it too.
    let mut room = Room::new(policy());
    for stale in [Ipv4Addr::new(192, 168, 1, 7), Ipv4Addr::new(10, 77, 0, 120)] {
        let offer = room.hear(0, &Packet::new(ANN, DISCOVER).ciaddr(stale));
        assert!(line(&offer).contains("in a frame to"), "{}", line(&offer));
        assert_eq!(reply(&offer)[12..16], [0; 4]);
    }
}

#[test]
fn a_host_name_may_end_with_a_nul() {
    // dnsmasq `borken_opt`.
    let saved_name = |name: &[u8]| {
        let mut room = Room::new(policy());
        let address = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER)));
        let request = Packet::new(ANN, REQUEST).wishes(address).for_server(SERVER).with(12, name);
        let Outcome::Act(decision) = room.hear(0, &request) else { panic!() };
        let Effect::SaveLease(lease) = &decision.effects[0] else { panic!() };
        lease.host_name.as_ref().map(ToString::to_string)
    };
    assert_eq!(saved_name(b"PC-7\0").as_deref(), Some("pc-7"));
    assert_eq!(saved_name(b"pc-7").as_deref(), Some("pc-7"));
    assert_eq!(saved_name(b"\0"), None);
    assert_eq!(saved_name(b"<script>"), None);
}

#[test]
fn ovmfs_option_57_and_55_are_nonsense() {
    // 57 = 65280 in its PXE REQUEST, an uninitialised byte in HTTP boot's 55 (OVMF 2022.11, captured).
    let packet = pxe(Packet::new(ANN, DISCOVER).with(57, &[0xff, 0]).with(55, &[1, 3, 6, 43, 60, 67, 97, 241]), 7);
    let offer = Room::new(policy()).hear(0, &packet);
    assert!(reply(&offer).len() <= 1472);
    assert_eq!(option(reply(&offer), 241), None);
    assert!(option(reply(&offer), 67).is_some());
}
