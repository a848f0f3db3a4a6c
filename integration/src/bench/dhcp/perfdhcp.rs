//! ISC's load generator.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::peers::unpacked;
use crate::namespace::{Namespace, SERVER};
use crate::{Error, Lab, Result, Workspace, interrupt};

/// The generator's own address, which it relays from.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// How long a rate is kept up.
const SECONDS: f64 = 4.0;

/// Clients that take turns.
const CLIENTS: u32 = 60_000;

pub(super) struct Generator<'a> {
    pub(super) lab: &'a Lab,
    pub(super) workspace: &'a Workspace,
    pub(super) clients: &'a Namespace,
}

/// What came of a run.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    /// DISCOVERs sent.
    pub(super) begun: u64,
    /// ACKs received.
    pub(super) finished: u64,
    pub(super) seconds: f64,
    /// From REQUEST to ACK, in milliseconds.
    pub(super) delays: Vec<f64>,
}

impl Generator<'_> {
    /// So many exchanges of four packets a second.
    pub(super) fn rate(&self, rate: u32) -> Result<Asked> {
        let arguments = format!("-4 -r {rate} -R {CLIENTS} -p {SECONDS} -W 1000000 -g multi -x t");
        parse(&self.run(&arguments)?)
    }

    /// Seconds until so many clients, which all begin at once and ask again, have their address.
    pub(super) fn avalanche(&self, clients: u32) -> Result<f64> {
        let said = self.run(&format!("-4 --scenario avalanche -R {clients} -g multi"))?;
        let time = said.lines().find_map(|line| line.strip_prefix("It took ")?.split(' ').next());
        time.and_then(seconds).ok_or_else(|| Error::Wrong(format!("perfdhcp tells no time: {said}")))
    }

    fn run(&self, arguments: &str) -> Result<String> {
        interrupt::check()?;
        let mut command = self.clients.command(unpacked(self.workspace, "perfdhcp")?);
        command.args(arguments.split(' ')).args(["-l", &ADDRESS.to_string(), &SERVER.to_string()]);
        libraries(&mut command, self.workspace);
        let output = command.stdin(Stdio::null()).output().map_err(Error::io("running perfdhcp"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        self.lab.log().note("perfdhcp", arguments);
        // It exits with 3 when replies are missing: a finding, not a failure.
        match output.status.code() {
            Some(0 | 3) => Ok(said),
            _ => Err(Error::Command {
                command: format!("perfdhcp {arguments}"),
                status: output.status,
                output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
        }
    }
}

/// What is unpacked finds its libraries where it is.
pub(super) fn libraries(command: &mut Command, workspace: &Workspace) {
    command.env("LD_LIBRARY_PATH", workspace.target().join("lab/peers/usr/lib/x86_64-linux-gnu"));
}

/// Two sections, DISCOVER to OFFER and REQUEST to ACK, each with its counts and a line for each pair of packets.
fn parse(said: &str) -> Result<Asked> {
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
    Ok(Asked { begun, finished, seconds: SECONDS, delays: acks.lines().filter_map(delay).collect() })
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
        let asked = parse(said).unwrap();
        assert_eq!((asked.begun, asked.finished), (40, 38));
        assert!((asked.delays[0] - 1.5).abs() < 1e-6 && asked.delays.len() == 1, "{asked:?}");
        assert!(parse("").is_err());
        assert_eq!(seconds("00:01:02.5"), Some(62.5));
    }
}
