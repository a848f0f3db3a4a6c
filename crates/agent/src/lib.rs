//! `rookery-agent`: what Rookery does on the client, in stage 1, before the system that was chosen runs.
//!
//! Promise: every wait has a deadline and a next step; every failure ends in one sentence on the console (the cause, and what
//! to do) and in a report to the server; nothing is written before it is proven that it may be: a disk must be ours or blank,
//! a generation must be signed by a key of the initrd. What is said to be on the disk is on the disk.
//!
//! It deliberately does not configure the network, mount file systems or decide what to boot: stage 1 and the menu do.
//!
//! # Exit codes
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; the sentence on the console says why |
//! | 64 | the command line of this program is wrong |
//! | 69 | the server could not be reached, or did not serve, until the deadline |
//! | 77 | refused: the disk may not be written, or the generation is not signed by a trusted key |
//! | 78 | something that the site wrote is wrong: layout spec, keys, kernel command line |

use std::{ffi::OsString, fmt, process::ExitCode};

mod arguments;
mod backoff;
mod command_line;
mod console;
mod disk;
mod fetch;
mod http;
mod machine;
mod report;

use arguments::Verb;
use machine::Machine;

/// How the program ends; see the table at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failure = 1,
    Usage = 64,
    Unavailable = 69,
    Refused = 77,
    Configuration = 78,
}

/// An error that has reached the top: its exit code, and the sentence for the console and the report.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) sentence: String,
    /// What of the chosen generation a server that answers lacks or has spoilt, if that is why.
    pub(crate) spoilt: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl fmt::Display) -> Self {
        Self { exit, sentence: sentence.to_string(), spoilt: None }
    }

    /// A server that answers lacks this, or has something else in its place.
    pub(crate) fn with_spoilt(self, what: impl fmt::Display) -> Self {
        Self { spoilt: Some(what.to_string()), ..self }
    }

    /// Is it the server's fault and nobody's lie? Then another generation may run until the server is mended.
    pub(crate) fn is_the_servers(&self) -> bool {
        self.exit == Exit::Unavailable || self.spoilt.is_some()
    }
}

/// Runs the program with its arguments (without its own name).
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (machine, verb) = match arguments::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            console::error(&format!("{error}\n\n{}", arguments::USAGE));
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let stops_boot = machine.is_booting() && matches!(verb, Verb::DiskApply(_) | Verb::Fetch(_));
    match perform(&machine, verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::error(&failure.sentence);
            if stops_boot {
                console::on_the_others(&format!("rookery: {}", failure.sentence));
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn perform(machine: &Machine, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Help => console::say(arguments::USAGE),
        Verb::Version => console::say(concat!("rookery-agent ", env!("CARGO_PKG_VERSION"))),
        Verb::DiskPlan(options) => return disk::plan(machine, &options),
        Verb::DiskApply(options) => return disk::apply(machine, &options),
        Verb::Fetch(options) => return fetch::fetch(machine, &options),
        Verb::Register(options) => return fetch::register(machine, &options),
        Verb::Report { step, status, detail } => return report::by_hand(machine, step, status, detail),
        Verb::ReportRunning => return report::running(machine),
        Verb::BootInterface { wait } => console::say(&machine.boot_interface(wait)?),
    }
    Ok(())
}
