//! IPv4 and UDP headers for replies to clients that have no address yet: those leave by a packet socket, past the kernel's UDP.

use std::net::Ipv4Addr;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const HEADERS: usize = 28;
const UDP: u8 = 17;

/// The IPv4 packet that carries this payload from our port 67 to the client's port 68.
///
/// Both checksums are ours: a UDP checksum left to the card is still missing when a client on the same host (virtio, veth) reads
/// the packet by a raw socket, and many do.
pub(crate) fn packet(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let total = (HEADERS + payload.len()) as u16;
    let udp_length = total - 20;
    let mut packet = Vec::with_capacity(total.into());
    // Version and header length, class selector 6 (as other DHCP servers mark theirs), no fragments, no identification needed.
    packet.extend([0x45, 0xc0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());

    packet.extend(SERVER_PORT.to_be_bytes());
    packet.extend(CLIENT_PORT.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend_from_slice(payload);
    let length = udp_length.to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, UDP], &length].concat();
    // Zero would mean "no checksum" (RFC 768).
    let sum = match checksum(&[&pseudo, &packet[20..]]) {
        0 => 0xffff,
        sum => sum,
    };
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The internet checksum (RFC 1071) over parts of which all but the last have an even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    // 1500 bytes of 0xff sum up to less than 2^26.
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_finds_both_checksums_right() {
        for length in [300, 301, 1472] {
            let payload: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let packet = packet(Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 100), &payload);
            assert_eq!(packet.len(), 28 + payload.len());
            // A sum over data that includes its own checksum is zero.
            assert_eq!(checksum(&[&packet[..20]]), 0);
            let pseudo = [&packet[12..20], &[0, 17], &packet[24..26]].concat();
            assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
            assert_eq!(packet[20..24], [0, 67, 0, 68]);
        }
    }

    #[test]
    fn a_known_header() {
        // The example of RFC 1071 §3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
