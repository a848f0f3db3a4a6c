//! Framing: malformed input costs as little as it can, replies keep their form.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::Ipv4Addr;

use common::*;
use dhcp_engine::{MalformedRequest, Reply, Request};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

const ID: (u8, &[u8]) = (61, b"\x01identity");

fn parse<T>(packet: &Packet, check: impl FnOnce(Request<'_>) -> T) -> T {
    check(Request::parse(&packet.bytes()).unwrap())
}

#[test]
fn what_is_no_request() {
    let good = Packet::new(ANN, DISCOVER).bytes();
    for length in 0..240 {
        assert_eq!(Request::parse(&good[..length]).unwrap_err(), MalformedRequest::TooShort(length));
    }
    let broken = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Request::parse(&bytes).map(|request| request.hardware_address().len())
    };
    assert_eq!(broken(0, 2), Err(MalformedRequest::NotARequest(2)));
    assert_eq!(broken(236, 0), Err(MalformedRequest::NoMagic));
    // dhcproto panics from 17 on.
    assert_eq!(broken(2, 6), Ok(6));
    assert_eq!(broken(2, 16), Ok(16));
    assert_eq!(broken(2, 17), Err(MalformedRequest::HardwareLength(17)));
    assert_eq!(broken(2, 255), Err(MalformedRequest::HardwareLength(255)));
}

#[test]
fn a_bad_option_costs_only_itself() {
    // Each of these made dhcproto drop the identifier that follows, or panics in its debug builds.
    let bad: [(u8, &[u8]); 9] = [
        (12, b"\xff\xfe"),
        (94, b"\x01\x03"),
        (57, b"\x01"),
        (80, b"\x01"),
        (19, b"\x01\x02"),
        (53, b""),
        (81, b"\x00"),
        (82, b"\x01\x09x"),
        (151, b""),
    ];
    for (code, value) in bad {
        let packet = Packet::new(ANN, DISCOVER).with(code, value).with(ID.0, ID.1).with(60, b"PXEClient");
        parse(&packet, |request| {
            assert_eq!(request.options.message_type(), Some(MessageType::Discover), "{code}");
            assert_eq!(request.options.raw(61), Some(ID.1), "{code}");
            assert_eq!(request.options.raw(60), Some(&b"PXEClient"[..]), "{code}");
            for code in 0..=255 {
                request.options.decode(OptionCode::from(code));
            }
        });
    }
}

#[test]
fn repeated_options_are_joined_wherever_they_stand() {
    let packet = Packet::new(ANN, DISCOVER).with(61, b"abc").with(12, b"h").with(61, b"de");
    parse(&packet, |request| assert_eq!(request.options.raw(61), Some(&b"abcde"[..])));
    let long = Packet::new(ANN, DISCOVER).with(67, &[b'a'; 255]).with(67, &[b'b'; 45]);
    parse(&long, |request| {
        let Some(DhcpOption::BootfileName(name)) = request.options.decode(OptionCode::BootfileName) else { panic!() };
        assert_eq!(name, [[b'a'; 255].as_slice(), &[b'b'; 45]].concat());
    });
}

#[test]
fn a_length_beyond_the_end_keeps_what_came_before() {
    let mut packet = Packet::new(ANN, DISCOVER).with(61, b"x");
    packet.options.extend([60, 200, b'P']);
    parse(&packet, |request| {
        assert_eq!((request.options.raw(61), request.options.raw(60)), (Some(&b"x"[..]), None));
    });
    packet.options.truncate(6);
    packet.options.push(60);
    let bytes = [&packet.header[..], &packet.options].concat();
    assert_eq!(Request::parse(&bytes).unwrap().options.raw(61), Some(&b"x"[..]));
}

#[test]
fn overloaded_fields_follow_in_order() {
    for (overload, expected) in [(1, "of"), (2, "os"), (3, "ofs"), (0, "o"), (4, "o")] {
        let mut packet = Packet::new(ANN, DISCOVER).with(52, &[overload]).with(61, b"o");
        packet.header[108..112].copy_from_slice(&[61, 1, b'f', 255]);
        packet.header[44..48].copy_from_slice(&[61, 1, b's', 255]);
        parse(&packet, |request| assert_eq!(request.options.raw(61), Some(expected.as_bytes()), "{overload}"));
    }
    // An option 52 within `file` overloads nothing: the scan would never end otherwise.
    let mut packet = Packet::new(ANN, DISCOVER).with(52, &[1]);
    packet.header[108..112].copy_from_slice(&[52, 1, 2, 255]);
    packet.header[44..48].copy_from_slice(&[61, 1, b's', 255]);
    parse(&packet, |request| assert_eq!(request.options.raw(61), None));
}

