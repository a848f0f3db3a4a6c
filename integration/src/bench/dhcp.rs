//! How many leases a server hands out, how soon, and what is left of that when it is asked for more than it can do.
//!
//! perfdhcp asks from a namespace of its own, as a relay. Every server begins with an empty store on the real disk, has the
//! network for itself and is asked in turn with the others, so that a neighbour who slows this machine down slows all. Asking
//! whether an address is in use is off everywhere.

mod figures;
mod peers;
mod perfdhcp;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dhcp_engine::{ClientKey, Lease, LeaseState, journal};

use super::{Peer, Row, percentile};
use crate::{Error, Lab, Result, Workspace};
use figures::{Figures, Measure};
use peers::Server;
use perfdhcp::Generator;

/// Rounds; every figure is the median of its own.
const ROUNDS: usize = 5;
/// No round begins later than this.
const TIME: Duration = Duration::from_secs(12 * 60);
/// DORA exchanges a second that are asked for, one after the other until more than [`LOSS`] is lost.
const LADDER: [u32; 17] =
    [60, 125, 250, 500, 750, 1000, 1500, 2000, 3000, 4000, 5500, 7000, 8500, 10_000, 12_000, 14_500, 17_500];
/// ISC's criterion: of a hundred exchanges so many may remain unfinished.
const LOSS: f64 = 2.5;
/// A flood is so many times what the server can do.
const PRESSURE: f64 = 4.0;
/// Exchanges a second at which delays are measured.
const CALM: u32 = 4000;
/// Of a hundred delays, so many don't exceed the figure.
const DELAYS: [usize; 2] = [50, 99];
/// Machines that are switched on at once.
const AVALANCHES: [u32; 3] = [100, 500, 1000];
/// Leases in the store of a server that starts.
const LEASES: u32 = 100_000;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let lab = Lab::open("dhcp", &workspace.logs("bench"), 0)?;
    let clients = lab.namespace().beside(perfdhcp::ADDRESS)?;
    // Not in memory, where syncing costs nothing.
    let disk = tempfile::tempdir_in(workspace.target()).map_err(Error::io("making a directory on the disk"))?;
    let generator = Generator { lab: &lab, workspace, clients: &clients };
    let bench = Bench { lab: &lab, workspace, generator, disk: disk.path().to_owned() };
    let mut figures = Figures::default();
    let mut steps = BTreeMap::new();
    let mut syncs = Vec::new();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        if begun.elapsed() > TIME {
            lab.log().note("lab", format!("time is up after {round} rounds"));
            break;
        }
        syncs.push(bench.syncs()?);
        for server in Server::ALL {
            // From the second round on the limit is known, but for a step.
            let step = steps.entry(server).or_insert_with(|| LADDER.partition_point(|rate| *rate < server.begins_at()));
            bench.round(server, step, &mut figures)?;
        }
    }
    let mut rows = vec![Row::ours("the disk's own speed", "fdatasync/s", percentile(&syncs, 50), None)];
    rows.extend(bench.table(&figures, true)?);
    rows.extend(bench.table(&figures, false)?);
    rows.extend(ours_alone(&figures));
    Ok(rows)
}

struct Bench<'a> {
    lab: &'a Lab,
    workspace: &'a Workspace,
    generator: Generator<'a>,
    /// Where stores are.
    disk: PathBuf,
}

