//! A relay agent's datagram through real sockets. Needs root, as `clients.rs` does, and is skipped as there.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod room;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use room::{Room, ip, skipped};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Circuit 7, and a remote identifier that is no text.
const INFORMATION: [u8; 9] = [82, 7, 1, 1, 7, 2, 2, 0xff, 0];

/// As a relay agent of RFC 2131 §4.1 and RFC 3046 passes it on.
fn discover(transaction: &[u8; 4]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[4..8].copy_from_slice(transaction);
    packet[24..28].copy_from_slice(&RELAY.octets());
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 0, 9]);
    packet.extend([99, 130, 83, 99, 53, 1, 1]);
    packet.extend(INFORMATION);
    packet.push(255);
    packet
}

/// The relay agent's socket.
fn relay() -> UdpSocket {
    ip(&["addr", "add", "10.77.0.2/24", "dev", "card"]);
    let relay = UdpSocket::bind((RELAY, 67)).unwrap();
    // Only a hang is longer than this.
    relay.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    relay
}

#[test]
fn the_offer_goes_to_the_relay_with_its_information_last() {
    if skipped() {
        return;
    }
    let mut room = Room::new("y");
    room.start_server();
    room.in_client_namespace(|| {
        let relay = relay();
        relay.send_to(&discover(b"xid!"), (SERVER, 67)).unwrap();
        let mut buffer = [0; 1500];
        let (length, from) = relay.recv_from(&mut buffer).unwrap();
        let offer = &buffer[..length];
        assert_eq!(from, (SERVER, 67).into());
        assert_eq!((offer[0], &offer[4..8], &offer[24..28]), (2, &b"xid!"[..], &RELAY.octets()[..]));
        assert_eq!(offer[16..19], [10, 77, 0], "an address of the relay's network");
        assert_eq!(offer[236..243], [99, 130, 83, 99, 53, 1, 2]);
        let end = offer.iter().rposition(|byte| *byte != 0).unwrap();
        assert_eq!(offer[end - INFORMATION.len()..=end], [&INFORMATION[..], &[255]].concat());
    });
    room.wait_for_event(r#""circuit":"0x07""#);
}

#[test]
fn a_copy_does_not_overtake_the_question_whether_the_address_is_in_use() {
    if skipped() {
        return;
    }
    let mut room = Room::new("z");
    room.start_server();
    room.in_client_namespace(|| {
        let relay = relay();
        let transaction = || {
            let mut buffer = [0; 1500];
            relay.recv(&mut buffer).unwrap();
            <[u8; 4]>::try_from(&buffer[4..8]).unwrap()
        };
        relay.send_to(&discover(b"1st "), (SERVER, 67)).unwrap();
        relay.send_to(&discover(b"copy"), (SERVER, 67)).unwrap();
        assert_eq!(transaction(), *b"1st ");
        // Then the question is answered.
        relay.send_to(&discover(b"next"), (SERVER, 67)).unwrap();
        assert_eq!(transaction(), *b"next");
    });
}
