//! `rookery`, the admin's command line: what is published, and how it comes to be.
//!
//! It works on the state directory alone and talks to no service: each of them sees what changed there by itself. It serves
//! nothing, and needs no service to be running.

mod arguments;
mod boot_once;
mod collecting;
mod keys;
mod list;
mod loader_sets;
mod loaders;
mod output;
mod progress;
mod publishing;
mod roles;
mod site;
mod verification;

use std::process::ExitCode;

use service::Failure;

use arguments::{Arguments, KeysVerb, LoadersVerb, Verb};
use output::Output;
use site::Site;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    service::main(run)
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let site = Site::load(&arguments)?;
    let output = Output { json: arguments.json };
    match arguments.verb {
        Verb::Publish(request) => publishing::publish(&site, output, &request),
        Verb::Follow(request) => publishing::follow(&site, output, &request),
        Verb::BootOnce(request) => boot_once::boot_once(&site, output, arguments.config.as_deref(), &request),
        Verb::List => list::list(&site, output),
        Verb::Show { generation } => list::show(&site, output, &generation),
        Verb::Rollback { role } => roles::rollback(&site, output, &role),
        Verb::Default { role, generation } => roles::set_default(&site, output, &role, &generation),
        Verb::Remove { generation } => roles::remove(&site, output, &generation),
        Verb::Verify { what } => verification::verify(&site, output, what.as_deref()),
        Verb::Gc(request) => collecting::collect(&site, output, &request),
        Verb::Keys(KeysVerb::Generate { name }) => keys::generate(&site, output, &name),
        Verb::Keys(KeysVerb::Show) => keys::show(&site, output),
        Verb::Loaders(LoadersVerb::Install { from, loader }) => loaders::install(&site, output, &from, &loader),
    }
}
