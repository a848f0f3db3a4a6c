//! How many leases a server hands out, how soon, and what is left of that when it is asked for more than it can do.
//!
//! perfdhcp asks from a namespace of its own, as a relay. Every server begins with an empty store on the real disk, has the
//! network for itself and is asked in turn with the others, so that a neighbour who slows this machine down slows all. Asking
//! whether an address is in use is off everywhere.

mod peers;
mod perfdhcp;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use dhcp_engine::{ClientKey, Lease, LeaseState, journal};

use super::{Peer, Row, percentile};
use crate::namespace::Namespace;
use crate::{Error, Lab, Result, Workspace};
use peers::Server;
use perfdhcp::{Asked, Generator};

/// Rounds; every figure is the median of its own.
const ROUNDS: usize = 5;
/// DORA exchanges a second that are asked for, one after the other until more than [`LOSS`] is lost.
const LADDER: [u32; 8] = [250, 500, 1000, 2000, 4000, 8000, 12_000, 16_000];
/// ISC's criterion: of a hundred exchanges so many may remain unfinished.
const LOSS: f64 = 2.5;
/// Machines that are switched on at once.
const AVALANCHES: [u32; 3] = [100, 500, 1000];
/// Leases in the store of a server that starts.
const LEASES: u32 = 100_000;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let lab = Lab::open("dhcp", &workspace.logs("bench"), 0)?;
    let clients = lab.namespace().beside(perfdhcp::ADDRESS)?;
    // Not in memory, where syncing costs nothing.
    let disk = tempfile::tempdir_in(workspace.target()).map_err(Error::io("making a directory on the disk"))?;
    let bench = Bench { lab: &lab, workspace, clients: &clients, disk: disk.path().to_owned() };
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        figures.add("syncs", bench.syncs()?);
        for kind in Server::ALL {
            bench.round(kind, &mut figures)?;
        }
    }
    let mut rows = vec![Row::ours("the disk's own speed", "fdatasync/s", figures.median("syncs"), None)];
    rows.extend(bench.table(&figures, true)?);
    rows.extend(bench.table(&figures, false)?);
    rows.extend(bench.ours_alone(&figures));
    rows.push(bench.start()?);
    Ok(rows)
}

struct Bench<'a> {
    lab: &'a Lab,
    workspace: &'a Workspace,
    clients: &'a Namespace,
    /// Where stores are.
    disk: PathBuf,
}

/// What was measured, by name, one figure for each round.
#[derive(Default)]
struct Figures(BTreeMap<String, Vec<f64>>);

impl Figures {
    fn add(&mut self, name: impl Into<String>, figure: f64) {
        self.0.entry(name.into()).or_default().push(figure);
    }

    /// Zero for what was not measured.
    fn median(&self, name: &str) -> f64 {
        self.0.get(name).map_or(0.0, |figures| percentile(figures, 50))
    }
}

