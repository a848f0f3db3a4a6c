//! Real clients against the real server, in two network namespaces joined by a veth pair. Needs root, `ip`, udhcpc and dhclient;
//! without them it prints what is missing and passes, unless `ROOKERY_REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod room;

use room::{Client, RENEW, Room, skipped};

/// Not where the hash would put this client, so that having it again proves a memory.
const WISHED: &str = "10.77.0.177";

#[test]
fn udhcpc_obtains_renews_and_releases() {
    if skipped() {
        return;
    }
    let mut room = Room::new("u");
    room.start_server();
    let mut client = Client::udhcpc(&room, &["-r", WISHED]);
    assert_eq!(client.next("bound"), WISHED);
    assert_eq!(room.state_of(WISHED), "bound");

    // A renewal goes by unicast, so the client has the address.
    client.signal(RENEW);
    assert_eq!(client.next("renew"), WISHED);

    client.signal(room::RELEASE);
    client.next("deconfig");
    room.wait_for_event("RELEASE");
    assert_eq!(room.state_of(WISHED), "released");
}

#[test]
fn a_killed_server_keeps_its_promise() {
    if skipped() {
        return;
    }
    let mut room = Room::new("k");
    room.start_server();
    let mut client = Client::udhcpc(&room, &["-r", WISHED]);
    assert_eq!(client.next("bound"), WISHED);

    room.kill_server();
    room.start_server();
    assert_eq!(room.state_of(WISHED), "bound");
    // The client's renewal is of a lease that the server must know: it would refuse an unknown one.
    client.signal(RENEW);
    assert_eq!(client.next("renew"), WISHED);
    drop(client);

    // Somebody else does not get it.
    room.change_client_mac("52:54:00:77:00:99");
    let mut other = Client::udhcpc(&room, &["-r", WISHED]);
    assert_ne!(other.next("bound"), WISHED);
}

#[test]
fn a_reply_that_the_disk_made_late_is_not_sent_and_its_lease_is_kept() {
    if skipped() {
        return;
    }
    let mut room = Room::new("l");
    room.start_server();
    // udhcpc asks again after a second.
    room.delay_next_sync(1_500_000);
    let mut client = Client::udhcpc(&room, &["-r", WISHED]);
    assert_eq!(client.next("bound"), WISHED);
    room.wait_for_log("reply is late and not sent", 1);
    assert_eq!(room.state_of(WISHED), "bound");
    // An event is told of a reply that left.
    room.wait_for_event("ACK");
    assert_eq!(room.events().matches("\"ACK\"").count(), 1, "{}", room.events());
}

#[test]
fn dhclient_obtains_reboots_with_a_wrong_address_and_releases() {
    if skipped() {
        return;
    }
    let mut room = Room::new("d");
    room.start_server();
    let mut client = Client::dhclient(&room);
    let address = client.next("BOUND");
    room.wait_for_dhclient_lease(&address);
    client.stop();

    // INIT-REBOOT with what it remembers.
    let mut client = Client::dhclient(&room);
    assert_eq!(client.next("REBOOT"), address);
    client.stop();

    // INIT-REBOOT with an address that its lease is not of: refused, then found again by DISCOVER.
    room.forge_dhclient_lease(&address, WISHED);
    let mut client = Client::dhclient(&room);
    assert_eq!(client.next("BOUND"), address);
    room.wait_for_dhclient_lease(&address);
    assert!(room.events().contains("NAK: the client's lease is of another address"), "{}", room.events());
    client.stop();

    room.release_with_dhclient();
    room.wait_for_event("RELEASE");
    assert_eq!(room.state_of(&address), "released");
}

#[test]
fn firmware_without_a_generation_gets_an_address_and_the_events_say_why_no_file() {
    if skipped() {
        return;
    }
    let mut room = Room::new("f");
    room.start_server();
    let mut client = Client::udhcpc(&room, &["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"]);
    client.next("bound");
    room.wait_for_event("role lab has no generation for x86_64-linux that can be served");
}

#[test]
fn sighup_gives_a_host_its_address() {
    if skipped() {
        return;
    }
    let mut room = Room::new("h");
    room.start_server();
    let mut client = Client::udhcpc(&room, &["-r", WISHED]);
    assert_eq!(client.next("bound"), WISHED);
    room.reload_with_host("52:54:00:77:00:01", "10.77.0.20");
    // The server says nothing when it has read the hosts; until then it renews the old address.
    while client.next_of(&["renew", "bound"], RENEW) != "10.77.0.20" {}
}

