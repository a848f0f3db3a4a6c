//! What strangers can make the server hold, and how connections end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use boot_model::event::{Content, EventKind};
use common::state::{MAC, PACK_LEN};
use common::{Client, LONG, Server, State, eventually};
use nar_cache::Bounds;

/// Times so short that each test is quick, and one that is never reached.
const BOUNDS: Bounds = Bounds { max_connections: 100, idle: LONG, stall: LONG, drain: LONG };

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::with(State::new(), Bounds { idle: Duration::from_millis(100), ..BOUNDS });
    for sent in ["", "GET /nix-cache-info HT", "GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nX: "] {
        let mut client = server.client();
        client.send(sent);
        assert_eq!(client.rest(), b"", "{sent:?}");
    }
    let mut idle = server.client();
    assert_eq!(idle.get("/nix-cache-info").status(), 200);
    assert_eq!(idle.rest(), b"", "an idle connection ends too");
}

#[test]
fn a_flood_of_headers_is_refused_before_it_is_kept() {
    let server = Server::start();
    let long = format!("GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1024 * 1024));
    let many = format!("GET /nix-cache-info HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(100_000));
    for flood in [long, many, path] {
        let mut client = server.client();
        // The server may close while it is still being written to.
        client.try_send(flood.as_bytes());
        let answer = client.rest();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(server.get("/nix-cache-info").status(), 200);
}

#[test]
fn rubbish_ends_its_connection_only() {
    let server = Server::start();
    for rubbish in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"\xff\xff"]
    {
        let mut client = server.client();
        client.try_send(rubbish);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        client.rest();
    }
    assert_eq!(server.get("/nix-cache-info").status(), 200);
}

#[test]
fn who_takes_nothing_is_cut_and_the_event_says_how_far_it_came() {
    let server = Server::with(State::new(), Bounds { stall: Duration::from_millis(100), ..BOUNDS });
    let mut client = server.client();
    client.send("GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_for_responses(1);
    let event = server.events().remove(0);
    let EventKind::Http { path, content, status, bytes, complete, .. } = event.kind else { panic!("{event:?}") };
    assert_eq!((&*path, content, status, complete), ("/nar/a.nar.zst", Content::Nar, 200, false));
    client.head();
    let got = client.rest().len() as u64;
    assert!(got <= bytes && bytes < PACK_LEN, "{got} bytes arrived of {bytes} counted");
}

/// Bytes that the server's side of this connection has in its queue, sent or not, without an acknowledgement (proc_pid_net(5)).
fn unacknowledged(client: &Client) -> u64 {
    let port = client.stream.local_addr().unwrap().port();
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let row = |line: &str| {
        let mut columns = line.split_whitespace().skip(2);
        let far_end = columns.next()?;
        let queue = columns.nth(1)?.split_once(':')?.0;
        far_end.ends_with(&format!(":{port:04X}")).then(|| u64::from_str_radix(queue, 16).unwrap())
    };
    table.lines().skip(1).find_map(row).unwrap()
}

/// A boot ROM has room for a few packets, and what it does not take is lost.
#[test]
fn a_boot_rom_is_not_sent_more_than_it_can_put_by() {
    const PACKETS: u64 = 3 * 1460;
    let server = Server::start();
    let ask = |user_agent: &str| {
        let mut client = server.client();
        client.send(&format!("GET /nar/a.nar.zst HTTP/1.0\r\nHost: x\r\nUser-Agent: {user_agent}\r\n\r\n"));
        client.head();
        client
    };
    let mut syslinux = ask("Syslinux/6.04");
    for _ in 0..16 {
        syslinux.exactly(32 * 1024);
        let queue = unacknowledged(&syslinux);
        assert!(queue <= PACKETS, "{queue} bytes are on their way");
    }
    let other = ask("curl/8");
    eventually(|| unacknowledged(&other) > 10 * PACKETS);
}

#[test]
fn a_client_that_leaves_is_an_incomplete_response() {
    let server = Server::start();
    let mut client = server.client();
    client.send("GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    client.exactly(1000);
    drop(client);
    server.wait_for_responses(1);
    assert_eq!(server.desk.counts().cut.load(Ordering::Relaxed), 1);
}

#[test]
fn events_add_up_to_the_bytes_that_were_sent() {
    let server = Server::start();
    server.get("/nar/a.nar.zst");
    server.request("GET", "/nar/a.nar.zst", "Range: bytes=0-999\r\n");
    server.request("HEAD", "/nar/a.nar.zst", "");
    server.get("//boot.ipxe");
    server.get("/nothing");
    server.get("/%1b%5b2J");
    server.wait_for_responses(6);
    let mut events: Vec<_> = server
        .events()
        .into_iter()
        .map(|event| {
            assert_eq!((event.mac, event.address), (Some(MAC), Some("127.0.0.1".parse().unwrap())));
            match event.kind {
                EventKind::Http { path, content, status, bytes, complete, .. } => {
                    (path, content, status, bytes, complete)
                }
                other => panic!("{other:?}"),
            }
        })
        .collect();
    events.sort();
    let error = |path: &str, status, bytes| (path.to_owned(), Content::Error, status, bytes, true);
    let sent = |path: &str, content, status, bytes| (path.to_owned(), content, status, bytes, true);
    assert_eq!(
        events,
        [
            error("/", 400, 44),
            sent("/boot.ipxe", Content::Menu, 200, 16),
            sent("/nar/a.nar.zst", Content::Nar, 200, 0),
            sent("/nar/a.nar.zst", Content::Nar, 200, PACK_LEN),
            sent("/nar/a.nar.zst", Content::Nar, 206, 1000),
            error("/nothing", 404, 104),
        ]
    );
}

#[test]
fn connections_are_bounded_and_the_rest_wait() {
    let server = Server::with(State::new(), Bounds { max_connections: 2, ..BOUNDS });
    let mut first = server.client();
    let mut second = server.client();
    assert_eq!(first.get("/nix-cache-info").status(), 200);
    assert_eq!(second.get("/nix-cache-info").status(), 200);
    let mut third = server.client();
    third.send("GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(third.stream.peek(&mut [0]).is_err(), "it is not answered while the other two are there");
    third.stream.set_read_timeout(Some(LONG)).unwrap();
    drop(first);
    assert_eq!(third.response_to("GET").status(), 200);
}

#[test]
fn one_address_does_not_get_all_the_connections() {
    let server = Server::with(State::new(), Bounds { max_connections: 200, ..BOUNDS });
    let mut held: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut held {
        assert_eq!(client.get("/nix-cache-info").status(), 200);
    }
    let mut more = server.client();
    assert_eq!(more.rest(), b"");
    assert_eq!(server.desk.counts().crowded.load(Ordering::Relaxed), 1);
    held.pop();
    eventually(|| {
        let mut client = server.client();
        client.try_send(b"GET /nix-cache-info HTTP/1.1\r\nConnection: close\r\n\r\n") && !client.rest().is_empty()
    });
}

#[test]
fn stopping_finishes_what_is_under_way() {
    let mut server = Server::start();
    let mut idle = server.client();
    assert_eq!(idle.get("/nix-cache-info").status(), 200);
    let mut client = server.client();
    client.send("GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head();
    server.stop();
    assert_eq!(idle.rest(), b"", "an idle connection ends at once");
    assert_eq!(client.exactly(PACK_LEN as usize).len() as u64, PACK_LEN);
    assert_eq!(client.rest(), b"");
    server.ended();
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let mut server = Server::with(State::new(), Bounds { drain: Duration::from_millis(100), ..BOUNDS });
    let mut client = server.client();
    client.send("GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head();
    server.stop();
    server.ended();
    assert!((client.rest().len() as u64) < PACK_LEN);
}
