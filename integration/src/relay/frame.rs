//! The little that the relay must know of Ethernet, IPv4, UDP and DHCP.

const ETHERNET_HEADER: usize = 14;
const UDP_HEADER: usize = 8;
/// The fixed part of a BOOTP message, before the cookie.
const BOOTP: usize = 236;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const PAD: u8 = 0;
const END: u8 = 255;

/// Is this an unfragmented IPv4 UDP packet? VLAN tags are not known here.
pub(super) fn is_udp(frame: &[u8]) -> bool {
    frame.len() >= ETHERNET_HEADER + 20 + UDP_HEADER && frame[12..14] == [0x08, 0x00] && frame[23] == 17
}

/// Takes options out of a DHCP message to a server: what follows moves up, zeros fill the end, the length stays. Says how
/// many were there. The UDP checksum becomes zero, "none" in IPv4.
pub(super) fn strip_client_options(frame: &mut [u8], unwanted: &[u8]) -> u64 {
    if !is_udp(frame) {
        return 0;
    }
    let udp = ETHERNET_HEADER + usize::from(frame[ETHERNET_HEADER] & 0x0f) * 4;
    let cookie = udp + UDP_HEADER + BOOTP;
    let options = cookie + COOKIE.len();
    if frame.len() < options || frame[udp + 2..udp + 4] != 67_u16.to_be_bytes() || frame[cookie..options] != COOKIE {
        return 0;
    }
    let stripped = strip_options(&mut frame[options..], unwanted);
    if stripped > 0 {
        frame[udp + 6..udp + 8].fill(0);
    }
    stripped
}

fn strip_options(options: &mut [u8], unwanted: &[u8]) -> u64 {
    let mut stripped = 0;
    let mut from = 0;
    let mut to = 0;
    while from < options.len() && options[from] != END {
        if options[from] == PAD {
            from += 1;
            continue;
        }
        let Some(&length) = options.get(from + 1) else { break };
        let end = (from + 2 + usize::from(length)).min(options.len());
        if unwanted.contains(&options[from]) {
            stripped += 1;
        } else {
            options.copy_within(from..end, to);
            to += end - from;
        }
        from = end;
    }
    if to < options.len() {
        options[to] = END;
        options[to + 1..].fill(0);
    }
    stripped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dhcp(port: u16, options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_HEADER + 20 + UDP_HEADER + BOOTP];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 17;
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        frame[40..42].copy_from_slice(&[0xab, 0xcd]);
        frame.extend(COOKIE);
        frame.extend(options);
        frame
    }

    #[test]
    fn unwanted_options_go_and_the_length_stays() {
        let options = [53, 1, 1, 77, 4, b'i', b'P', b'X', b'E', PAD, 175, 3, 1, 2, 3, 93, 2, 0, 0, END, 0, 0];
        let mut frame = dhcp(67, &options);
        let length = frame.len();
        assert_eq!(strip_client_options(&mut frame, &[77, 175]), 2);
        assert_eq!(frame.len(), length);
        assert_eq!(frame[length - options.len()..], {
            let mut kept = vec![53, 1, 1, 93, 2, 0, 0, END];
            kept.resize(options.len(), 0);
            kept
        });
        assert_eq!(frame[40..42], [0, 0], "no UDP checksum");
    }

    #[test]
    fn answers_and_other_packets_stay_as_they_are() {
        for mut frame in
            [dhcp(68, &[77, 1, 1, END]), dhcp(67, &[53, 1, 1, END]), dhcp(69, &[77, 1, 1, END]), vec![1; 60]]
        {
            let before = frame.clone();
            assert_eq!(strip_client_options(&mut frame, &[77, 175]), 0);
            assert_eq!(frame[40..42], before[40..42]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(options in prop::collection::vec(any::<u8>(), 0..80), ihl in any::<u8>(), cut in 0usize..400) {
            let mut frame = dhcp(67, &options);
            frame[14] = ihl;
            frame.truncate(cut.max(1));
            strip_client_options(&mut frame, &[77, 175]);
        }
    }
}