impl Bench<'_> {
    /// One round of one server, on the steps of the ladder around its limit.
    fn round(&self, kind: Server, figures: &mut Figures) -> Result<()> {
        let generator = Generator { lab: self.lab, workspace: self.workspace, clients: self.clients };
        let name = kind.name();
        let mut best: f64 = 0.0;
        let (below, from): (Vec<u32>, Vec<u32>) = LADDER.into_iter().partition(|rate| *rate < kind.begins_at());
        let mut descend = below.into_iter().rev();
        for rate in from {
            let asked = self.with(kind, || generator.rate(rate))?;
            if rate == 4000 && kind == Server::Ours {
                figures.add("p50", asked.milliseconds(50));
                figures.add("p99", asked.milliseconds(99));
            }
            if asked.loss() > LOSS {
                break;
            }
            best = asked.per_second();
        }
        // Where the first step was too high already.
        while best == 0.0
            && let Some(rate) = descend.next()
        {
            let asked = self.with(kind, || generator.rate(rate))?;
            if asked.loss() <= LOSS {
                best = asked.per_second();
            }
        }
        figures.add(name, best);
        if kind == Server::Ours && best > 0.0 {
            // No more than that can be asked for: the generator is bound by a core too.
            let flood = self.with(kind, || generator.rate((best * 4.0) as u32))?;
            figures.add("flood", flood.per_second());
        }
        for machines in AVALANCHES {
            let seconds = self.with(kind, || generator.avalanche(machines))?;
            figures.add(format!("{name} {machines}"), seconds);
        }
        Ok(())
    }

    /// Runs the server with an empty store meanwhile.
    fn with<T>(&self, kind: Server, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        let store = self.disk.join("store");
        let _ = fs::remove_dir_all(&store); // of the run before
        fs::create_dir_all(&store).map_err(Error::io("making a directory for a store"))?;
        let mut process = kind.start(self.lab, self.workspace, &store)?;
        let measured = measure();
        process.kill();
        measured
    }

    /// Ours beside the servers that promise as much, or beside those that don't.
    fn table(&self, figures: &Figures, durable: bool) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let ours = figures.median(Server::Ours.name());
        let peers: Vec<Server> =
            Server::ALL.into_iter().filter(|kind| *kind != Server::Ours && kind.is_durable() == durable).collect();
        let best = peers.iter().map(|peer| figures.median(peer.name())).fold(0.0, f64::max);
        for peer in peers {
            let value = figures.median(peer.name());
            let shown = |value| {
                Ok::<_, Error>(Peer { value, name: peer.name().to_owned(), version: peer.version(self.workspace)? })
            };
            // The goals are set against the best of each table.
            let goal = if durable { 5.0 } else { 1.0 };
            let promise = if durable { "durable" } else { "theirs not durable" };
            let measure = format!("leases at {LOSS} % loss, {promise}");
            rows.push(Row::beside(measure, "1/s", ours, shown(value)?, (value >= best).then_some(goal)));
            for machines in AVALANCHES {
                let ours = figures.median(&format!("{} {machines}", Server::Ours.name()));
                let theirs = figures.median(&format!("{} {machines}", peer.name()));
                rows.push(Row::at_most(
                    format!("{machines} machines switched on, {promise}"),
                    "s",
                    ours,
                    shown(theirs)?,
                    None,
                ));
            }
        }
        Ok(rows)
    }

    fn ours_alone(&self, figures: &Figures) -> Vec<Row> {
        let best = figures.median(Server::Ours.name());
        let at_least = |measure: String, unit, ours: f64, goal: f64| Row {
            met: Some(ours >= goal),
            goal: Some(goal),
            ..Row::ours(measure, unit, ours, None)
        };
        vec![
            at_least(format!("leases at {LOSS} % loss"), "1/s", best, 8000.0),
            at_least(
                "of that left at four times as many".to_owned(),
                "%",
                figures.median("flood") / best * 100.0,
                80.0,
            ),
            Row::ours("REQUEST to ACK at 4000/s, p50", "ms", figures.median("p50"), None),
            Row::ours("REQUEST to ACK at 4000/s, p99", "ms", figures.median("p99"), Some(50.0)),
        ]
    }

    /// How long our server takes to be ready with so many leases.
    fn start(&self) -> Result<Row> {
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            let store = self.disk.join("store");
            let _ = fs::remove_dir_all(&store); // of the run before
            let leases = store.join("state/leases");
            fs::create_dir_all(&leases).map_err(Error::io("making a directory for a store"))?;
            fs::write(leases.join("journal"), full_journal()).map_err(Error::io("writing a journal"))?;
            let begun = Instant::now();
            let mut process = Server::Ours.start(self.lab, self.workspace, &store)?;
            samples.push(begun.elapsed().as_secs_f64() * 1000.0);
            process.kill();
        }
        Ok(Row::ours(format!("start with {LEASES} leases"), "ms", percentile(&samples, 50), Some(1000.0)))
    }

    /// How many single records reach the disk in a second, one after the other.
    fn syncs(&self) -> Result<f64> {
        let path = self.disk.join("syncs");
        let measure = || {
            let file = fs::File::create(&path)?;
            let begun = Instant::now();
            let mut count = 0;
            while begun.elapsed().as_millis() < 500 {
                file.write_all_at(&[0; 64], count * 64)?;
                file.sync_data()?;
                count += 1;
            }
            Ok(count as f64 / begun.elapsed().as_secs_f64())
        };
        measure().map_err(Error::io(format!("syncing {}", path.display())))
    }
}

fn full_journal() -> Vec<u8> {
    let mut bytes = journal::header(0).to_vec();
    for number in 1..=LEASES {
        let [_, a, b, c] = number.to_be_bytes();
        let mac = boot_model::MacAddr::new([2, 0, 0, a, b, c]);
        let lease = Lease {
            address: Ipv4Addr::from_bits(Ipv4Addr::new(10, 76, 0, 0).to_bits() + number),
            client: ClientKey::Mac(mac),
            mac: Some(mac),
            host_name: None,
            state: LeaseState::Bound,
            written: 1_800_000_000,
            expires: 4_000_000_000,
        };
        journal::append(&mut bytes, u64::from(number), &lease);
    }
    bytes
}

/// All that a run of perfdhcp says.
impl Asked {
    /// Of a hundred exchanges, how many were not finished.
    fn loss(&self) -> f64 {
        100.0 - 100.0 * self.finished as f64 / self.begun.max(1) as f64
    }

    fn per_second(&self) -> f64 {
        self.finished as f64 / self.seconds
    }

    /// From REQUEST to ACK, so that `percent` of a hundred are not slower.
    fn milliseconds(&self, percent: usize) -> f64 {
        percentile(&self.delays, percent)
    }
}
