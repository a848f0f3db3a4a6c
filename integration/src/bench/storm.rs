//! A room that fetches at once: who is done when.
//!
//! Server and clients are in two network namespaces, between them one cable of 1 Gbit/s (a token bucket at the server's end). Each client has an
//! address of its own, asks once for the same 20 MB when all do, and throws away what it gets. The arithmetic is what the cable
//! needs for all of it, without any headers. Four real clients, which keep what they get, come last.

mod real;

use std::net::SocketAddrV4;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use super::load::Connection;
use super::web::{Content, MEGABIT, Web, client};
use super::{Peer, Row, percentile};
use crate::namespace::{Namespace, PREFIX_LENGTH};
use crate::process::run as run_program;
use crate::{Error, Lab, Result, Workspace, interrupt};

/// How many clients storm.
const STORMS: [u32; 3] = [30, 100, 300];
/// How often; the rows have the medians. (300 take most of a minute each time.)
const TIMES: usize = 5;
const PAYLOAD: usize = 20_000_000;
/// Megabit in a second.
const LINK: u32 = 1000;
/// What p50 and p99 may be of the arithmetic, and the server's memory in MB.
const P50: f64 = 0.65;
const P99: f64 = 1.3;
const MEMORY: f64 = 100.0;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let lab = Lab::open("storm", &workspace.logs("bench"), 0)?;
    let content = Content::publish(workspace, lab, PAYLOAD)?;
    let lab = &content.room.lab;
    let most = STORMS.into_iter().max().unwrap_or_default();
    let room = cable(lab, most)?;
    let mut rows = Vec::new();
    for clients in STORMS {
        let arithmetic = f64::from(clients) * content.pack.1 as f64 / (f64::from(LINK) * MEGABIT);
        let (mut ours, mut nginx) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            // Each storm meets a server of its own, so that its memory is its own too.
            let server = Web::ours(workspace, &content.room)?;
            ours.push(storm(lab, &room, &server, &content.pack, clients)?);
            drop(server);
            let server = Web::nginx(workspace, &content.room, 8081, true)?;
            nginx.push(storm(lab, &room, &server, &content.pack, clients)?);
            let peer = |value| server.peer(value);
            if nginx.len() == TIMES {
                rows.extend(rows_of(clients, arithmetic, &ours, &nginx, peer));
            }
        }
    }
    rows.extend(real::run(workspace, &content)?);
    Ok(rows)
}

/// One storm.
struct Storm {
    p50: f64,
    p99: f64,
    mean: f64,
    cpu_seconds: f64,
    memory: f64,
    failures: f64,
}

fn rows_of(clients: u32, arithmetic: f64, ours: &[Storm], nginx: &[Storm], peer: impl Fn(f64) -> Peer) -> Vec<Row> {
    let named = |measure: &str| format!("storm of {clients}: {measure}");
    let median =
        |storms: &[Storm], value: fn(&Storm) -> f64| percentile(&storms.iter().map(value).collect::<Vec<_>>(), 50);
    let link = || Peer { value: arithmetic, name: "arithmetic of".to_owned(), version: format!("{LINK} Mbit/s") };
    let of_link =
        |measure: &str, goal, value| Row::at_most(named(measure), "s", median(ours, value), link(), Some(goal));
    let beside = |measure: &str, unit, value| {
        Row::at_most(named(measure), unit, median(ours, value), peer(median(nginx, value)), None)
    };
    vec![
        Row::ours(named("failures"), "clients", ours.iter().map(|storm| storm.failures).sum(), Some(0.0)),
        of_link("p50", P50, |storm| storm.p50),
        of_link("p99", P99, |storm| storm.p99),
        beside("p50", "s", |storm| storm.p50),
        beside("p99", "s", |storm| storm.p99),
        beside("mean", "s", |storm| storm.mean),
        beside("CPU of the server", "s", |storm| storm.cpu_seconds),
        beside("memory of the server", "MB", |storm| storm.memory),
        Row::ours(named("memory of the server"), "MB", median(ours, |storm| storm.memory), Some(MEMORY)),
    ]
}

fn storm(lab: &Lab, room: &Namespace, server: &Web, pack: &(String, u64), clients: u32) -> Result<Storm> {
    interrupt::check()?;
    let all = Arc::new(Barrier::new(clients as usize + 1));
    let before = server.cpu_seconds()?;
    let threads = (0..clients).map(|number| {
        let (all, to, pack) = (Arc::clone(&all), server.address, pack.clone());
        room.spawn(move || {
            all.wait();
            let began = Instant::now();
            let got = Connection::open(SocketAddrV4::new(client(number), 0), to)
                .and_then(|mut connection| connection.get(&pack.0));
            (got.is_ok_and(|bytes| bytes == pack.1), began.elapsed().as_secs_f64())
        })
    });
    let threads = threads.collect::<Result<Vec<_>>>()?;
    all.wait();
    let mut seconds = Vec::new();
    for thread in threads {
        let (done, after) = thread.join().map_err(|_| Error::Wrong("a client panicked".into()))??;
        seconds.extend(done.then_some(after));
    }
    let storm = Storm {
        p50: percentile(&seconds, 50),
        p99: percentile(&seconds, 99),
        mean: seconds.iter().sum::<f64>() / seconds.len().max(1) as f64,
        cpu_seconds: server.cpu_seconds()? - before,
        memory: server.peak_memory()?,
        failures: f64::from(clients) - seconds.len() as f64,
    };
    let Storm { p50, p99, cpu_seconds, memory, failures, .. } = storm;
    let said = format!("p50 {p50:.2} s, p99 {p99:.2} s, {cpu_seconds:.2} CPU s, {memory:.1} MB, {failures} failures");
    lab.log().note("lab", format!("{}, {clients} clients: {said}", server.name));
    Ok(storm)
}

/// A namespace with the addresses of so many clients, on a cable to the lab's bridge.
fn cable(lab: &Lab, clients: u32) -> Result<Namespace> {
    let room = Namespace::create(0)?;
    let (server, room_name) = (lab.namespace().name(), room.name());
    let ip = |namespace: &str, line: &str| {
        let words = line.split_whitespace();
        run_program(Command::new("ip").args(["-n", namespace]).args(words)).map(drop)
    };
    // Its own bridge has the server's address.
    ip(room_name, "link del br0")?;
    ip(server, &format!("link add storm type veth peer name storm netns {room_name}"))?;
    ip(server, "link set storm master br0 up")?;
    ip(room_name, "link set storm up")?;
    for number in 0..clients {
        ip(room_name, &format!("addr add {}/{PREFIX_LENGTH} dev storm", client(number)))?;
    }
    // A bucket of a millisecond, and a queue as a switch has it.
    let bucket = format!("qdisc add dev storm root tbf rate {LINK}mbit burst 128kb latency 50ms");
    run_program(Command::new("tc").args(["-n", server]).args(bucket.split_whitespace()))?;
    Ok(room)
}
