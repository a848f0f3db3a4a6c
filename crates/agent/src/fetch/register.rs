//! The verb `register`: tells the client's Nix what the transfer brought, and makes the running generation its system.
//!
//! It runs in stage 2, before anything asks Nix, with the generation's own Nix: no Nix need be in the initrd, and nobody but Nix
//! writes Nix's database. One `nix-store --load-db` registers the closures of all complete generations in one transaction. It is
//! left out where it was done, nothing was brought since, and Nix still has all of them. `--load-db` has no place for signatures: they follow by `nix store copy-sigs`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use boot_model::{
    GenerationRef, STORE_DIR, Sha256Digest, StorePath,
    generation::{Generation, InitPath},
};
use nix_format::narinfo::NarInfo;
use sha2::{Digest as _, Sha256};

use super::{
    held::Held,
    manifest::Manifest,
    nix::{Trouble, TroubleKind},
    store::Store,
    transfer::{plan::Names, received::Received, space},
};
use crate::{Exit, Failure, console, machine, machine::Machine};

/// Options of `register`.
#[derive(Debug)]
pub(crate) struct RegisterOptions {
    /// The root file system; `/` in the running system.
    pub(crate) root: PathBuf,
    /// The generation's own `nix-store`.
    pub(crate) nix_store: PathBuf,
}

/// Runs the verb.
pub(crate) fn register(machine: &Machine, options: &RegisterOptions) -> Result<(), Failure> {
    let root = fs::canonicalize(&options.root)
        .map_err(|error| machine::failed("finding", &options.root, &error, "name the running system's root"))?;
    let store = Store::new(root);
    let generations = complete(&store)?;
    let nix = Nix { program: &options.nix_store, store: &store, signatures: machine.run.join("signatures") };
    nix.bring_up_to_date(&generations)?;
    if let Some(running) = running(machine, &generations) {
        store.set_profile(running)?;
    }
    store.sync()
}

/// The generations that are complete here, with what each holds.
fn complete(store: &Store) -> Result<Vec<(Generation, Manifest)>, Failure> {
    let (names, received) = (Names::read(store), Received::open(store)?);
    let read = |reference: &GenerationRef| {
        let held = Held::read(store, reference)?;
        let generation = Generation::from_json(held.json.as_bytes()).ok()?;
        let manifest = Manifest::held(&held.closure, &generation)?;
        manifest.is_here(&names, &received).then_some((generation, manifest))
    };
    Ok(Held::all(store).iter().filter_map(read).collect())
}

/// The generation that stage 1 handed over to.
fn running<'a>(machine: &Machine, generations: &'a [(Generation, Manifest)]) -> Option<&'a Generation> {
    let init: InitPath = fs::read_to_string(machine.run.join("init")).ok()?.trim().parse().ok()?;
    generations.iter().map(|(generation, _)| generation).find(|generation| generation.entry_for(&init).is_some())
}

struct Nix<'a> {
    /// Its `nix-store`.
    program: &'a Path,
    store: &'a Store,
    /// Where signatures lie while Nix reads them.
    signatures: PathBuf,
}

