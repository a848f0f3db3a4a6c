//! Real clients against the real server, in two network namespaces joined by a veth pair. Needs root, `ip`, udhcpc and dhclient;
//! without them it prints what is missing and passes, unless `ROOKERY_REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod room;

use room::{Client, RENEW, Room, missing};

/// Not where the hash would put this client, so that having it again proves a memory.
const WISHED: &str = "10.77.0.177";

fn skipped() -> bool {
    let Some(what) = missing() else { return false };
    assert!(std::env::var_os("ROOKERY_REQUIRE_PEERS").is_none(), "ROOKERY_REQUIRE_PEERS is set, and {what}");
    println!("skipped: {what}");
    true
}

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