#[test]
fn pads_are_skipped_and_the_end_ends() {
    let mut packet = Packet::new(ANN, DISCOVER);
    packet.options.extend([0, 0, 61, 1, b'x', 255, 60, 1, b'y']);
    parse(&packet, |request| assert_eq!(request.options.codes().collect::<Vec<_>>(), [53, 61]));
}

fn reply_to(packet: &Packet, fill: impl FnOnce(&mut Reply)) -> Vec<u8> {
    parse(packet, |request| {
        let mut reply = Reply::to(&request);
        reply.option(&DhcpOption::MessageType(MessageType::Ack));
        fill(&mut reply);
        reply.encode().unwrap()
    })
}

#[test]
fn replies_are_padded_and_ordered() {
    let bytes = reply_to(&Packet::new(ANN, DISCOVER).with(82, &[1, 0]), |reply| {
        reply.option(&DhcpOption::ServerIdentifier(SERVER));
        reply.option(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    });
    assert_eq!(bytes.len(), 300, "relays discard shorter ones");
    assert_eq!(options(&bytes).iter().map(|(code, _)| *code).collect::<Vec<_>>(), [53, 54, 1, 82]);
    assert_eq!(bytes[4..8], [0x11, 0x22, 0x33, 0x44]);
    assert_eq!(bytes[28..44], Packet::new(ANN, 0).header[28..44]);
}

#[test]
fn long_values_are_split_and_long_names_left_to_option_67() {
    let name = "n".repeat(300);
    let bytes = reply_to(&Packet::new(ANN, DISCOVER).with(57, &1500u16.to_be_bytes()), |reply| {
        reply.file(&name);
        reply.raw_option(67, name.as_bytes());
    });
    assert_eq!(bytes[108..236], [0; 128]);
    let parts: Vec<usize> = options(&bytes)[1..].iter().map(|(_, value)| value.len()).collect();
    assert_eq!(parts, [255, 45]);
    let fits = "f".repeat(127);
    assert_eq!(reply_to(&Packet::new(ANN, DISCOVER), |reply| reply.file(&fits))[235], 0, "the NUL has its place");
}

#[test]
fn replies_keep_to_option_57_by_leaving_out_the_least_useful() {
    // 57 = 65280 is OVMF's; below 576 nobody may go.
    for (size, limit) in [(None, 548), (Some(0), 548), (Some(576), 548), (Some(1472), 1444), (Some(65280), 1472)] {
        let mut packet = Packet::new(ANN, DISCOVER);
        if let Some(size) = size {
            packet = packet.with(57, &u16::to_be_bytes(size));
        }
        let bytes = reply_to(&packet, |reply| {
            reply.option(&DhcpOption::Hostname("h".repeat(200)));
            reply.option(&DhcpOption::DomainName("d".repeat(200)));
            reply.raw_option(67, b"boot");
        });
        assert!(bytes.len() <= limit);
        let codes: Vec<u8> = options(&bytes).iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, if limit < 600 { vec![53, 12, 67] } else { vec![53, 12, 15, 67] }, "{size:?}");
    }
    // What may not be left out and does not fit is not sent.
    parse(&Packet::new(ANN, DISCOVER), |request| {
        let mut reply = Reply::to(&request);
        reply.raw_option(67, &[b'x'; 400]);
        assert!(reply.encode().is_err());
    });
}

#[test]
fn a_relays_option_does_not_count_against_the_client() {
    let bytes = reply_to(&Packet::new(ANN, DISCOVER).with(82, &[9; 250]).with(82, &[8; 100]), |reply| {
        reply.raw_option(67, &[b'x'; 200]);
    });
    let last = options(&bytes)[2..].to_vec();
    assert_eq!(last.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), [255, 95]);
    assert!(last.iter().all(|(code, _)| *code == 82));
}
