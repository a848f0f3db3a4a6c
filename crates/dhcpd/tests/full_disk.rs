//! What a full disk takes from clients: nothing that they have. Needs root, as `clients.rs` does, and is skipped as there.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod room;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use room::{Room, ip, skipped};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;

/// A small disk at this place.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&at).status();
        assert!(mounted.unwrap().success());
        Self(at)
    }

    fn fill(&self) {
        let mut filler = File::create(self.0.join("filler")).unwrap();
        let full = io::copy(&mut io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may still use it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Clients as a relay agent passes them on: many of them, and silence is seen.
struct Relay(UdpSocket);

impl Relay {
    fn new(room: &Room) -> Self {
        let socket = room.in_client_namespace(|| {
            ip(&["addr", "add", "10.77.0.2/24", "dev", "card"]);
            UdpSocket::bind((RELAY, 67)).unwrap()
        });
        // Twice as long as the server would wait before it drops the reply.
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self(socket)
    }

    /// The reply to a client's message. Silence is only what three of them get.
    fn ask(&self, client: u8, message: u8, ciaddr: Ipv4Addr, options: &[u8]) -> Option<Vec<u8>> {
        let transaction = [b'f', b'd', client, message];
        let mut packet = vec![0; 236];
        packet[..4].copy_from_slice(&[1, 1, 6, 1]);
        packet[4..8].copy_from_slice(&transaction);
        packet[12..16].copy_from_slice(&ciaddr.octets());
        packet[24..28].copy_from_slice(&RELAY.octets());
        packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 1, client]);
        packet.extend([99, 130, 83, 99, 53, 1, message]);
        // A long name makes a long record.
        packet.extend([12, 63]);
        packet.extend([b'x'; 63]);
        packet.extend(options);
        packet.push(255);
        for _ in 0..3 {
            self.0.send_to(&packet, (SERVER, 67)).unwrap();
            let mut buffer = [0; 1500];
            while let Ok(length) = self.0.recv(&mut buffer) {
                if buffer[4..8] == transaction {
                    return Some(buffer[..length].to_vec());
                }
            }
        }
        None
    }

    /// A new lease, if it comes to one.
    fn obtain(&self, client: u8) -> Option<Ipv4Addr> {
        let address = |reply: &[u8]| Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19]);
        let offered = address(&self.ask(client, DISCOVER, Ipv4Addr::UNSPECIFIED, &[])?);
        let takes = [&[50, 4], &offered.octets()[..], &[54, 4], &SERVER.octets()].concat();
        let ack = self.ask(client, REQUEST, Ipv4Addr::UNSPECIFIED, &takes)?;
        assert_eq!((ack[242], address(&ack)), (5, offered));
        Some(offered)
    }

    /// For how many seconds a lease is promised again.
    fn renewed(&self, client: u8, address: Ipv4Addr) -> u32 {
        let ack = self.ask(client, REQUEST, address, &[]).expect("a known client is answered");
        assert_eq!(ack[242], 5);
        let at = ack.windows(2).position(|option| option == [51, 4]).unwrap();
        u32::from_be_bytes(ack[at + 2..at + 6].try_into().unwrap())
    }
}

#[test]
fn known_leases_are_kept_and_no_new_ones_made_until_there_is_room_again() {
    if skipped() {
        return;
    }
    let mut room = Room::new("w");
    room.configure("[[role]]", "[dhcpd]\nprobe-milliseconds = 0\n[[role]]");
    let disk = SmallDisk::mount(room.path("state"));
    room.start_server();
    let relay = Relay::new(&room);
    let known = relay.obtain(1).expect("an address");
    room.kill_server();
    // From now on its lease is less than fresh: each renewal would be written.
    room.configure("lease-seconds = 3600", "lease-seconds = 7200");
    room.start_server();

    disk.fill();
    // The last block of the journal has room left for some.
    let refused = (2..=90).find(|client| relay.obtain(*client).is_none()).expect("the disk is full");
    room.wait_for_log("leases cannot be written", 1);
    assert_eq!(relay.obtain(91), None);
    let left = relay.renewed(1, known);
    assert!((3000..=3600).contains(&left), "{left} is not the end that is on disk");

    disk.free();
    room.wait_for_log("leases can be written again", 1);
    assert_eq!(relay.renewed(1, known), 7200);
    let new = relay.obtain(refused).expect("an address").to_string();
    assert!(relay.obtain(91).is_some());
    room.kill_server();
    assert_eq!((room.state_of(&known.to_string()), room.state_of(&new)), ("bound".into(), "bound".into()));
}
