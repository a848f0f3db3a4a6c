//! Whatever arrives: no panic, a reply that keeps its form, and no lease that changes in silence. Seeds are real packets, mutated; `integration/fuzz` holds `feed` to whatever
//! libFuzzer finds.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

pub(crate) mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use common::*;
use dhcp_engine::{Effect, Engine, Ingress, Mode, Outcome, Policy, Request, ServerPort};
use proptest::prelude::*;

/// What must be true of every reply.
fn check_reply(request: &[u8], reply: &[u8]) {
    let parsed = Request::parse(request).unwrap();
    let relay = parsed.relay_information();
    let relay_length = relay.map_or(0, |value| value.len() + 2 * value.len().div_ceil(255).max(1));
    let size = usize::from(parsed.options.max_message_size().unwrap_or(0).clamp(576, 1500));
    assert!(reply.len() >= 300 && reply.len() <= 1472, "{}", reply.len());
    assert!(reply.len() <= (size - 28 + relay_length).max(300), "{} for option 57 = {size}", reply.len());
    let options = options(reply);
    let echoed: Vec<u8> = options.iter().filter(|(code, _)| *code == 82).flat_map(|(_, value)| value.clone()).collect();
    assert_eq!(echoed, relay.unwrap_or_default());
    if relay.is_some() {
        assert_eq!(options.last().unwrap().0, 82);
    }
    assert!(options.iter().all(|(code, _)| ![50, 55, 57].contains(code)), "RFC 2131 table 3");
    // op, hardware type and length, hops; transaction; seconds; flags; relay and hardware address (RFC 2131 table 3).
    assert_eq!(reply[..4], [2, request[1], request[2], 0]);
    assert_eq!((&reply[4..8], &reply[8..10], &reply[24..44]), (&request[4..8], &[0, 0][..], &request[24..44]));
    let flag = reply[10] & 0x80;
    assert_eq!([reply[10] & 0x7f, reply[11]], [request[10] & 0x7f, request[11]]);
    let is_nak = options.first().is_some_and(|first| *first == (53, vec![6]));
    assert!(flag == request[10] & 0x80 || (is_nak && flag == 0x80), "the broadcast flag is copied");
    if let Some((at, _)) = options.iter().enumerate().find(|(_, (code, _))| *code == 53) {
        assert_eq!(at, 0, "53 first");
    }
    // An independent reader agrees (dhcproto, on bytes that we made).
    let decoded = <dhcproto::v4::Message as dhcproto::Decodable>::decode(&mut dhcproto::Decoder::new(reply)).unwrap();
    assert_eq!(decoded.xid(), parsed.xid);
}

pub(crate) fn feed(engine: &mut Engine, seconds: u64, bytes: &[u8], broadcast: bool) {
    let Ok(request) = Request::parse(bytes) else { return };
    for code in 0..=255u8 {
        request.options.decode(code.into());
    }
    let destination = if broadcast { Ipv4Addr::BROADCAST } else { SERVER };
    let port = if seconds.is_multiple_of(7) { ServerPort::BootServer } else { ServerPort::Dhcp };
    let from = Ingress { interface: "lan", source: SocketAddrV4::new(request.ciaddr, 68), destination, port };
    let before = engine.leases();
    let Outcome::Act(decision) = engine.handle(at(seconds), &request, from) else {
        return assert_eq!(engine.leases(), before, "what is ignored changes nothing");
    };
    let saves = decision.effects.iter().any(|effect| matches!(effect, Effect::SaveLease(_)));
    assert!(saves || engine.leases() == before, "what changes is saved");
    for effect in decision.effects {
        match effect {
            Effect::Send { reply, .. } => check_reply(bytes, &reply),
            Effect::Probe { address, .. } if seconds.is_multiple_of(2) => engine.in_use(at(seconds), address),
            Effect::Probe { address, .. } => engine.not_in_use(address),
            Effect::SaveLease(lease) => engine.saved([&lease]),
        }
    }
}

/// UDP payloads to port 67 of all captures.
fn corpus() -> Vec<Vec<u8>> {
    let captures: [&[u8]; 9] = [
        include_bytes!("../fixtures/aarch64-pxe.pcap"),
        include_bytes!("../fixtures/bios-ipxe-rom.pcap"),
        include_bytes!("../fixtures/bios-plain.pcap"),
        include_bytes!("../fixtures/ipxe-rom-no-pxedhcp.pcap"),
        include_bytes!("../fixtures/ipxe-rom.pcap"),
        include_bytes!("../fixtures/ovmf-pxe.pcap"),
        include_bytes!("../fixtures/uefi-http.pcap"),
        include_bytes!("../fixtures/uefi-ipxe-rom.pcap"),
        include_bytes!("../fixtures/uefi-pxe.pcap"),
    ];
    let mut payloads = Vec::new();
    for capture in captures {
        let mut rest = &capture[24..];
        while rest.len() > 16 {
            let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
            let frame = &rest[16..16 + length];
            // Ethernet 14, IPv4 20, UDP 8: none of these captures has IP options.
            if frame[36..38] == [0, 67] {
                payloads.push(frame[42..].to_vec());
            }
            rest = &rest[16 + length..];
        }
    }
    assert!(payloads.len() > 20, "{}", payloads.len());
    payloads
}