impl Bench<'_> {
    /// One round of one server. `step` is the place on the ladder at which its limit was found the last time.
    fn round(&self, server: Server, step: &mut usize, figures: &mut Figures) -> Result<()> {
        let best = self.add(server, Measure::Leases, self.limit(server, step), figures)?;
        for machines in AVALANCHES {
            let measure = Measure::Avalanche(machines);
            // Who let the generator wait in vain is not asked again: that takes too long.
            if !figures.has_failed(server, measure) {
                let seconds = self.with(server, || self.generator.avalanche(machines));
                self.add(server, measure, seconds, figures)?;
            }
        }
        if server != Server::Ours {
            return Ok(());
        }
        let calm = self.with(server, || self.generator.delays(CALM));
        if let Some(asked) = self.unless_failed(server, Measure::Delay(99), calm, figures)? {
            for percent in DELAYS {
                figures.add(server, Measure::Delay(percent), asked.milliseconds(percent));
            }
        }
        if let Some(best) = best {
            let flooded = self.with(server, || self.generator.rate((best * PRESSURE) as u32));
            if let Some(asked) = self.unless_failed(server, Measure::Flooded, flooded, figures)? {
                figures.add(server, Measure::Flooded, asked.per_second());
                figures.add(server, Measure::Pressure, asked.begun_per_second() / best);
            }
        }
        self.add(server, Measure::Start, self.start(), figures)?;
        Ok(())
    }

    /// The most leases a second that it keeps up with: up the ladder from where it stood, or else down.
    fn limit(&self, server: Server, step: &mut usize) -> Result<f64> {
        let mut best: f64 = 0.0;
        let mut too_high = LADDER.len();
        loop {
            let asked = self.with(server, || self.generator.rate(LADDER[*step]))?;
            let kept = asked.loss() <= LOSS;
            self.lab.log().note(
                "lab",
                format!(
                    "{}, asked for {}/s: {:.0}/s, {:.1} % lost",
                    server.name(),
                    LADDER[*step],
                    asked.per_second(),
                    asked.loss()
                ),
            );
            if kept {
                best = best.max(asked.per_second());
            } else {
                too_high = *step;
            }
            if kept && !asked.falls_short() && *step + 1 < too_high {
                *step += 1;
            } else if !kept && best == 0.0 && *step > 0 {
                *step -= 1;
            } else {
                return Ok(best);
            }
        }
    }

    /// Runs the server with an empty store meanwhile.
    fn with<T>(&self, server: Server, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut process = server.start(self.lab, self.workspace, &self.empty_store()?)?;
        let measured = measure();
        process.kill();
        measured
    }

    fn empty_store(&self) -> Result<PathBuf> {
        let store = self.disk.join("store");
        let _ = fs::remove_dir_all(&store); // of the run before
        fs::create_dir_all(&store).map_err(Error::io("making a directory for a store"))?;
        Ok(store)
    }

    /// Adds a figure, unless the server failed; what was added.
    fn add(&self, server: Server, measure: Measure, figure: Result<f64>, figures: &mut Figures) -> Result<Option<f64>> {
        let figure = self.unless_failed(server, measure, figure, figures)?;
        if let Some(figure) = figure {
            figures.add(server, measure, figure);
        }
        Ok(figure)
    }

    /// A server that breaks down under a load is a finding and no reason to stop.
    fn unless_failed<T>(
        &self,
        server: Server,
        measure: Measure,
        measured: Result<T>,
        figures: &mut Figures,
    ) -> Result<Option<T>> {
        match measured {
            Ok(measured) => Ok(Some(measured)),
            Err(error @ (Error::Interrupted | Error::Usage(_) | Error::Io { .. })) => Err(error),
            Err(error) => {
                self.lab.log().note("lab", format!("{} failed, {measure:?}: {error}", server.name()));
                figures.fail(server, measure);
                Ok(None)
            }
        }
    }

    /// Ours beside the servers that promise as much, or beside those that don't.
    fn table(&self, figures: &Figures, durable: bool) -> Result<Vec<Row>> {
        let peers: Vec<Server> = Server::ALL
            .into_iter()
            .filter(|server| *server != Server::Ours && server.is_durable() == durable)
            .collect();
        let leases = |server: &Server| figures.median(*server, Measure::Leases);
        let best = peers.iter().copied().max_by(|a, b| leases(a).unwrap_or(0.0).total_cmp(&leases(b).unwrap_or(0.0)));
        let (promise, goal) = if durable { ("durable", 5.0) } else { ("theirs not durable", 1.0) };
        let mut rows = Vec::new();
        for peer in peers {
            let version = peer.version(self.workspace)?;
            let beside =
                |measure, text: String, unit, row: fn(String, &'static str, f64, Peer, Option<f64>) -> Row, goal| {
                    let shown = if figures.has_failed(peer, measure) { ", failed" } else { "" };
                    let name = format!("{}{shown}", peer.name());
                    let ours = figures.median(Server::Ours, measure).unwrap_or(0.0);
                    match figures.median(peer, measure) {
                        Some(value) => row(text, unit, ours, Peer { value, name, version: version.clone() }, goal),
                        None => Row {
                            peer: Some(Peer { value: 0.0, name, version: version.clone() }),
                            ..Row::ours(text, unit, ours, None)
                        },
                    }
                };
            let text = format!("leases at {LOSS} % loss, {promise}");
            // The goals are set against the best of each table.
            rows.push(beside(Measure::Leases, text, "1/s", Row::beside, (Some(peer) == best).then_some(goal)));
            for machines in AVALANCHES {
                let text = format!("{machines} machines switched on, {promise}");
                rows.push(beside(Measure::Avalanche(machines), text, "s", Row::at_most, None));
            }
        }
        Ok(rows)
    }

    /// How many milliseconds our server takes to be ready with so many leases.
    fn start(&self) -> Result<f64> {
        let store = self.empty_store()?;
        let leases = store.join("state/leases");
        fs::create_dir_all(&leases).map_err(Error::io("making a directory for leases"))?;
        fs::write(leases.join("journal"), full_journal()).map_err(Error::io("writing a journal"))?;
        let begun = Instant::now();
        let mut process = Server::Ours.start(self.lab, self.workspace, &store)?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        process.kill();
        Ok(milliseconds)
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

fn ours_alone(figures: &Figures) -> Vec<Row> {
    let median = |measure| figures.median(Server::Ours, measure);
    let at_least = |measure: String, unit, ours: Option<f64>, goal: f64| {
        let ours = ours.unwrap_or(0.0);
        Row { met: Some(ours >= goal), goal: Some(goal), ..Row::ours(measure, unit, ours, None) }
    };
    let at_most = |measure: String, unit, ours: Option<f64>, goal| {
        // What was never measured has met no goal.
        Row {
            met: Some(ours.is_some_and(|ours| ours <= goal)),
            ..Row::ours(measure, unit, ours.unwrap_or(0.0), Some(goal))
        }
    };
    let best = median(Measure::Leases);
    let left = median(Measure::Flooded).zip(best).map(|(left, best)| left / best * 100.0);
    // The generator is bound by a core too: what it could not ask for shows nothing.
    let pressure = median(Measure::Pressure).unwrap_or(0.0);
    let flooded = at_least(format!("of that left, asked for {pressure:.1} times as many"), "%", left, 80.0);
    let flooded = Row { met: flooded.met.map(|met| met && pressure > PRESSURE * 0.95), ..flooded };
    let calm = |percent| format!("REQUEST to ACK at {CALM}/s, p{percent}");
    vec![
        at_least(format!("leases at {LOSS} % loss"), "1/s", best, 8000.0),
        flooded,
        Row::ours(calm(50), "ms", median(Measure::Delay(50)).unwrap_or(0.0), None),
        at_most(calm(99), "ms", median(Measure::Delay(99)), 50.0),
        at_most(format!("start with {LEASES} leases"), "ms", median(Measure::Start), 1000.0),
    ]
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
