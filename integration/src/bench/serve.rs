//! What it costs the server to send packs and narinfos, beside nginx.
//!
//! All servers run at once over the same cache and are asked in turn by the same clients over a loopback device, which throw away what they
//! get. So what is compared is the servers' processor time: on loopback no card limits, and the rate says little.

use std::net::SocketAddrV4;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use super::load::Connection;
use super::web::{Content, Web};
use super::{Row, percentile};
use crate::namespace::SERVER;
use crate::{Error, Lab, Result, Workspace};

/// Samples of each server for each row; the row has their medians.
const ROUNDS: usize = 7;
const CONNECTIONS: usize = 4;
/// Bytes of the pack.
const PACK: usize = 64 << 20;
/// How often each connection asks for it in one sample: enough for about a second.
const PACKS: usize = 10;
/// How many narinfos each connection asks for in one sample.
const NARINFOS: usize = 10_000;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let lab = Lab::open("serve", &workspace.logs("bench"), 0)?;
    let content = Content::publish(workspace, lab, PACK)?;
    let room = &content.room;
    let ours = Web::ours(workspace, room)?;
    let off = Web::nginx(workspace, room, 8081, false)?;
    let on = Web::nginx(workspace, room, 8082, true)?;
    let servers = [&ours, &off, &on];
    let packs = Work { urls: Arc::new(vec![content.pack.0.clone()]), times: PACKS };
    let narinfos = Work { urls: Arc::new(content.narinfos.clone()), times: NARINFOS };
    let [mut per_cpu_second, mut rates, mut requests] = [(); 3].map(|()| vec![Vec::new(); servers.len()]);
    for _ in 0..ROUNDS {
        for (at, server) in servers.into_iter().enumerate() {
            let sample = sample(&room.lab, server, &packs)?;
            per_cpu_second[at].push(sample.bytes as f64 / 1e6 / sample.cpu_seconds);
        }
        for (at, server) in servers.into_iter().enumerate() {
            let sample = sample(&room.lab, server, &narinfos)?;
            rates[at].push((CONNECTIONS * NARINFOS) as f64 / sample.seconds);
            requests[at].push((CONNECTIONS * NARINFOS) as f64 / sample.cpu_seconds);
        }
    }
    let [per_cpu_second, rates, requests] = [per_cpu_second, rates, requests]
        .map(|samples| samples.iter().map(|samples| percentile(samples, 50)).collect::<Vec<_>>());
    let beside = |measure: &str, unit, values: &[f64], at: usize, goal| {
        Row::beside(measure, unit, values[0], servers[at].peer(values[at]), goal)
    };
    Ok(vec![
        beside("packs", "MB per CPU second", &per_cpu_second, 1, Some(1.0)),
        beside("packs", "MB per CPU second", &per_cpu_second, 2, Some(0.8)),
        beside("narinfo requests", "1/s", &rates, 2, Some(0.8)),
        beside("narinfo requests", "1 per CPU second", &requests, 2, None),
    ])
}

/// What each connection asks for.
#[derive(Clone)]
struct Work {
    urls: Arc<Vec<String>>,
    times: usize,
}

struct Sample {
    bytes: u64,
    seconds: f64,
    cpu_seconds: f64,
}

fn sample(lab: &Lab, server: &Web, work: &Work) -> Result<Sample> {
    let start = Arc::new(Barrier::new(CONNECTIONS + 1));
    let clients = (0..CONNECTIONS).map(|_| {
        let (work, start, address) = (work.clone(), Arc::clone(&start), server.address);
        lab.namespace().spawn(move || -> Result<u64> {
            let connection = Connection::open(SocketAddrV4::new(SERVER, 0), address);
            start.wait();
            let mut connection = connection?;
            work.urls.iter().cycle().take(work.times).map(|url| connection.get(url)).sum()
        })
    });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    start.wait();
    let (began, before) = (Instant::now(), server.cpu_seconds()?);
    let mut bytes = 0;
    for client in clients {
        bytes += client.join().map_err(|_| Error::Wrong("a client panicked".into()))???;
    }
    let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), server.cpu_seconds()? - before);
    lab.log().note("lab", format!("{}: {bytes} bytes, {seconds:.2} s, {cpu_seconds:.2} CPU s", server.name));
    Ok(Sample { bytes, seconds, cpu_seconds })
}
