use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use boot_model::Timestamp;
use nix::sys::signal::{SigSet, Signal};
use publish::{Bundle, Bundler, BundlingError, Follower, Pass, Publisher, Request, Store, Wake};
use serde_json::{Value, json};
use service::Failure;

use crate::arguments::{FollowArguments, PublishArguments};
use crate::output::{Output, bytes, say};
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
    let begun = Instant::now();
    let published = publisher.publish(&request);
    progress.end();
    let publish::Outcome { generation, new } = published?;
    let bootable = begun.elapsed();
    if !output.json {
        // The first of two moments: whoever waits for it need not wait for the other.
        let role = &generation.role;
        let text = match new {
            true => format!("published {generation}, which {role} boots from now on"),
            false => format!("{generation} is published already; {role} boots it"),
        };
        output.line(|| text, || Value::Null)?;
    }
    let results = match arguments.no_bundles {
        true => Ok(Vec::new()),
        false => {
            let stop = AtomicBool::new(false);
            Bundler { layout: &site.layout, report: &report, stop: &stop }.make_missing(&generation.role)
        }
    };
    progress.end();
    // What is published boots without them.
    let results = results.unwrap_or_else(|error| vec![Err(error)]);
    let ready = begun.elapsed();
    let (bundles, problems) = sorted(results);
    problems.iter().for_each(|problem| say(&format!("rookery: {problem}")));
    output.answer(
        || match bundles.is_empty() {
            true => String::new(),
            false => {
                let [bootable, ready] = [bootable, ready].map(|duration| duration.as_secs_f64());
                let lines: String = bundles.iter().map(|bundle| bundle_text(bundle) + "\n").collect();
                format!("{lines}bootable after {bootable:.1} s, bundles ready after {ready:.1} s\n")
            }
        },
        || {
            json!({
                "generation": generation,
                "new": new,
                "bootable-seconds": bootable.as_secs_f64(),
                "bundles-seconds": ready.as_secs_f64(),
                "bundles": bundles.iter().map(bundle_json).collect::<Vec<_>>(),
                "problems": problems,
            })
        },
    )
}

/// What was made, and why the rest was not.
fn sorted(results: Vec<Result<Bundle, BundlingError>>) -> (Vec<Bundle>, Vec<String>) {
    let (mut bundles, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(bundle) => bundles.push(bundle),
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    (bundles, problems)
}

fn bundle_text(bundle: &Bundle) -> String {
    let Bundle { old, new, bytes: size, paths, replaces, plain } = bundle;
    let beside = if *plain == 0 { String::new() } else { format!("; {plain} paths more come as packs") };
    format!("bundle from {old} to {new}: {paths} paths in {} instead of {}{beside}", bytes(*size), bytes(*replaces))
}

fn bundle_json(bundle: &Bundle) -> Value {
    json!({
        "old": bundle.old,
        "new": bundle.new,
        "bytes": bundle.bytes,
        "paths": bundle.paths,
        "replaces-bytes": bundle.replaces,
        "plain-paths": bundle.plain,
    })
}

pub(crate) fn follow(site: &Site, output: Output, arguments: &FollowArguments) -> Result<(), Failure> {
    let profiles = std::path::absolute(&arguments.profiles)?;
    let store = store(arguments.store.as_deref())?;
    let keys = [site.secret_key()?];
    let progress = Progress::new(output.json);
    let report = |event: publish::Event<'_>| progress.hear(event);
    let publisher =
        Publisher { layout: &site.layout, store: &store, keys: &keys, level: site.compression_level, report: &report };
    let follower = Follower { publisher: &publisher, profiles, bundles: !arguments.no_bundles };
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
    for bundle in &pass.bundles {
        output.line(|| bundle_text(bundle), || json!({ "bundle": bundle_json(bundle) }))?;
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
