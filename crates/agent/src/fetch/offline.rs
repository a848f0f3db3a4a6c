//! What is booted when the server cannot be reached, or lacks or has spoilt a file, and the chosen generation is not complete here: the
//! newest complete generation of the role on this disk, signed as any other.
//!
//! The kernel that runs belongs to the chosen generation. Where the newest one has no modules for it, its own kernel and initrd are
//! started by kexec, and its agent finds the generation complete. Where that cannot be done, the next newest follows.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _},
    net::SocketAddrV4,
    os::fd::AsRawFd as _,
};

use boot_model::{CommandLine, GenerationRef, Sha256Digest, generation::Generation};
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::{reboot, utsname},
};
use nix_format::signature::PublicKeys;
use sha2::{Digest as _, Sha256};

use super::{
    generation::{Chosen, believe},
    held::Held,
    manifest::Manifest,
    store::Store,
    transfer::{
        plan::{Names, recheck},
        received::Received,
    },
};
use crate::{Exit, Failure, console, machine, machine::Machine, report::Reporter};

/// The generation to fall back to.
#[derive(Debug)]
struct Fallback {
    generation: Generation,
    runs: Runs,
}

/// With which kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// The one that runs: its modules are there.
    Here,
    /// Its own.
    ByKexec,
}

/// A generation that is recorded and can be believed; whether it is whole is not known.
struct Candidate {
    fallback: Fallback,
    manifest: Manifest,
}

/// Is there a generation of the role that could be chosen, as far as its record and the names in the store say?
pub(super) fn is_possible(store: &Store, chosen: &Chosen, keys: &PublicKeys) -> bool {
    let candidates = candidates(store, chosen, keys);
    let names = Names::read(store);
    candidates.iter().any(|candidate| candidate.manifest.has_names(&names))
}

/// Boots the newest generation of the role that is complete here, can be believed, and is not the chosen one; where it cannot be started, the
/// next one. Of a path that was changed since it was received the content is hashed. Returns `failure`, which is why, if none runs, and does
/// not return where another kernel was started.
pub(super) fn run_instead(
    machine: &Machine,
    store: &Store,
    chosen: &Chosen,
    keys: &PublicKeys,
    reporter: &Reporter,
    failure: Failure,
) -> Result<String, Failure> {
    let candidates = candidates(store, chosen, keys);
    if candidates.is_empty() {
        return Err(failure);
    }
    let Ok(mut received) = Received::open(store) else { return Err(failure) };
    let mut sentence = failure.sentence.clone();
    for Candidate { fallback, manifest } in candidates {
        let name = fallback.generation.reference();
        if !recheck(store, &manifest.closure, &mut received, || say_looking(&name)) {
            continue;
        }
        // Its agent believes receipts alone, for which a full disk had no room.
        if fallback.runs == Runs::ByKexec && !manifest.is_here(&Names::read(store), &received) {
            console::say(&format!(
                "rookery: generation {name} is whole, but the disk has no room to say so to its own kernel; free some"
            ));
            continue;
        }
        match fallback.boot(machine, store, chosen, reporter, &failure) {
            Ok(done) => return Ok(done),
            Err(error) => {
                console::say(&format!("rookery: {}", error.sentence));
                sentence = format!("{sentence}; {}", error.sentence);
            }
        }
    }
    Err(Failure { sentence, ..failure })
}

/// Whole closures may have to be read.
pub(super) fn say_looking(generation: &GenerationRef) {
    console::say(&format!("rookery: looking whether generation {generation} of this disk is whole"));
}

/// The newest first.
fn candidates(store: &Store, chosen: &Chosen, keys: &PublicKeys) -> Vec<Candidate> {
    let mut references: Vec<GenerationRef> = Held::all(store);
    references.retain(|held| held.role == chosen.generation.role && *held != chosen.generation);
    references.sort_by_key(|held| std::cmp::Reverse(held.id));
    let Ok(uname) = utsname::uname() else { return Vec::new() };
    let release = uname.release().to_string_lossy();
    let candidate = |reference: &GenerationRef| {
        let held = Held::read(store, reference)?;
        let generation = believe(&held.json, &held.signature, reference, keys).ok()?;
        let manifest = Manifest::held(&held.closure, &generation)?;
        let runs = if has_modules(store, &generation, &release) { Runs::Here } else { Runs::ByKexec };
        Some(Candidate { fallback: Fallback { generation, runs }, manifest })
    };
    references.iter().filter_map(candidate).collect()
}

fn has_modules(store: &Store, generation: &Generation, release: &str) -> bool {
    let modules = format!("{}/kernel-modules/lib/modules/{release}", generation.system().toplevel);
    open(store, &modules, OFlag::O_PATH | OFlag::O_DIRECTORY).is_ok()
}

/// Opens a file of the client; links lead where they will lead once the client runs.
fn open(store: &Store, path: &str, flags: OFlag) -> io::Result<File> {
    let root = File::open(store.root())?;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(&root, path, how)?.into())
}

impl Fallback {
    /// Hands over to the generation, because of `failure`; does not return where another kernel has to be started.
    fn boot(
        &self,
        machine: &Machine,
        store: &Store,
        chosen: &Chosen,
        reporter: &Reporter,
        failure: &Failure,
    ) -> Result<String, Failure> {
        let sentence = why(failure, &self.generation.reference(), &chosen.generation);
        console::say(&format!("\nrookery: {sentence}\n"));
        if self.runs == Runs::ByKexec {
            return self.kexec(machine, store, chosen, || reporter.failed(&sentence));
        }
        store.set_profile(&self.generation)?;
        store.sync()?;
        note(machine, &sentence)?;
        machine.hand_over(&self.generation.system().init)?;
        Ok(sentence)
    }

