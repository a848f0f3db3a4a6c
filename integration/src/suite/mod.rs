//! Groups of tests, each with a time budget, counted in one table.

mod boot;
mod cargo;
mod closure;
mod control;
mod failures;
mod firmware;
mod protocols;
mod report;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::{Error, Lab, Result, Workspace, interrupt};

/// What `lab test` understands.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Groups to run; without any, what a developer runs before pushing.
    groups: Vec<String>,
    /// Run every group.
    #[arg(long, conflicts_with = "groups")]
    all: bool,
    /// Only name the groups and their time budgets.
    #[arg(long)]
    list: bool,
    /// Only tests whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Decides everything that is left to chance. Printed with the result.
    #[arg(long)]
    seed: Option<u64>,
}

/// A set of tests that belong together.
struct Group {
    name: &'static str,
    about: &'static str,
    /// On two cores, without hardware virtualisation. Going over it is reported, not failed: machines differ.
    budget: Duration,
    /// Runs without being asked for.
    everyday: bool,
    /// How many of its tests run side by side: a virtual machine keeps one core busy, cargo all of them.
    at_once: usize,
    tests: fn() -> Vec<Test>,
}

/// One line of the report.
struct Test {
    name: &'static str,
    run: Run,
}

type Run = Box<dyn Fn(&Context<'_>) -> Result<Tally> + Send + Sync>;

/// What a test may use.
struct Context<'a> {
    workspace: &'a Workspace,
    logs: PathBuf,
    name: &'static str,
    seed: u64,
}

/// How many checks a line stands for: one, or the tests that a `cargo test` ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const GROUPS: [Group; 8] = [
    Group {
        name: "unit",
        about: "format, lints, documentation, layers, licences; unit tests and engine transcripts",
        budget: minutes(10),
        everyday: true,
        at_once: 1,
        tests: cargo::unit,
    },
    Group {
        name: "contract",
        about: "the generations directory: killed publishers, overflowing watches, replaced directories",
        budget: minutes(5),
        everyday: true,
        at_once: 1,
        tests: cargo::contract,
    },
    Group {
        name: "clients",
        about: "real DHCP, TFTP, HTTP and Nix clients against the real services",
        budget: minutes(5),
        everyday: true,
        at_once: 1,
        tests: cargo::clients,
    },
    Group {
        name: "protocols",
        about: "udhcpc, dhclient, dhcpcd and systemd-networkd through the life of a lease: obtained, renewed, rebound, declined, released",
        budget: minutes(6),
        everyday: false,
        at_once: 4,
        tests: protocols::tests,
    },
    Group {
        name: "boot",
        about: "virtual machines from firmware to login prompt",
        budget: minutes(8),
        everyday: true,
        at_once: 2,
        tests: boot::tests,
    },
    Group {
        name: "firmware",
        about: "every firmware and loader, from power-on to the initrd: BIOS, UEFI, HTTP boot, Secure Boot, 64-bit Arm; beside another DHCP \
                server, behind a relay agent, on two bridges, four at once",
        budget: minutes(12),
        everyday: false,
        at_once: 2,
        tests: firmware::tests,
    },
    Group {
        name: "closure",
        about: "bytes of a first fetch, an update and neither; servers that die in mid-fetch or before it; full disks; damaged packs, \
                bundles, receipts and databases",
        budget: minutes(12),
        everyday: false,
        at_once: 2,
        tests: closure::tests,
    },
    Group {
        name: "failures",
        about: "servers that stop, data and signatures that are wrong, disks of others, power cuts",
        budget: minutes(25),
        everyday: false,
        at_once: 2,
        tests: failures::tests,
    },
];

/// Runs what was asked for; true if everything passed.
pub fn main(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        report::list(&GROUPS);
        return Ok(true);
    }
    let groups = chosen(arguments)?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    Lab::sweep()?;
    let mut results = Vec::new();
    for group in groups {
        report::group(group);
        let start = Instant::now();
        let tally = run_group(workspace, group, arguments.only.as_deref(), seed)?;
        results.push(report::Row { group, tally, took: start.elapsed() });
    }
    let tally = report::table(&results);
    report::seed(seed);
    report::last_line(tally);
    Ok(tally.failed == 0)
}

fn chosen(arguments: &Arguments) -> Result<Vec<&'static Group>> {
    for name in &arguments.groups {
        if !GROUPS.iter().any(|group| group.name == name) {
            let known: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
            return Err(Error::Usage(format!("there is no group {name:?}; there are {}", known.join(", "))));
        }
    }
    let wanted = |group: &&Group| {
        if arguments.groups.is_empty() {
            arguments.all || group.everyday
        } else {
            arguments.groups.iter().any(|name| group.name == name)
        }
    };
    Ok(GROUPS.iter().filter(wanted).collect())
}

fn run_group(workspace: &Workspace, group: &Group, only: Option<&str>, seed: u64) -> Result<Tally> {
    let tests: Vec<Test> = (group.tests)();
    let chosen: Vec<&Test> = tests.iter().filter(|test| only.is_none_or(|part| test.name.contains(part))).collect();
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Tally::default());
    let work = || {
        while let Some(test) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let context = Context { workspace, logs: workspace.logs(group.name), name: test.name, seed };
            let start = Instant::now();
            let result = (test.run)(&context);
            let result = match result {
                Err(error) if gave_up(&error) => {
                    report::started_over(&context, &error);
                    (test.run)(&context)
                }
                result => result,
            };
            // An interrupted test has shown nothing.
            interrupt::check()?;
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            *sum += report::test(&context, &result, start.elapsed());
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..group.at_once).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Whether lpxelinux has ended in the way that its lwIP and its scheduler end, in one boot of some twenty: without a reason, with a
/// promise to restart the machine (docs/hardware.md). So the machine starts over, once; the lab's have no restart of their own.
fn gave_up(error: &Error) -> bool {
    matches!(error, Error::Fatal { line, .. } if line.contains("Boot failed: press a key to retry, or wait for reset"))
}

impl Test {
    /// One check: it holds, or the error says why not.
    fn new(name: &'static str, run: impl Fn(&Context<'_>) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { name, run: Box::new(move |context| run(context).map(|()| Tally { passed: 1, failed: 0 })) }
    }
}

impl Context<'_> {
    /// A lab whose log is this test's.
    fn lab(&self, taps: usize) -> Result<Lab> {
        Lab::open(self.name, &self.logs, taps)
    }

    /// Chance for this test: other tests don't change it.
    fn dice(&self) -> Dice {
        Dice::new(self.name.bytes().fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into())))
    }

    /// For what must hold: an error with this sentence if it does not.
    fn expect(&self, holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
        if holds { Ok(()) } else { Err(Error::Wrong(otherwise())) }
    }

    /// The file that explains a failure.
    fn log(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}
