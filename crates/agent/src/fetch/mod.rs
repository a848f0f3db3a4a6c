//! The verb `fetch`: brings the chosen generation into the client's store, by our own transfer or by a bundled Nix.
//!
//! Order, and why: the generation's description is verified before anything is written; that all was registered is forgotten before
//! anything has a receipt that was not there; every path is synced before it has one; the profile makes the generation survive garbage collection; all of it is synced; only then it is recorded that the
//! generation is complete on this disk.

mod generation;
mod held;
mod known;
mod manifest;
mod nix;
mod nix_log;
mod offline;
mod progress;
mod register;
mod store;
mod stream;
mod transfer;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use boot_model::{GenerationRef, StorePath, generation::Generation, report::Step};
use nix_format::signature::PublicKeys;

pub(crate) use self::register::{RegisterOptions, register};
use self::{
    generation::{Chosen, Signed},
    held::Held,
    known::Known,
    manifest::Manifest,
    nix::Nix,
    store::Store,
    stream::Server,
    transfer::{
        Transfer,
        plan::{self, Names},
        received::Received,
    },
};
use crate::{Exit, Failure, backoff::Backoff, console, machine, machine::Machine, report::Reporter};

/// Options of `fetch`.
#[derive(Debug)]
pub(crate) struct FetchOptions {
    /// The client's root file system, as mounted in stage 1.
    pub(crate) root: PathBuf,
    /// How long nothing may go forward before it is given up.
    pub(crate) patience: Duration,
    /// Who brings the closure.
    pub(crate) via: Via,
}

/// Who brings the closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Via {
    /// This program.
    Rookery,
    /// The Nix that is bundled in the initrd: its `nix-store`.
    Nix(PathBuf),
}

impl FetchOptions {
    /// A server that is being restarted or an access point that reboots is back by then.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(900);
}

/// Whose description is here needs the server's only for news, and does not wait long for them.
const PATIENCE_FOR_NEWS: Duration = Duration::from_secs(10);
/// Where another generation can run, nobody waits a quarter of an hour for the chosen one.
const PATIENCE_WITH_FALLBACK: Duration = Duration::from_secs(60);
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
    let known = Known::read(&store, &chosen, &keys);
    if let Some(instead_of) = line.offline() {
        return resume_offline(machine, &store, &chosen, known?, &instead_of);
    }
    // A record that cannot be believed is none: the server's may be better.
    let known = known.ok().flatten();
    let is_complete = known.as_ref().is_some_and(|known| known.is_complete);
    let can_fall_back = !is_complete && offline::is_possible(&store, &chosen, &keys);
    let patience = if can_fall_back { PATIENCE_WITH_FALLBACK.min(options.patience) } else { options.patience };
    let brought = obtain(&chosen, &keys, known.as_ref().map(|known| &known.signed), patience).and_then(|signed| {
        // Up to here nothing is written but a log of receipts that was damaged, beside a generation that was here already.
        let work =
            Work { machine, options, patience, reporter, store: &store, keys: &keys, chosen: &chosen, signed: &signed };
        let done = work.complete(known.filter(|known| known.signed.json == signed.json))?;
        machine.hand_over(&signed.init)?;
        Ok(done)
    });
    match brought {
        // Chosen anew: what could have run before the fetch may have made room during it.
        Err(failure) if failure.is_the_servers() => {
            offline::run_instead(machine, &store, &chosen, &keys, reporter, failure)
        }
        brought => brought,
    }
}

/// This kernel was started because the chosen generation could not be had: what it belongs to is complete, and nobody is asked.
fn resume_offline(
    machine: &Machine,
    store: &Store,
    chosen: &Chosen,
    known: Option<Known>,
    instead_of: &GenerationRef,
) -> Result<String, Failure> {
    let name = &chosen.generation;
    let Some(Known { signed, is_complete: true, .. }) = known else {
        let sentence =
            format!("generation {name} was to run offline and is not on this disk; boot from the menu again");
        return Err(Failure::new(Exit::Unavailable, sentence));
    };
    store.set_profile(&signed.generation)?;
    store.sync()?;
    let sentence = format!("OFFLINE: generation {name} of this disk runs instead of {instead_of}");
    machine.hand_over(&signed.init)?;
    offline::note(machine, &sentence)?;
    console::say(&format!("\nrookery: {sentence}\n"));
    Ok(sentence)
}

/// Remembers that a system came up and ran, so that it is not evicted before others. Told to nobody if it cannot be written.
pub(crate) fn confirm(root: &Path, system: &StorePath) {
    let store = Store::new(root.to_owned());
    let is_running = |reference: &GenerationRef| {
        let held = Held::read(&store, reference)?;
        let generation = Generation::from_json(held.json.as_bytes()).ok()?;
        generation.entries.iter().any(|entry| entry.toplevel == *system).then_some(())
    };
    if let Some(reference) = Held::all(&store).into_iter().find(|reference| is_running(reference).is_some()) {
        let _ = held::mark_good(&store, &reference);
    }
}

/// Everything that the way from a signed description to a complete generation needs.
struct Work<'a> {
    machine: &'a Machine,
    options: &'a FetchOptions,
    patience: Duration,
    reporter: &'a Reporter,
    store: &'a Store,
    keys: &'a PublicKeys,
    chosen: &'a Chosen,
    signed: &'a Signed,
}