    /// `report` is called when nothing is left to do but to start the other kernel.
    fn kexec(
        &self,
        machine: &Machine,
        store: &Store,
        chosen: &Chosen,
        report: impl FnOnce(),
    ) -> Result<String, Failure> {
        let entry = self.generation.system();
        let doing = |what: &str| format!("starting the kernel of generation {} ({what})", self.generation.reference());
        let failed =
            |what: &str, error: io::Error| Failure::new(Exit::Unavailable, format!("{}: {error}", doing(what)));
        if !machine.is_booting() {
            return Err(failed("kexec", io::Error::other("this is no booting machine, its kernel stays")));
        }
        let kernel = boot_file(store, &format!("{}/kernel", entry.toplevel), entry.kernel);
        let kernel = kernel.map_err(|error| failed("kernel", error))?;
        let initrd = boot_file(store, &format!("{}/initrd", entry.toplevel), entry.initrd);
        let initrd = initrd.map_err(|error| failed("initrd", error))?;
        let card = machine.card().map(|card| format!(" BOOTIF=01-{}", card.to_string().replace(':', "-")));
        let line = command_line(&self.generation, &chosen.generation, chosen.server, &card.unwrap_or_default());
        let line = line.map_err(|error| failed("command line", io::Error::other(error)))?;
        load_kernel(&kernel, &initrd, &line).map_err(|error| failed("kexec_file_load", error))?;
        store.sync()?;
        nix::unistd::sync();
        // What was kept for later would be lost with this kernel.
        report();
        let Err(error) = reboot::reboot(reboot::RebootMode::RB_KEXEC);
        Err(failed("kexec", error.into()))
    }
}

/// Who runs instead of whom, and who has to mend what.
fn why(failure: &Failure, name: &GenerationRef, chosen: &GenerationRef) -> String {
    match &failure.spoilt {
        None => format!("OFFLINE: {}; generation {name} of this disk runs instead of {chosen}", failure.sentence),
        Some(what) => format!(
            "FALLBACK: the server does not have all of generation {chosen} as it was published: {what}; run `rookery verify` \
             there and publish it again; generation {name} of this disk runs instead"
        ),
    }
}

/// What the menu would have put there, and which generation could not be had.
fn command_line(
    generation: &Generation,
    instead_of: &GenerationRef,
    server: SocketAddrV4,
    card: &str,
) -> Result<String, boot_model::TooLong> {
    let entry = generation.system();
    let line = CommandLine::new(&entry.init, &generation.reference(), server, &entry.kernel_parameters)?;
    Ok(format!("{} {}={instead_of}{card}", line.as_str(), CommandLine::OFFLINE))
}

/// The file that the signed description means.
fn boot_file(store: &Store, path: &str, digest: Sha256Digest) -> io::Result<File> {
    let mut file = open(store, path, OFlag::O_RDONLY)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    if Sha256Digest::new(hash.finalize().into()) != digest {
        return Err(io::Error::other(format!("{path} is not the file that was signed")));
    }
    Ok(file)
}

fn load_kernel(kernel: &File, initrd: &File, line: &str) -> io::Result<()> {
    let line = CString::new(line)?;
    // SAFETY: both descriptors are open for the whole call, and the length is that of the text with its NUL, as
    // kexec_file_load(2) wants it.
    #[allow(unsafe_code)]
    let outcome = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            line.as_bytes_with_nul().len(),
            line.as_ptr(),
            0,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the sentence for the report of the running system.
pub(super) fn note(machine: &Machine, sentence: &str) -> Result<(), Failure> {
    let file = machine.offline_note();
    fs::write(&file, sentence).map_err(|error| machine::failed("writing", &file, &error, "is /run writable?"))
}

#[cfg(test)]
mod tests {
    use boot_model::{
        Architecture, StorePath, Timestamp,
        generation::{Closure, Entry, FileDigest},
    };

    use super::*;

    #[test]
    fn the_command_line_of_the_other_kernel() {
        let digest = Sha256Digest::new([7; 32]);
        let toplevel: StorePath = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos".parse().unwrap();
        let entry = Entry {
            specialisation: None,
            label: "NixOS".parse().unwrap(),
            toplevel: toplevel.clone(),
            init: format!("{toplevel}/init").parse().unwrap(),
            kernel_parameters: vec!["loglevel=4".parse().unwrap()],
            kernel_version: None,
            kernel: digest,
            initrd: digest,
        };
        let file = FileDigest { sha256: digest, size: 1 };
        let generation = Generation::new(
            "lab/42-9f3k2xq1".parse().unwrap(),
            Timestamp::from_unix_millis(0),
            Architecture::X86_64,
            vec![entry],
            Closure { paths: 1, nar_size: 1, file_size: 1 },
            [("closure".to_owned(), file), (format!("boot/{digest}"), file)].into(),
        )
        .unwrap();
        let chosen = "lab/43-00000000".parse().unwrap();
        let server = "10.77.0.1:8080".parse().unwrap();
        assert_eq!(
            command_line(&generation, &chosen, server, " BOOTIF=01-52-54-00-77-00-0a").unwrap(),
            format!(
                "init={toplevel}/init rookery.server=10.77.0.1:8080 rookery.generation=lab/42-9f3k2xq1 loglevel=4 \
                 rookery.offline=lab/43-00000000 BOOTIF=01-52-54-00-77-00-0a"
            )
        );
    }
}
