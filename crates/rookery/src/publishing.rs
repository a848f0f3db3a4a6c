use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread;

use boot_model::Timestamp;
use nix::sys::signal::{SigSet, Signal};
use publish::{Follower, Pass, Publisher, Request, Store, Wake};
use serde_json::json;
use service::Failure;

use crate::arguments::{FollowArguments, PublishArguments};
use crate::output::{Output, say};
use crate::progress::Progress;
use crate::site::Site;

pub(crate) fn publish(site: &Site, output: Output, arguments: &PublishArguments) -> Result<(), Failure> {
    let store = store(arguments.store.as_deref())?;
    let request = Request {
        role: arguments.role.clone(),
        toplevel: store.path(&arguments.toplevel)?,
        number: arguments.number,
        date: arguments.date.unwrap_or_else(|| Timestamp::from_unix_millis(service::unix_millis())),
    };
    let keys = [site.secret_key()?];
    let progress = Progress::new(output.json);
    let report = |event: publish::Event<'_>| progress.hear(event);
    let publisher =
        Publisher { layout: &site.layout, store: &store, keys: &keys, level: site.compression_level, report: &report };
    let published = publisher.publish(&request);
    progress.end();
    let publish::Outcome { generation, new } = published?;
    output.answer(
        || match new {
            true => format!("published {generation}, which {} boots from now on", generation.role),
            false => format!("{generation} is published already; {} boots it", generation.role),
        },
        || json!({ "generation": generation, "new": new }),
    )
}

pub(crate) fn follow(site: &Site, output: Output, arguments: &FollowArguments) -> Result<(), Failure> {
    let profiles = std::path::absolute(&arguments.profiles)?;
    let store = store(arguments.store.as_deref())?;
    let keys = [site.secret_key()?];
    let progress = Progress::new(output.json);
    let report = |event: publish::Event<'_>| progress.hear(event);
    let publisher =
        Publisher { layout: &site.layout, store: &store, keys: &keys, level: site.compression_level, report: &report };
    let follower = Follower { publisher: &publisher, profiles };
    if arguments.once {
        let passed = follower.pass();
        progress.end();
        return once(output, &passed?);
    }
    let (wake, wakes) = mpsc::channel();
    stop_on_signals(wake.clone())?;
    let mut known = Vec::new();
    let mut printed = Ok(());
    // Before the first look, which may publish for longer than systemd waits for a service to start. Not being able to tell
    // systemd is no reason to stop; it will say so itself.
    let _ = service::notify::ready("following");
    follower.run(&wake, &wakes, |passed| {
        progress.end();
        // A directory that can't be read now may be there in a minute: said once, as any other problem.
        let pass = passed.unwrap_or_else(|error| Pass { problems: vec![error.to_string()], ..Pass::default() });
        if printed.is_ok() {
            printed = print_pass(output, &pass, &known);
        }
        known = pass.problems;
    });
    printed
}

/// The root is made absolute, for Nix may be asked with it too.
fn store(root: Option<&Path>) -> Result<Store, Failure> {
    Ok(match root {
        Some(root) => Store::at(std::path::absolute(root)?),
        None => Store::system(),
    })
}

fn once(output: Output, pass: &Pass) -> Result<(), Failure> {
    print_pass(output, pass, &[])?;
    match pass.problems.len() {
        0 => Ok(()),
        count => Err(Failure::runtime(format!("{count} of the profiles' links could not be mirrored, see above"))),
    }
}

/// Says what a pass changed, and each problem when it first appears.
fn print_pass(output: Output, pass: &Pass, known: &[String]) -> Result<(), Failure> {
    let happened = [("published", &pass.published), ("default", &pass.defaults), ("removed", &pass.removed)];
    for (verb, generations) in happened {
        for generation in generations {
            output.line(|| format!("{verb} {generation}"), || json!({ verb: generation }))?;
        }
    }
    for problem in pass.problems.iter().filter(|problem| !known.contains(problem)) {
        if output.json {
            output.line(String::new, || json!({ "problem": problem }))?;
        } else {
            say(&format!("rookery: {problem}"));
        }
    }
    Ok(())
}

/// Turns SIGTERM and SIGINT into a wake-up: what is being published then is finished first. A second signal ends the process at
/// once, as it would any other; the next run carries on.
fn stop_on_signals(wake: Sender<Wake>) -> Result<(), Failure> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any other thread begins: they inherit the mask.
    signals.thread_block()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.wait().is_ok() {
            let _ = service::notify::stopping();
            // The follower has ended by itself if nobody listens.
            let _ = wake.send(Wake::Stop);
        }
        // From now on this thread takes them, with their usual effect; so it must stay.
        let _ = signals.thread_unblock();
        loop {
            thread::park();
        }
    })?;
    Ok(())
}