impl Work<'_> {
    /// Makes the generation complete on the disk, and says in a sentence what was done. `known` is what the disk has of it.
    fn complete(&self, known: Option<Known>) -> Result<String, Failure> {
        let generation = &self.signed.generation;
        let already = || format!("generation {} is on the disk already, nothing was fetched", self.chosen.generation);
        let was_complete = known.as_ref().is_some_and(|known| known.is_complete);
        // With Nix its database has a say too.
        if was_complete && self.options.via == Via::Rookery {
            return Ok(already());
        }
        let manifest = match known {
            Some(known) => known.manifest,
            None => Manifest::download(&Server::new(self.chosen.server, self.patience, 1), generation)?,
        };
        let mut received = Received::open(self.store)?;
        let begun = Instant::now();
        let brought = match &self.options.via {
            Via::Rookery => self.by_transfer(&manifest, &mut received)?,
            Via::Nix(program) => self.by_nix(program, &manifest, &mut received, was_complete)?,
        };
        if brought.paths == 0 && was_complete {
            return Ok(already());
        }
        self.store.set_profile(generation)?;
        self.store.sync()?;
        let Signed { json, signature, .. } = self.signed;
        let held = Held { json: json.clone(), signature: signature.clone(), closure: manifest.text };
        held.write(self.store, &self.chosen.generation)?;
        Ok(format!(
            "generation {} is on the disk: {} paths, {} brought in {}",
            self.chosen.generation,
            brought.paths,
            console::bytes(brought.bytes),
            console::span(begun.elapsed()),
        ))
    }

    fn by_transfer(&self, manifest: &Manifest, received: &mut Received) -> Result<Brought, Failure> {
        self.store.forget_registered()?;
        let transfer = Transfer {
            store: self.store,
            wanted: &self.chosen.generation,
            server: self.chosen.server,
            keys: self.keys,
            patience: self.patience,
            reporter: self.reporter,
        };
        Ok(transfer.run(&manifest.closure, received)?)
    }

    fn by_nix(
        &self,
        program: &Path,
        manifest: &Manifest,
        received: &mut Received,
        was_complete: bool,
    ) -> Result<Brought, Failure> {
        let nix = Nix::prepare(program, self.store, &self.machine.run, self.chosen.server, self.keys)?;
        self.store.ensure_database(|| nix.make_database())?;
        let wanted = self.signed.toplevels();
        if was_complete && nix.has_closures(&wanted) {
            return Ok(Brought::default());
        }
        self.store.forget_registered()?;
        let brought = self.realise(&nix, &wanted, manifest, received)?;
        // What was there before the last attempt had its content. The rest Nix has checked, and synced before it registered it.
        self.store.sync()?;
        let names = Names::read(self.store);
        let receipts = manifest.closure.paths().iter().filter_map(|info| names.receipt(info)).collect();
        received
            .append(receipts)
            .map_err(|error| machine::failed("writing receipts in", &self.store.records(), &error, "check the disk"))?;
        Ok(brought)
    }

    /// Lets Nix bring the paths, again and again until they are here or nothing goes forward any more.
    fn realise(
        &self,
        nix: &Nix,
        wanted: &[StorePath],
        manifest: &Manifest,
        received: &mut Received,
    ) -> Result<Brought, Failure> {
        let mut progress = nix_log::NixLog::new(&self.signed.generation, self.reporter);
        let mut backoff = Backoff::default();
        let mut wrong_content = 0;
        let mut healed = false;
        let mut forward = Instant::now();
        loop {
            let begun = Instant::now();
            self.clear(manifest, received)?;
            // Nobody waited for the server.
            forward += begun.elapsed();
            let before = progress.brought();
            let Err(trouble) = nix.realise(wanted, self.patience, &mut progress) else {
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
                    self.store.set_database_aside()?;
                    self.store.ensure_database(|| nix.make_database())?;
                    continue;
                }
                nix::TroubleKind::Content | nix::TroubleKind::Unknown
                    if wrong_content + 1 < ATTEMPTS_AT_WRONG_CONTENT =>
                {
                    wrong_content += 1;
                }
                // A server that is there is no reason to run another generation soon.
                nix::TroubleKind::Busy if forward.elapsed() < self.options.patience => {}
                nix::TroubleKind::Unreachable if forward.elapsed() < self.patience => {}
                _ => return Err(trouble.into_failure(self.patience)),
            }
            let delay = backoff.next_delay(crate::backoff::random());
            console::say(&format!("rookery: {}; trying again in {:.1} s", trouble.cause, delay.as_secs_f64()));
            std::thread::sleep(delay);
        }
    }

    /// Takes away what is not whole. Nix does not look at what stands in its database: a power cut on the running system may have emptied
    /// it, and it repairs in place, so that an attempt that failed may have left half of it.
    fn clear(&self, manifest: &Manifest, received: &mut Received) -> Result<(), Failure> {
        let say = || offline::say_looking(&self.chosen.generation);
        let cleared = plan::clear(self.store, &manifest.closure, received, say);
        cleared.map_err(|error| {
            machine::failed("removing what is not whole from", &self.store.paths(), &error, "check the disk")
        })
    }
}

/// The signed description: from the server; from an earlier fetch if the server has none to give.
fn obtain(chosen: &Chosen, keys: &PublicKeys, known: Option<&Signed>, patience: Duration) -> Result<Signed, Failure> {
    let patience = if known.is_some() { PATIENCE_FOR_NEWS.min(patience) } else { patience };
    let failure = match chosen.download(known, patience) {
        Ok((json, signature)) => match chosen.verify(json, signature, keys) {
            Ok(signed) => return Ok(signed),
            Err(error) => Failure::from(error),
        },
        Err(failure) => failure,
    };
    let Some(known) = known else { return Err(failure) };
    console::say(&format!("rookery: {}; the copy of the last fetch is used", failure.sentence));
    Ok(known.clone())
}

/// What an attempt, or all of them together, brought.
#[derive(Debug, Clone, Copy, Default)]
struct Brought {
    paths: u64,
    bytes: u64,
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
