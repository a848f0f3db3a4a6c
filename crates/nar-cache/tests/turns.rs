//! What is large goes to a few clients at a time; what is small never waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs::File;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::state::{KERNEL, PACK_LEN, digest};
use common::{CLIENTS, Client, LONG, Response, Server, State, eventually};
use nar_cache::Bounds;

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

/// Calls `meanwhile` while clients hold all turns and take just so much that none loses its turn.
fn while_held<T>(server: &Server, meanwhile: impl FnOnce() -> T) -> T {
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    // Longer than any test.
    let pack = server.state.layout.cache().join("nar/a.nar.zst");
    File::options().write(true).open(pack).unwrap().set_len(1 << 31).unwrap();
    let (mut holders, ended) = (holders(server), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for holder in &mut holders {
                    holder.exactly(128 * 1024);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        let _ended = Ended(&ended);
        meanwhile()
    })
}

/// What a client of ours gets for a pack: its turn, a place in the line, or a refusal.
fn ask(client: &mut Client, agent: &str, path: &str) -> Response {
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n"));
    Response { head: client.head(), body: Vec::new() }
}

fn waits(response: &Response) -> bool {
    response.status() == 200 && response.header("Rookery-Turn") == Some("later")
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

/// A room of agents, each with several connections: they alone could have all that there are.
#[test]
fn those_who_wait_leave_connections_to_what_is_small() {
    let state = State::new();
    let initrd = vec![7; 300 * 1024];
    let generation = state.publish_with(2, 'b', &initrd);
    let server = Server::with(state, Bounds { drain: LONG, ..Bounds::new(20) });
    let (lines, loaders) = while_held(&server, || {
        let mut lines = Vec::new();
        for agent in 0..12 {
            let mut connections = [client(&server, 100 + agent), client(&server, 100 + agent)];
            let [first, second] = connections.each_mut().map(|it| ask(it, "rookery-agent/1.0", "/nar/a.nar.zst"));
            assert_eq!(waits(&first), agent < 10, "{first:?}");
            for refused in [&first, &second].into_iter().filter(|response| !waits(response)) {
                assert_eq!((refused.status(), refused.header("Retry-After")), (503, Some("10")), "{agent}");
                assert_eq!(refused.header("Connection"), Some("close"));
            }
            assert_eq!(second.status(), 503, "{agent}: one connection is enough to hear from");
            let text = String::from_utf8(connections[1].rest()).unwrap();
            assert!(text.contains("Ask again after the seconds that Retry-After says."), "{text}");
            lines.extend(connections);
        }
        // Boot loaders know no 503.
        let kernel = format!("/boot/{generation}/{}", digest(&initrd));
        let mut loaders = [150, 151, 152].map(|last| client(&server, last));
        assert!(loaders.iter_mut().all(|loader| waits(&ask(loader, "iPXE/1.21", &kernel))));
        assert_eq!(ask(&mut client(&server, 160), "curl/8.0 Nix/2.26", "/nar/a.nar.zst").status(), 503);
        let mut small = client(&server, 161);
        assert_eq!(small.get("/boot.ipxe").text(), "#!ipxe\nmenu everybody\n");
        assert_eq!(small.get(&format!("/generations/{generation}/generation.json")).status(), 200);
        (lines, loaders)
    });
    drop(lines);
    for mut loader in loaders {
        assert!(loader.exactly(initrd.len()) == initrd, "its turn came");
    }
    eventually(|| ask(&mut client(&server, 111), "rookery-agent/1.0", "/nar/b.nar.zst").status() == 200);
}

/// One after another, as an agent does that has a turn.
#[test]
fn who_has_a_turn_is_not_refused() {
    let server = Server::with(State::new(), Bounds { drain: LONG, ..Bounds::new(8) });
    while_held(&server, || {
        let mut others = [100, 101, 102, 103].map(|last| client(&server, last));
        assert!(others.iter_mut().all(|other| waits(&ask(other, "rookery-agent/1.0", "/nar/a.nar.zst"))));
        let mut holder = client(&server, 10);
        let answer = ask(&mut holder, "rookery-agent/1.0", "/nar/a.nar.zst");
        assert_eq!((answer.status(), answer.header("Rookery-Turn")), (200, None));
    });
}
