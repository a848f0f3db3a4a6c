//! How fast files leave by TFTP, beside the servers that others use.
//!
//! All servers run at once, each at its own address, and are asked in turn by the same clients: many downloads in one
//! thread, built on `tftp-engine`, which compare every byte. The network is a namespace's loopback with Ethernet's MTU,
//! so what is compared is the work of the server, not a cable.

mod load;
mod peers;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tftp_engine::{FileName, Wishes};

use super::{Peer, Row};
use crate::dice::Dice;
use crate::process::run as run_program;
use crate::servers::Site;
use crate::{Error, Lab, Result, Workspace};
use load::Load;
use peers::Server;

/// Runs of each server for each row; the row has their medians.
const ROUNDS: usize = 5;
/// The clients of a loss row, each with chance of its own; the row has their median.
const SEEDS: u32 = 9;
/// Block size and window: shim asks for the first, iPXE and pxelinux for about the second, UEFI for the third.
const SHAPES: [(u16, u16); 4] = [(512, 1), (1468, 1), (1468, 4), (1468, 16)];
/// Clients at once, and the bytes that each fetches: enough for about a second.
const CROWDS: [(u32, usize); 3] = [(1, 16 << 20), (100, 320 << 10), (1000, 32 << 10)];
/// What many clients or a slow server may take for their downloads.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same over a line that loses packets: who waits five seconds for each of them takes a minute.
const LONG_PATIENCE: Duration = Duration::from_secs(90);
/// What a client fetches over a line that loses packets. Waiting is what takes the time there.
const LOSSY: usize = 1 << 20;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let lab = Lab::open("tftp", &workspace.logs("bench"), 0)?;
    addresses(&lab)?;
    let site = Site::create(&lab.scratch().join("site"), &[])?;
    let bench = Bench::start(&lab, workspace, &site)?;
    let mut rows = Vec::new();
    for (clients, length) in CROWDS {
        for (block, window) in SHAPES {
            rows.extend(bench.rate(clients, length, block, window)?);
        }
    }
    let peak = bench.servers[0].peak_memory()?;
    rows.push(Row::ours("tftpd's memory at its peak, 1000 transfers", "MB", peak, Some(30.0)));
    for (block, window) in [(1468, 1), (1468, 16)] {
        rows.extend(bench.loss(block, window)?);
    }
    rows.extend(bench.atftp()?);
    Ok(rows)
}

struct Bench<'a> {
    lab: &'a Lab,
    /// Ours first.
    servers: Vec<Server>,
    content: Arc<Vec<u8>>,
}

impl<'a> Bench<'a> {
    fn start(lab: &'a Lab, workspace: &Workspace, site: &Site) -> Result<Self> {
        // A loader is the plainest of what our server names.
        let root = site.state().join("loaders");
        let mut dice = Dice::new(1);
        let longest = CROWDS.iter().map(|(_, length)| *length).max().unwrap_or(LOSSY);
        let content: Vec<u8> = (0..longest / 8).flat_map(|_| dice.roll().to_le_bytes()).collect();
        for length in CROWDS.iter().map(|(_, length)| *length).chain([LOSSY]) {
            let path = root.join(name(length));
            fs::write(&path, &content[..length]).map_err(Error::io(format!("writing {}", path.display())))?;
        }
        let servers = vec![
            Server::ours(lab, workspace, site)?,
            Server::hpa(lab, workspace, &root)?,
            Server::atftpd(lab, workspace, &root)?,
            Server::dnsmasq(lab, &root)?,
        ];
        let bench = Self { lab, servers, content: Arc::new(content) };
        bench.servers.iter().try_for_each(|server| bench.ready(server))?;
        Ok(bench)
    }

    /// Waits until the server serves.
    fn ready(&self, server: &Server) -> Result<()> {
        let what = format!("a first file from {}", server.name);
        let first = || Ok(self.fetch(&self.load(server, 1, CROWDS[2].1, 1468, 1)?).ok().map(drop));
        self.lab.poll(&what, Duration::from_secs(60), first)
    }

    /// MB/s of all clients together.
    fn rate(&self, clients: u32, length: usize, block: u16, window: u16) -> Result<Vec<Row>> {
        let crowd = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        let goal = match (window, clients) {
            (16, _) => 1.5,
            (_, 1) => 0.9,
            _ => 1.0,
        };
        self.row(format!("{crowd}, blksize {block}, windowsize {window}"), goal, ROUNDS, |server| {
            let seconds = self.fetch(&self.load(server, clients, length, block, window)?)?;
            let last = seconds.into_iter().fold(0.0, f64::max);
            Ok(f64::from(clients) * length as f64 / 1e6 / last)
        })
    }

