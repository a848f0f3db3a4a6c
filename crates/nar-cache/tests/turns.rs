//! What is large goes to a few clients at a time; what is small never waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::net::Ipv4Addr;

use common::state::{KERNEL, PACK_LEN, digest};
use common::{CLIENTS, Client, Server, eventually};

const PACK: &str = "GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client with this last byte in its address.
fn client(server: &Server, last: u8) -> Client {
    Client::connect_from(Ipv4Addr::new(127, 0, 0, last), server.address)
}

/// Clients that hold all turns: they have asked, and take nothing yet.
fn holders(server: &Server) -> Vec<Client> {
    let hold = |last| {
        let mut holder = client(server, last);
        holder.send(PACK);
        assert!(!holder.head().iter().any(|line| line.starts_with("Rookery-Turn")));
        holder
    };
    (0..CLIENTS as u8).map(|n| hold(10 + n)).collect()
}

#[test]
fn who_comes_later_waits_until_one_is_done() {
    let server = Server::start();
    let mut holders = holders(&server);
    let mut late = client(&server, 30);
    late.send(PACK);
    eventually(|| server.desk.waited() == 1);
    assert!(late.head().contains(&"Rookery-Turn: later".to_owned()));
    // What is small does not wait, whoever asks.
    let mut small = client(&server, 31);
    assert_eq!(small.get("/nix-cache-info").status(), 200);
    assert_eq!(small.get(&format!("/boot/lab/1-aaaaaaaa/{}", digest(KERNEL))).status(), 200);
    small.send("GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99999\r\n\r\n");
    assert_eq!(small.response_to("GET").body.len(), 100_000);
    small.send("HEAD /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(small.response_to("HEAD").status(), 200);
    holders[0].exactly(PACK_LEN as usize);
    assert_eq!(late.exactly(PACK_LEN as usize).len() as u64, PACK_LEN);
    assert_eq!(server.desk.waited(), 1);
}

#[test]
fn one_client_with_many_connections_leaves_the_others_their_turn() {
    let server = Server::start();
    let mut greedy: Vec<_> = (0..25).map(|_| client(&server, 10)).collect();
    for connection in &mut greedy {
        connection.send(PACK);
    }
    eventually(|| server.desk.waited() > 0);
    let mut other = client(&server, 11);
    other.send(PACK);
    assert_eq!(other.response_to("GET").body.len() as u64, PACK_LEN);
}

#[test]
fn who_stalls_loses_its_turn_and_not_its_response() {
    let server = Server::start();
    let mut stalled = holders(&server);
    let mut next = client(&server, 30);
    next.send(PACK);
    assert_eq!(next.response_to("GET").body.len() as u64, PACK_LEN);
    assert_eq!(stalled[0].exactly(PACK_LEN as usize).len() as u64, PACK_LEN);
}

#[test]
fn who_leaves_while_it_waits_holds_up_nobody() {
    let server = Server::start();
    let mut holders = holders(&server);
    let mut gone = client(&server, 30);
    gone.send(PACK);
    eventually(|| server.desk.waited() == 1);
    drop(gone);
    let mut next = client(&server, 31);
    next.send(PACK);
    holders[1].exactly(PACK_LEN as usize);
    assert_eq!(next.response_to("GET").body.len() as u64, PACK_LEN);
}

/// Firmware and boot loaders give up what is silent for some seconds.
#[test]
fn who_waits_gets_a_little_now_and_then() {
    let server = Server::start();
    let mut holders = holders(&server);
    let mut late = client(&server, 30);
    late.send(PACK);
    late.head();
    late.stream.set_nonblocking(true).unwrap();
    let mut taken = 0;
    eventually(|| {
        // They are quick, so that neither turn ends.
        for holder in &mut holders {
            holder.exactly(32 * 1024);
        }
        taken += 32 * 1024;
        late.stream.peek(&mut [0]).is_ok()
    });
    assert!(taken < PACK_LEN, "only after a turn had ended");
}
