//! Measurements, each a row of one table: ours, where there is one a peer's under the same conditions, and the goal.

mod boot;
mod closure;
mod dhcp;
mod floor;
mod load;
mod measured;
mod menu;
mod partition;
mod peer;
mod publish;
mod serve;
mod storm;
mod tftp;
pub(crate) mod unpacked;
mod update;
mod web;

use serde::Serialize;

use crate::{Error, Lab, Result, Workspace};

/// What `lab bench` understands.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Benchmarks to run; without any, all.
    names: Vec<String>,
    /// Print the rows as JSON, and nothing else.
    #[arg(long)]
    json: bool,
    /// Only name the benchmarks.
    #[arg(long)]
    list: bool,
}

struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<Vec<Row>>,
}

const BENCHES: [Bench; 9] = [
    Bench {
        name: "boot",
        about: "the claim: time to login, bytes and memory for a new system, an update and neither, beside a squashfs netboot",
        run: boot::run,
    },
    Bench {
        name: "closure",
        about: "a closure of 240 paths to an empty disk, beside stock Nix from nginx and the floor",
        run: closure::run,
    },
    Bench {
        name: "dhcp",
        about: "leases a second beside Kea, dnsmasq and ISC dhcpd, avalanches, overload, and a start with many leases",
        run: dhcp::run,
    },
    Bench {
        name: "menu",
        about: "from the rename of a generation to new menus on disk, with 100 generations and 300 hosts",
        run: menu::run,
    },
    Bench {
        name: "publish",
        about: "the second generation, until it is bootable and has bundles, beside mksquashfs and nix copy",
        run: publish::run,
    },
    Bench { name: "serve", about: "packs and narinfos by the server's CPU seconds, beside nginx", run: serve::run },
    Bench { name: "storm", about: "30, 100 and 300 clients at once over 1 Gbit/s, beside nginx", run: storm::run },
    Bench { name: "tftp", about: "downloads by TFTP, beside tftpd-hpa, atftpd and dnsmasq", run: tftp::run },
    Bench {
        name: "update",
        about: "bytes and time of an update, beside the packs of the changed paths and stock Nix",
        run: update::run,
    },
];

/// One measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    measure: String,
    unit: &'static str,
    ours: f64,
    peer: Option<Peer>,
    /// Ours divided by the peer's.
    ratio: Option<f64>,
    /// With a peer, the least ratio, or the greatest where less is better; without, what ours must not exceed.
    goal: Option<f64>,
    met: Option<bool>,
}

/// Somebody else's figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Peer {
    value: f64,
    name: String,
    version: String,
}

/// Runs what was asked for; true if every goal is met.
pub fn main(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        for bench in &BENCHES {
            println!("{:<10} {}", bench.name, bench.about);
        }
        return Ok(true);
    }
    if let Some(unknown) = arguments.names.iter().find(|name| BENCHES.iter().all(|bench| bench.name != **name)) {
        let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        return Err(Error::Usage(format!("there is no benchmark {unknown:?}; there are {}", known.join(", "))));
    }
    Lab::sweep()?;
    let wanted = |bench: &&Bench| arguments.names.is_empty() || arguments.names.iter().any(|name| name == bench.name);
    let mut rows = Vec::new();
    for bench in BENCHES.iter().filter(wanted) {
        rows.extend((bench.run)(workspace)?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| Error::Wrong(error.to_string()))?);
    } else {
        print(&rows);
    }
    Ok(rows.iter().all(|row| row.met != Some(false)))
}

impl Row {
    /// Our own figure, with an upper bound as its goal.
    fn ours(measure: impl Into<String>, unit: &'static str, ours: f64, goal: Option<f64>) -> Self {
        let met = goal.map(|goal| ours <= goal);
        Self { measure: measure.into(), unit, ours, peer: None, ratio: None, goal, met }
    }

    /// Our figure beside somebody else's, of which the higher is the better, with the least ratio as its goal.
    fn beside(measure: impl Into<String>, unit: &'static str, ours: f64, peer: Peer, goal: Option<f64>) -> Self {
        let ratio = ours / peer.value;
        let met = goal.map(|goal| ratio >= goal);
        Self { measure: measure.into(), unit, ours, peer: Some(peer), ratio: Some(ratio), goal, met }
    }

    /// Our figure beside somebody else's, of which the lower is the better, with the greatest ratio as its goal.
    fn at_most(measure: impl Into<String>, unit: &'static str, ours: f64, peer: Peer, goal: Option<f64>) -> Self {
        let ratio = ours / peer.value;
        let met = goal.map(|goal| ratio <= goal);
        Self { measure: measure.into(), unit, ours, peer: Some(peer), ratio: Some(ratio), goal, met }
    }
}

/// The value that `percent` of 100 samples don't exceed (nearest rank). Zero without samples.
fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn print(rows: &[Row]) {
    println!("{:<54} {:>10} {:>10} {:>7} {:>8}  {:<5} peer", "measure", "ours", "peer", "ratio", "goal", "met");
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let fine = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let met = row.met.map_or("-", |met| if met { "yes" } else { "NO" });
        let peer = row.peer.as_ref().map_or_else(String::new, |peer| format!("{} {}", peer.name, peer.version));
        println!(
            "{:<54} {:>10} {:>10} {:>7} {:>8}  {met:<5} {peer}",
            format!("{} ({})", row.measure, row.unit),
            number(Some(row.ours)),
            number(row.peer.as_ref().map(|peer| peer.value)),
            fine(row.ratio),
            fine(row.goal),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 50), 50.0);
        assert_eq!(percentile(&samples, 99), 99.0);
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert_eq!(percentile(&[], 99), 0.0);
    }

    #[test]
    fn a_goal_is_an_upper_bound() {
        assert_eq!(Row::ours("x", "ms", 99.0, Some(100.0)).met, Some(true));
        assert_eq!(Row::ours("x", "ms", 101.0, Some(100.0)).met, Some(false));
        assert_eq!(Row::ours("x", "ms", 101.0, None).met, None);
    }

    #[test]
    fn beside_a_peer_the_goal_is_the_least_ratio() {
        let beside = |ours| {
            let peer = Peer { value: 100.0, name: "peer".into(), version: "1".into() };
            Row::beside("x", "MB/s", ours, peer, Some(0.9))
        };
        assert_eq!((beside(90.0).ratio, beside(90.0).met), (Some(0.9), Some(true)));
        assert_eq!(beside(89.0).met, Some(false));
    }
}