pub(crate) fn identified(mut policy: Policy, by_client: bool) -> Policy {
    if by_client {
        policy.identity = dhcp_engine::Identity::ClientId;
    }
    policy.subnets[0].authoritative = by_client;
    policy.subnets[0].options.rapid_commit = by_client;
    policy.probe = by_client;
    policy
}

/// A few seconds of mutation on stable: flips, cuts, repeats and splices of real packets, in one engine with one seed.
#[test]
fn mutated_captures() {
    let corpus = corpus();
    for (by_client, mode) in [(false, Mode::Full), (true, Mode::Full), (false, Mode::Proxy)] {
        let mut policy = identified(policy(), by_client);
        policy.subnets[0].mode = mode;
        let mut engine = Engine::new(policy, [], at(0));
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below.max(1) as u64) as usize
        };
        for round in 0..15_000u64 {
            let mut bytes = corpus[next(corpus.len())].clone();
            for _ in 0..next(6) {
                let at = next(bytes.len());
                match next(5) {
                    0 => bytes[at] = next(256) as u8,
                    1 => bytes[at] ^= 1 << next(8),
                    2 => bytes.truncate(at.max(236)),
                    3 => {
                        let other = &corpus[next(corpus.len())];
                        bytes.extend_from_slice(&other[240 + next(other.len() - 240)..]);
                    }
                    // Message types, addresses and relays, which plain flips seldom hit together.
                    _ => {
                        bytes[33] = next(8) as u8;
                        bytes.get_mut(242).into_iter().for_each(|byte| *byte = next(10) as u8);
                        let field = [12, 24][next(2)];
                        bytes[field..field + 4].copy_from_slice(&[10, 77, 0, 100 + next(100) as u8]);
                    }
                }
            }
            feed(&mut engine, round / 10, &bytes, next(2) == 0);
        }
        assert_eq!(engine.leases().is_empty(), mode == Mode::Proxy, "the mutations are mild enough to get leases");
    }
}

prop_compose! {
    fn option_bytes()(code in 1u8..255, value in proptest::collection::vec(any::<u8>(), 0..80)) -> Vec<u8> {
        [&[code, value.len() as u8][..], &value].concat()
    }
}

proptest! {
    #[test]
    fn any_header_with_any_options(
        message_type in 0u8..10,
        addresses in proptest::collection::vec(any::<u8>(), 16),
        options in proptest::collection::vec(option_bytes(), 0..12),
        hlen in 0u8..20,
        local in any::<bool>(),
    ) {
        let mut packet = Packet::new(ANN, message_type);
        packet.header[2] = hlen;
        packet.header[12..28].copy_from_slice(&addresses);
        if local {
            packet.header[12..28].fill(0);
        }
        packet.options.extend(options.concat());
        let mut engine = Engine::new(policy(), [], at(0));
        feed(&mut engine, 0, &packet.bytes(), true);
        feed(&mut engine, 1, &packet.bytes(), false);
    }

    #[test]
    fn any_length_of_relay_information(message_type in 1u8..9, host in 90u8..200, length in 0usize..1500) {
        let mut packet = Packet::new(ANN, message_type).giaddr(Ipv4Addr::new(10, 77, 0, 9)).for_server(SERVER);
        packet = packet.wishes(Ipv4Addr::new(10, 77, 0, host));
        for chunk in vec![2; length].chunks(255) {
            packet = packet.with(82, chunk);
        }
        feed(&mut Engine::new(policy(), [], at(1)), 1, &packet.bytes(), true);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        feed(&mut Engine::new(policy(), [], at(0)), 0, &bytes, true);
    }

    #[test]
    fn what_is_sent_is_what_is_read(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4)) {
        // Parse and encode: option values come back as they went, joined.
        let mut packet = Packet::new(ANN, DISCOVER).with(57, &1500u16.to_be_bytes());
        for (value, code) in values.iter().zip(200u8..) {
            for chunk in value.chunks(255) {
                packet = packet.with(code, chunk);
            }
        }
        let bytes = packet.bytes();
        let request = Request::parse(&bytes).unwrap();
        let mut reply = dhcp_engine::Reply::to(&request);
        for (value, code) in values.iter().zip(200u8..) {
            prop_assert_eq!(request.options.raw(code).unwrap_or_default(), &value[..]);
            reply.raw_option(code, value);
        }
        if let Ok(mut encoded) = reply.encode() {
            encoded[0] = 1;
            let again = Request::parse(&encoded).unwrap();
            for (value, code) in values.iter().zip(200u8..) {
                prop_assert_eq!(again.options.raw(code), Some(&value[..]));
            }
        }
    }
}
