//! The verb `fetch`: brings the chosen generation into the client's store.
//!
//! Order, and why: the generation's description is verified before anything is written; Nix brings and registers the paths; the
//! profile makes them survive garbage collection; all of it is synced; only then the receipt says that it is so.

mod generation;
mod nix;
mod nix_log;
mod receipt;
mod store;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use boot_model::{StorePath, generation::Generation, report::Step};
use nix_format::signature::PublicKeys;

use self::{generation::Chosen, nix::Nix, receipt::Receipt, store::Store};
use crate::{Exit, Failure, backoff::Backoff, console, machine, machine::Machine, report::Reporter};

/// Options of `fetch`.
#[derive(Debug)]
pub(crate) struct FetchOptions {
    /// The client's root file system, as mounted in stage 1.
    pub(crate) root: PathBuf,
    /// How long nothing may go forward before it is given up.
    pub(crate) patience: Duration,
    /// The Nix that is bundled in the initrd.
    pub(crate) nix_store: PathBuf,
}

impl FetchOptions {
    /// A server that is being restarted or an access point that reboots is back by then.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(900);
}

/// A generation that is complete here needs the server only for news; it does not wait long for them.
const PATIENCE_WITH_RECEIPT: Duration = Duration::from_secs(10);
/// Wrong content may be a bit flipped on the way; content that is wrong thrice is wrong on the server.
const ATTEMPTS_AT_WRONG_CONTENT: u32 = 3;

/// Runs the verb and reports how it went.
pub(crate) fn fetch(machine: &Machine, options: &FetchOptions) -> Result<(), Failure> {
    let reporter = Reporter::new(machine, Step::Fetch);
    reporter.started();
    let outcome = bring(machine, options, &reporter);
    match &outcome {
        Ok(done) => reporter.ok(done),
        Err(failure) => reporter.failed(&failure.sentence),
    }
    outcome.map(|done| console::say(&format!("rookery: {done}")))
}

fn bring(machine: &Machine, options: &FetchOptions, reporter: &Reporter) -> Result<String, Failure> {
    let line = machine.read_command_line()?;
    let chosen = Chosen { generation: line.generation()?, init: line.init()?, server: line.server()? };
    let keys = trusted_keys(&machine.trusted_keys)?;
    let root = fs::canonicalize(&options.root).map_err(|error| {
        machine::failed("finding", &options.root, &error, "mount the client's root file system first")
    })?;
    let store = Store::new(root);
    let receipt = Receipt::read(&store, &chosen.generation);
    let signed = obtain(&chosen, &keys, receipt.as_ref(), options.patience)?;
    let wanted = signed.toplevels();

    // Everything up to here only read.
    let nix = Nix::prepare(&options.nix_store, &store, &machine.run, chosen.server, &keys)?;
    store.ensure_database(|| nix.make_database())?;
    if receipt.is_some_and(|receipt| receipt.json == signed.json) && nix.has_closures(&wanted) {
        return Ok(format!("generation {} is on the disk already, nothing was fetched", chosen.generation));
    }
    let begun = Instant::now();
    let brought = realise(&nix, &store, &signed.generation, &wanted, options.patience, reporter)?;
    store.set_profile(&signed.generation)?;
    store.sync()?;
    Receipt { json: signed.json, signature: signed.signature }.write(&store, &chosen.generation)?;
    Ok(format!(
        "generation {} is on the disk: {} paths, {} brought in {}",
        chosen.generation,
        brought.paths,
        console::bytes(brought.bytes),
        console::span(begun.elapsed()),
    ))
}

/// The signed description: from the server; from the receipt of an earlier fetch if the server has none to give.
fn obtain(
    chosen: &Chosen,
    keys: &PublicKeys,
    receipt: Option<&Receipt>,
    patience: Duration,
) -> Result<generation::Signed, Failure> {
    let from_receipt = |receipt: &Receipt| chosen.verify(receipt.json.clone(), receipt.signature.clone(), keys).ok();
    let known = receipt.and_then(from_receipt);
    let patience = if known.is_some() { PATIENCE_WITH_RECEIPT.min(patience) } else { patience };
    let failure = match chosen.download(patience) {
        Ok((json, signature)) => match chosen.verify(json, signature, keys) {
            Ok(signed) => return Ok(signed),
            Err(error) => Failure::from(error),
        },
        Err(failure) => failure,
    };
    let Some(known) = known else { return Err(failure) };
    console::say(&format!("rookery: {}; the copy of the last fetch is used", failure.sentence));
    Ok(known)
}

/// What an attempt, or all of them together, brought.
#[derive(Debug, Clone, Copy, Default)]
struct Brought {
    paths: u64,
    bytes: u64,
}

/// Lets Nix bring the paths, again and again until they are here or nothing goes forward any more.
fn realise(
    nix: &Nix,
    store: &Store,
    generation: &Generation,
    wanted: &[StorePath],
    patience: Duration,
    reporter: &Reporter,
) -> Result<Brought, Failure> {
    let mut progress = nix_log::Display::new(generation, reporter);
    let mut backoff = Backoff::default();
    let mut wrong_content = 0;
    let mut healed = false;
    let mut forward = Instant::now();
    loop {
        let before = progress.brought();
        let Err(trouble) = nix.realise(wanted, patience, &mut progress) else {
            progress.finish();
            return Ok(progress.brought());
        };
        progress.finish();
        let now = progress.brought();
        // Whole paths only: a server that cuts every transfer in the middle sends bytes for ever.
        if now.paths > before.paths {
            forward = Instant::now();
            backoff.reset();
        }
        match trouble.kind {
            nix::TroubleKind::Database if !healed => {
                healed = true;
                store.set_database_aside()?;
                store.ensure_database(|| nix.make_database())?;
                continue;
            }
            nix::TroubleKind::Content if wrong_content + 1 < ATTEMPTS_AT_WRONG_CONTENT => wrong_content += 1,
            nix::TroubleKind::Unreachable if forward.elapsed() < patience => {}
            _ => return Err(trouble.into_failure(patience)),
        }
        let delay = backoff.next_delay(crate::backoff::random());
        console::say(&format!("rookery: {}; trying again in {:.1} s", trouble.cause, delay.as_secs_f64()));
        std::thread::sleep(delay);
    }
}

fn trusted_keys(file: &Path) -> Result<PublicKeys, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| machine::failed("reading", file, &error, "put the site's public keys into the initrd"))?;
    let wrong = |cause: String| Failure::new(Exit::Configuration, format!("trusted keys {}: {cause}", file.display()));
    let keys: PublicKeys = text.parse().map_err(|error| wrong(format!("{error}")))?;
    if keys.is_empty() {
        return Err(wrong("there is no key in it; put the site's public keys into the initrd".to_owned()));
    }
    Ok(keys)
}
