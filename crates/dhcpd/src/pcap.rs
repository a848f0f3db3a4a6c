//! Classic pcap files, as far as they hold DHCP: some sixty lines instead of a crate.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use thiserror::Error;

/// A UDP datagram over IPv4 over Ethernet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its place in the file, counted from 1 as other tools do.
    pub frame: usize,
    /// Since 1970.
    pub time: Duration,
    /// The sender.
    pub source: SocketAddrV4,
    /// The receiver.
    pub destination: SocketAddrV4,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The bytes are no capture that can be read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidCapture {
    /// Neither byte order of classic pcap, in micro- or nanoseconds.
    #[error("this is no classic pcap file; convert it with `editcap -F pcap`")]
    Format,
    /// Another link type than Ethernet.
    #[error("the link type is {0}, not 1 (Ethernet); capture on one interface, not on `any`")]
    LinkType(u32),
}

/// The UDP datagrams of a capture. A record that is cut off ends it; frames of other kinds and fragments are passed over.
pub fn packets(bytes: &[u8]) -> Result<Vec<Packet>, InvalidCapture> {
    let (header, mut rest) = bytes.split_first_chunk::<24>().ok_or(InvalidCapture::Format)?;
    let (big_endian, unit) = match header[..4] {
        [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1000),
        [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1),
        [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1000),
        [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1),
        _ => return Err(InvalidCapture::Format),
    };
    let number = |bytes: &[u8]| {
        let four = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    let link_type = number(&header[20..]);
    if link_type != 1 {
        return Err(InvalidCapture::LinkType(link_type));
    }
    let mut packets = Vec::new();
    for frame in 1.. {
        let Some((record, tail)) = rest.split_first_chunk::<16>() else { break };
        let Some((data, tail)) = tail.split_at_checked(number(&record[8..]) as usize) else { break };
        rest = tail;
        let fraction = Duration::from_nanos(u64::from(number(&record[4..])) * unit);
        let time = Duration::from_secs(number(record).into()) + fraction;
        if let Some((source, destination, payload)) = datagram(data) {
            packets.push(Packet { frame, time, source, destination, payload: payload.to_vec() });
        }
    }
    Ok(packets)
}

fn datagram(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    let header_length = usize::from(packet.first()? & 0xf) * 4;
    let (ip, udp) = packet.split_at_checked(header_length)?;
    let whole = ip.len() >= 20 && ip[6] & 0x3f == 0 && ip[7] == 0;
    if ethernet[12..] != [8, 0] || ip.first()? >> 4 != 4 || !whole || ip[9] != 17 {
        return None;
    }
    let (header, rest) = udp.split_first_chunk::<8>()?;
    // The length field leaves out what pads a short frame. Checksums are not looked at: captures on the sender lack them.
    let length = usize::from(u16::from_be_bytes([header[4], header[5]])).checked_sub(8)?;
    let payload = rest.get(..length)?;
    let socket = |ip: &[u8], port: &[u8]| {
        SocketAddrV4::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), u16::from_be_bytes([port[0], port[1]]))
    };
    Some((socket(&ip[12..], header), socket(&ip[16..], &header[2..]), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE: &[u8] = include_bytes!("../../dhcp-engine/fixtures/uefi-pxe.pcap");

    #[test]
    fn a_capture_is_read() {
        let packets = packets(CAPTURE).unwrap();
        assert_eq!(packets.len(), 12);
        assert_eq!((packets[0].frame, packets[0].payload.len()), (1, 347));
        assert_eq!(packets[0].destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        assert_eq!((packets[2].time - packets[0].time).as_millis(), 3865);
    }

    #[test]
    fn a_cut_capture_keeps_its_beginning_and_nothing_panics() {
        for length in 0..CAPTURE.len() {
            match packets(&CAPTURE[..length]) {
                Ok(packets) => assert!(packets.len() < 12),
                Err(error) => assert!(error == InvalidCapture::Format && length < 24),
            }
        }
        assert_eq!(packets(b"\x0a\x0d\x0d\x0a this is pcapng, not pcap"), Err(InvalidCapture::Format));
    }
}