impl Nix<'_> {
    fn bring_up_to_date(&self, generations: &[(Generation, Manifest)]) -> Result<(), Failure> {
        let registration = registration(generations);
        let digest = Sha256Digest::new(Sha256::digest(&registration).into()).to_string();
        let mark = self.store.registered();
        self.store.ensure_database(|| self.run(&["--init"], None).map_err(|trouble| self.failure(&trouble)))?;
        let dropped = space::dropped(self.store);
        let was_told = fs::read_to_string(&mark).is_ok_and(|found| found == digest);
        if was_told && dropped.is_empty() && self.knows(generations) {
            return Ok(());
        }
        self.load(&registration)?;
        if !dropped.is_empty() {
            self.drop_rows();
        }
        self.copy_signatures(generations);
        self.store.sync()?;
        let write = || -> io::Result<()> {
            let mut file = File::create(&mark)?;
            file.write_all(digest.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| machine::failed("marking", &mark, &error, "check the disk"))?;
        space::forget_dropped(self.store)
            .map_err(|error| machine::failed("clearing the list in", &self.store.records(), &error, "check the disk"))
    }

    /// Are these generations valid for Nix? It takes no path from its database before those that refer to it, so the toplevels tell: also
    /// where the power failed when the garbage collector had taken a path from there and not yet from the disk.
    fn knows(&self, generations: &[(Generation, Manifest)]) -> bool {
        let entries = generations.iter().flat_map(|(generation, _)| &generation.entries);
        let mut arguments = vec!["--check-validity"];
        arguments.extend(entries.map(|entry| entry.toplevel.as_str()));
        self.run(&arguments, None).is_ok()
    }

    /// Registers, with a database that Nix makes anew if it cannot work with the one that is there.
    fn load(&self, registration: &str) -> Result<(), Failure> {
        let Err(trouble) = self.run(&["--load-db"], Some(registration)) else { return Ok(()) };
        if trouble.kind != TroubleKind::Database {
            return Err(self.failure(&trouble));
        }
        self.store.set_database_aside()?;
        self.store.ensure_database(|| self.run(&["--init"], None).map_err(|trouble| self.failure(&trouble)))?;
        self.run(&["--load-db"], Some(registration)).map_err(|trouble| self.failure(&trouble))
    }

    /// Paths that were taken from the disk are no longer valid; Nix finds them by looking. It refuses where something that the
    /// client has besides refers to one; that is told and is no reason not to run.
    fn drop_rows(&self) {
        if let Err(trouble) = self.run(&["--verify"], None) {
            console::say(&format!("rookery: nix-store --verify: {}", trouble.cause));
        }
    }

    /// Nix takes signatures from binary caches, and reads only narinfos for it: they are put where it can read them. Without signatures
    /// paths are as valid, and only who copies them from this client must trust it; so a failure is told and is no reason not to run.
    fn copy_signatures(&self, generations: &[(Generation, Manifest)]) {
        let substituter = format!("file://{}", self.signatures.display());
        let arguments =
            ["--extra-experimental-features", "nix-command", "store", "copy-sigs", "--all", "--substituter"];
        let written = write_narinfos(&self.signatures, generations).map_err(|error| error.to_string());
        let copied = written.and_then(|()| {
            let nix = self.program.with_file_name("nix");
            self.run_program(&nix, &[&arguments[..], &[&substituter]].concat(), None).map_err(|trouble| trouble.cause)
        });
        if let Err(cause) = copied {
            console::say(&format!("rookery: Nix does not know the signatures of its paths: {cause}"));
        }
        // It lies in memory, where it would only be in the way.
        let _ = fs::remove_dir_all(&self.signatures);
    }

    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<(), Trouble> {
        self.run_program(self.program, arguments, input)
    }

    fn run_program(&self, program: &Path, arguments: &[&str], input: Option<&str>) -> Result<(), Trouble> {
        let broken =
            |error: io::Error| Trouble { kind: TroubleKind::Program, cause: format!("{}: {error}", program.display()) };
        let root = self.store.root();
        let remote = if root == Path::new("/") { "local".to_owned() } else { format!("local?root={}", root.display()) };
        let mut command = Command::new(program);
        command.args(arguments).env("NIX_REMOTE", remote);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(broken)?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // A Nix that fails early closes the pipe; what it says of it is what counts.
            scope.spawn(move || stdin.zip(input).map(|(mut stdin, text)| stdin.write_all(text.as_bytes())));
            child.wait_with_output()
        });
        let output = output.map_err(broken)?;
        if output.status.success() {
            return Ok(());
        }
        let said: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
        Err(Trouble::of(&said, &output.status.to_string()))
    }

    fn failure(&self, trouble: &Trouble) -> Failure {
        let sentence = format!(
            "registering the closure with {}: {}; the system runs, but its Nix does not know its paths",
            self.program.display(),
            trouble.cause
        );
        Failure::new(Exit::Failure, sentence)
    }
}

/// A binary cache with narinfos and no packs.
fn write_narinfos(cache: &Path, generations: &[(Generation, Manifest)]) -> io::Result<()> {
    fs::create_dir_all(cache)?;
    fs::write(cache.join("nix-cache-info"), format!("StoreDir: {STORE_DIR}\n"))?;
    let mut infos = generations.iter().flat_map(|(_, manifest)| manifest.closure.paths());
    infos.try_for_each(|info| {
        let name = format!("{}.narinfo", info.store_path.hash());
        fs::write(cache.join(name), info.to_string())
    })
}

/// What `nix-store --load-db` reads (store-api.cc, `makeValidityRegistration`): each path once, the same text for the same paths.
fn registration(generations: &[(Generation, Manifest)]) -> String {
    let infos = generations.iter().flat_map(|(_, manifest)| manifest.closure.paths());
    let paths: BTreeMap<&StorePath, &NarInfo> = infos.map(|info| (&info.store_path, info)).collect();
    let mut text = String::new();
    for (path, info) in paths {
        let deriver = info.deriver.as_ref().map_or("", StorePath::as_str);
        text += &format!("{path}\n{}\n{}\n{deriver}\n{}\n", info.nar_hash, info.nar_size, info.references.len());
        text.extend(info.references.iter().flat_map(|reference| [reference.as_str(), "\n"]));
    }
    text
}