    /// MB/s of the median of clients that lose a packet of a hundred in each direction.
    fn loss(&self, block: u16, window: u16) -> Result<Vec<Row>> {
        let measure = format!("1 client, 1 % loss, blksize {block}, windowsize {window}");
        self.row(measure, 1.0, 1, |server| {
            // Side by side, which costs nothing: they wait nearly all the time.
            let load = Load { loss: 1.0, patience: LONG_PATIENCE, ..self.load(server, SEEDS, LOSSY, block, window)? };
            Ok(LOSSY as f64 / 1e6 / median(self.fetch(&load)?))
        })
    }

    /// A client that others wrote, so that the figures don't rest on ours alone.
    fn atftp(&self) -> Result<Vec<Row>> {
        let (_, length) = CROWDS[0];
        self.row("atftp, blksize 1468, windowsize 16".to_owned(), 1.0, ROUNDS, |server| {
            let mut atftp = self.lab.namespace().command("atftp");
            atftp.args(["--option", "blksize 1468", "--option", "windowsize 16", "--get", "--local-file", "/dev/null"]);
            atftp.args(["--remote-file", &name(length), &server.address.to_string()]);
            let start = Instant::now();
            run_program(&mut atftp)?;
            Ok(length as f64 / 1e6 / start.elapsed().as_secs_f64())
        })
    }

    /// Asks the servers in turn, `rounds` times, and sets ours beside the best of the others. One that breaks down is not asked
    /// again, and gets a row that says so: it has served nothing.
    fn row(
        &self,
        measure: String,
        goal: f64,
        rounds: usize,
        sample: impl Fn(&Server) -> Result<f64>,
    ) -> Result<Vec<Row>> {
        for server in &self.servers {
            if server.revive(self.lab)? {
                self.ready(server)?;
            }
        }
        let mut samples = vec![Some(Vec::new()); self.servers.len()];
        for _ in 0..rounds {
            for (server, samples) in self.servers.iter().zip(&mut samples) {
                let Some(so_far) = samples else { continue };
                match sample(server) {
                    Ok(rate) => so_far.push(rate),
                    Err(error @ (Error::Wrong(_) | Error::Command { .. })) => {
                        self.lab.log().note("lab", format!("{measure}: {} failed: {error}", server.name));
                        *samples = None;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let rates: Vec<Option<f64>> = samples.into_iter().map(|samples| samples.map(median)).collect();
        let all = self.servers.iter().zip(&rates).map(|(server, rate)| format!("{} {rate:.1?}", server.name));
        self.lab.log().note("lab", format!("{measure}, MB/s: {}", all.collect::<Vec<_>>().join(", ")));
        let ours = rates[0].unwrap_or_default();
        let others = || self.servers.iter().zip(&rates).skip(1);
        let best = others().filter_map(|(server, rate)| Some((server, (*rate)?))).max_by(|a, b| a.1.total_cmp(&b.1));
        let mut rows = Vec::new();
        rows.extend(best.map(|(server, rate)| Row::beside(&measure, "MB/s", ours, server.peer(rate), Some(goal))));
        for (server, _) in others().filter(|(_, rate)| rate.is_none()) {
            let peer = Peer { name: format!("{} failed,", server.name), ..server.peer(0.0) };
            rows.push(Row { peer: Some(peer), ..Row::ours(&measure, "MB/s", ours, None) });
        }
        Ok(rows)
    }

    fn load(&self, server: &Server, clients: u32, length: usize, block: u16, window: u16) -> Result<Load> {
        Ok(Load {
            server: server.address,
            file: FileName::parse(name(length).as_bytes()).map_err(|error| Error::Wrong(error.to_string()))?,
            content: Arc::clone(&self.content),
            length,
            wishes: Wishes { block_size: Some(block), window: (window > 1).then_some(window), timeout: None },
            clients,
            loss: 0.0,
            patience: PATIENCE,
        })
    }

    fn fetch(&self, load: &Load) -> Result<Vec<f64>> {
        let load = load.clone();
        self.lab.namespace().run(move || load.run())
    }
}

/// Addresses for the peers and the clients; and the loopback gets the MTU of Ethernet.
fn addresses(lab: &Lab) -> Result<()> {
    let script = [
        "link set lo mtu 1500",
        "addr add 10.77.0.2/32 dev lo",
        "addr add 10.77.0.3/32 dev lo",
        "addr add 10.77.0.4/32 dev lo",
        "route add local 10.77.128.0/17 dev lo",
    ];
    script.iter().try_for_each(|line| run_program(lab.namespace().command("ip").args(line.split(' '))).map(drop))
}

fn name(length: usize) -> String {
    format!("file-{length}")
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