#[test]
fn an_address_that_somebody_uses_is_not_given() {
    if skipped() {
        return;
    }
    let mut room = Room::new("q");
    room.add_squatter(WISHED);
    room.start_server();
    let mut client = Client::udhcpc(&room, &["-r", WISHED]);
    assert_ne!(client.next("bound"), WISHED);
}

/// What a PXE client sends in these tests.
fn rom(message: u8, architecture: u16, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 0, 1]);
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, message, 93, 2]);
    packet.extend(architecture.to_be_bytes());
    packet.extend(b"\x3c\x09PXEClient");
    packet.extend(rest);
    packet.push(255);
    packet
}

/// Replies to a ROM until `enough`.
fn replies(socket: &std::net::UdpSocket, enough: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut replies = Vec::new();
    while !enough(&replies) {
        let mut buffer = [0; 1500];
        let (length, from) = socket.recv_from(&mut buffer).expect("the replies come");
        assert_eq!(from.ip(), std::net::Ipv4Addr::new(10, 77, 0, 1));
        replies.push(buffer[..length].to_vec());
    }
    replies
}

#[test]
fn beside_dnsmasq_on_one_machine() {
    if skipped() {
        return;
    }
    let mut room = Room::new("p");
    room.configure("pools = [\"10.77.0.100-10.77.0.199\"]", "mode = \"proxy\"");
    room.publish_something();
    room.start_server();
    // The other one finds the port shared, whichever came first.
    room.start_dnsmasq();

    // An offer of an address and one of a file, for the firmware to put together.
    let (offers, ack) = room.in_client_namespace(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_broadcast(true).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &"card".into()).unwrap();
        let everybody = ("255.255.255.255", 67);
        socket.send_to(&rom(1, 0, &[]), everybody).unwrap();
        let offers = replies(&socket, |replies| replies.len() == 2);
        // UEFI then asks port 4011, from the address that it was given.
        room::ip(&["addr", "add", "10.77.0.42/24", "dev", "card"]);
        let mut request = rom(3, 7, &[]);
        request[12..16].copy_from_slice(&[10, 77, 0, 42]);
        socket.send_to(&request, ("10.77.0.1", 4011)).unwrap();
        (offers, replies(&socket, |replies| replies.len() == 1).remove(0))
    });
    let given = |reply: &Vec<u8>| reply[16..20] != [0; 4];
    let file = |reply: &[u8]| String::from_utf8_lossy(&reply[108..236]).trim_end_matches('\0').to_owned();
    let (address, proxy): (Vec<_>, Vec<_>) = offers.iter().partition(|reply| given(reply));
    assert_eq!((address.len(), proxy.len()), (1, 1));
    assert_eq!((file(address[0]), file(proxy[0])), (String::new(), "lpxelinux.0".to_owned()));
    assert_eq!((file(&ack), ack[242]), ("grubx64.efi".to_owned(), 5));

    // Obtaining and renewing stay between dnsmasq and its client: the unicast does not get lost on us.
    room.change_client_mac("52:54:00:77:00:02");
    let mut client = Client::udhcpc(&room, &[]);
    let address = client.next("bound");
    client.signal(RENEW);
    assert_eq!(client.next("renew"), address);
}

/// Whoever sends these writes the card and the address as it likes: what follows events must not take them for leases.
#[test]
fn an_answer_without_a_lease_is_no_ack_in_the_events() {
    if skipped() {
        return;
    }
    let mut room = Room::new("n");
    room.publish_something();
    room.start_server();
    room.in_client_namespace(|| {
        room::ip(&["addr", "add", "10.77.0.42/24", "dev", "card"]);
        let socket = std::net::UdpSocket::bind("10.77.0.42:68").unwrap();
        for (message, port) in [(8, 67), (3, 4011)] {
            let mut request = rom(message, 7, &[]);
            request[12..16].copy_from_slice(&[10, 77, 0, 42]);
            socket.send_to(&request, ("10.77.0.1", port)).unwrap();
            replies(&socket, |replies| replies.len() == 1);
        }
    });
    room.wait_for_event(r#""message":"INFORM""#);
    room.wait_for_event(r#""message":"BOOT-SERVER""#);
    assert!(!room.events().contains(r#""message":"ACK""#), "{}", room.events());
}
