//! What a reload changes while the service runs. Needs root, as `clients.rs` does, and is skipped as there.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod room;

use std::net::UdpSocket;
use std::time::Duration;

use room::{Room, skipped};

/// A DISCOVER of UEFI's PXE, to be answered by broadcast.
fn discover() -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 0, 1]);
    packet.extend([99, 130, 83, 99, 53, 1, 1, 93, 2, 0, 7]);
    packet.extend(b"\x3c\x09PXEClient\xff");
    packet
}

/// The file that UEFI's PXE is offered now.
fn offered_file(room: &Room) -> String {
    let offer = room.in_client_namespace(|| {
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_broadcast(true).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &"card".into()).unwrap();
        // Only a hang is longer than this.
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.send_to(&discover(), ("255.255.255.255", 67)).unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).expect("an offer comes");
        buffer[..length].to_vec()
    });
    String::from_utf8_lossy(&offer[108..236]).trim_end_matches('\0').to_owned()
}

#[test]
fn sighup_reads_the_loaders_again_and_a_broken_table_changes_nothing() {
    if skipped() {
        return;
    }
    let mut room = Room::new("l");
    room.publish_something();
    room.start_server();
    assert_eq!(offered_file(&room), "grubx64.efi");

    // The table is looked at now and then, and complained about once; who reloads is told again.
    room.write_loaders("{");
    for times in 1..=2 {
        room.reload();
        room.wait_for_log("state/loaders/loaders.json: EOF while parsing", times);
    }
    assert_eq!(offered_file(&room), "grubx64.efi");

    room.write_loaders(r#"{"bios":"lpxelinux.0","uefi-x64":"snponly.efi"}"#);
    room.reload();
    room.wait_for_log("there is another table of loaders", 1);
    // It is told before it counts.
    while offered_file(&room) != "snponly.efi" {
        // Faster than two a second is more than the server's rate guard lets any client have.
        std::thread::sleep(Duration::from_millis(500));
    }
}
