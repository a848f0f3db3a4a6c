//! `lab`: tests, demonstration and benchmarks over whole systems. Normally started by `integration/test`, `integration/demo`,
//! `integration/bench` and `integration/soak`, which install and build what it needs.
#![allow(clippy::print_stderr, reason = "a command line tool")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use integration::{Error, Result, Workspace, bench, demo, interrupt, soak, suite};

/// Network-boots virtual machines from real Rookery servers, and judges what happens.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs groups of tests and counts.
    Test(suite::Arguments),
    /// Boots a client from an empty disk to the generation that is chosen in its menu.
    Demo(demo::Arguments),
    /// Measures.
    Bench(bench::Arguments),
    /// Lets the same accident happen again and again.
    Soak(soak::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error}");
            match error {
                Error::Interrupted => ExitCode::from(130),
                Error::Usage(_) => ExitCode::from(64),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Does it; true if all was as it should be.
fn run(verb: Verb) -> Result<bool> {
    interrupt::arm()?;
    let workspace = Workspace::find()?;
    match verb {
        Verb::Test(arguments) => suite::main(&workspace, &arguments),
        Verb::Bench(arguments) => bench::main(&workspace, &arguments),
        Verb::Soak(arguments) => soak::main(&workspace, &arguments),
        Verb::Demo(arguments) => demo::main(&workspace, &arguments).map(|()| true),
    }
}
