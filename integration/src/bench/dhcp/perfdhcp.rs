//! ISC's load generator.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{percentile, unpacked};
use crate::namespace::{Namespace, SERVER};
use crate::{Error, Lab, Result, Workspace, interrupt};

/// The generator's own address, which it relays from.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// How long a rate is kept up.
const SECONDS: f64 = 3.0;

/// Clients that take turns.
const CLIENTS: u32 = 60_000;

/// A server that lets the generator wait for longer has failed.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) struct Generator<'a> {
    pub(super) lab: &'a Lab,
    pub(super) workspace: &'a Workspace,
    pub(super) clients: &'a Namespace,
}

/// What came of a run.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    /// Exchanges that were to be begun.
    wanted: f64,
    /// DISCOVERs sent.
    begun: u64,
    /// ACKs received.
    finished: u64,
    /// From REQUEST to ACK, in milliseconds; only of [`Generator::delays`].
    delays: Vec<f64>,
}

impl Generator<'_> {
    /// So many exchanges of four packets a second.
    pub(super) fn rate(&self, rate: u32) -> Result<Asked> {
        self.exchanges(rate, "")
    }

    /// As [`Generator::rate`], with the time that each reply took.
    pub(super) fn delays(&self, rate: u32) -> Result<Asked> {
        self.exchanges(rate, " -x t")
    }

    /// Seconds until so many clients, which all begin at once and ask again, have their address.
    pub(super) fn avalanche(&self, clients: u32) -> Result<f64> {
        let said = self.run(&format!("-4 --scenario avalanche -R {clients} -g multi"))?;
        let time = said.lines().find_map(|line| line.strip_prefix("It took ")?.split(' ').next());
        time.and_then(seconds).ok_or_else(|| Error::Wrong(format!("perfdhcp tells no time: {said}")))
    }

    /// In one thread: on two cores a second one is in the server's way, waits for it, and what then overflows at the generator's own
    /// socket (a fifth of the replies at 8500/s) counts as lost by the server.
    fn exchanges(&self, rate: u32, more: &str) -> Result<Asked> {
        let said = self.run(&format!("-4 -r {rate} -R {CLIENTS} -p {SECONDS} -W 1000000 -g single{more}"))?;
        parse(&said, f64::from(rate) * SECONDS)
    }

    fn run(&self, arguments: &str) -> Result<String> {
        let program = unpacked::server(self.workspace, "kea-admin", "perfdhcp")?;
        let path = self.lab.scratch().join("perfdhcp");
        let output = File::create(&path).map_err(Error::io(format!("creating {}", path.display())))?;
        let mut command = self.clients.command(program);
        command.args(arguments.split(' ')).args(["-l", &ADDRESS.to_string(), &SERVER.to_string()]);
        unpacked::kea_libraries(&mut command, self.workspace);
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        self.lab.log().note("perfdhcp", arguments);
        let mut child = command.spawn().map_err(Error::io("running perfdhcp"))?;
        let ended = wait(&mut child);
        // Both fail only if it has ended.
        let _ = child.kill();
        let _ = child.wait();
        let said = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
        // It exits with 3 when replies are missing: a finding, not a failure.
        match ended? {
            status if matches!(status.code(), Some(0 | 3)) => Ok(said),
            status => Err(Error::Command { command: format!("perfdhcp {arguments}"), status, output: said }),
        }
    }
}

impl Asked {
    /// Of a hundred exchanges, how many were not finished.
    pub(super) fn loss(&self) -> f64 {
        100.0 - 100.0 * self.finished as f64 / self.begun.max(1) as f64
    }

    /// Whether the generator itself could not do what was wanted, so that more is not to be had from it.
    pub(super) fn falls_short(&self) -> bool {
        (self.begun as f64) < self.wanted * 0.95
    }

    pub(super) fn per_second(&self) -> f64 {
        self.finished as f64 / SECONDS
    }

    /// DISCOVERs a second.
    pub(super) fn begun_per_second(&self) -> f64 {
        self.begun as f64 / SECONDS
    }

    /// From REQUEST to ACK, so that `percent` of a hundred are not slower.
    pub(super) fn milliseconds(&self, percent: usize) -> f64 {
        percentile(&self.delays, percent)
    }
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        interrupt::check()?;
        if let Some(status) = child.try_wait().map_err(Error::io("waiting for perfdhcp"))? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let (what, origin) = ("all replies".to_owned(), "perfdhcp".to_owned());
    Err(Error::Deadline { what, origin, seconds: PATIENCE.as_secs_f64() })
}

/// Two sections, DISCOVER to OFFER and REQUEST to ACK, each with its counts and a line for each pair of packets.
fn parse(said: &str, wanted: f64) -> Result<Asked> {
    let counts = |name: &str| -> Vec<u64> {
        said.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok()).collect()
    };
    let (sent, received) = (counts("sent packets:"), counts("received packets:"));
    let (&[begun, _], &[_, finished]) = (&sent[..], &received[..]) else {
        return Err(Error::Wrong(format!("perfdhcp tells no counts: {said}")));
    };
    let acks = said.rsplit("***Timestamps for packets: REQUEST-ACK***").next().unwrap_or_default();
    let delay = |line: &str| {
        let (sent, received) = line.strip_prefix("sent / received:")?.trim().split_once(" / ")?;
        Some((received.parse::<f64>().ok()? - sent.parse::<f64>().ok()?) * 1000.0)
    };
    Ok(Asked { wanted, begun, finished, delays: acks.lines().filter_map(delay).collect() })
}

/// `00:00:01.250000`.
fn seconds(clock: &str) -> Option<f64> {
    clock.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perfdhcp_prints() {
        let said = "***Statistics for: DISCOVER-OFFER***\nsent packets: 40\nreceived packets: 39\ndrops: 1\n\
                    sent / received: 000000.100000 / 000000.900000\n\
                    ***Statistics for: REQUEST-ACK***\nsent packets: 39\nreceived packets: 38\n\n\
                    ***Timestamps for packets: REQUEST-ACK***\nsent / received: 000001.000000 / 000001.001500\n";
        let asked = parse(said, 50.0).unwrap();
        assert_eq!((asked.begun, asked.finished, asked.loss(), asked.falls_short()), (40, 38, 5.0, true));
        assert!((asked.delays[0] - 1.5).abs() < 1e-6 && asked.delays.len() == 1, "{asked:?}");
        assert!(parse("", 50.0).is_err());
        assert_eq!(seconds("00:01:02.5"), Some(62.5));
    }
}
