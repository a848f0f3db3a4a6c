//! Drives a Nix that is bundled in the initrd: the other way to bring a closure, beside our own transfer.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use boot_model::StorePath;
use nix_format::signature::PublicKeys;

use super::{nix_log::NixLog, store::Store};
use crate::{Exit, Failure, console, machine::failed};

/// A Nix that is ready to bring paths into one store from one server.
pub(super) struct Nix<'a> {
    program: PathBuf,
    store: &'a Store,
    configuration: PathBuf,
    home: PathBuf,
}

/// Why an attempt did not succeed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    /// What Nix said of it.
    pub(super) cause: String,
}

/// What may be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// Try again later, until patience ends.
    Unreachable,
    /// The server says that others are served first.
    Busy,
    /// The server gives something else than was signed, or not all of it; perhaps only this time.
    Content,
    /// The server gives what no trusted key has signed.
    Signature,
    /// The database must be set aside first.
    Database,
    /// The disk is full.
    Space,
    /// Nix itself does not work.
    Program,
    /// Words that are not known: perhaps the server's fault, perhaps the client's disk or memory. Perhaps only this time.
    Unknown,
}

/// Asking the local database, or for the version.
const QUERY_PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(200);

impl<'a> Nix<'a> {
    /// Writes Nix's configuration. Keys come from the initrd only; the server's address may come from anybody.
    pub(super) fn prepare(
        program: &Path,
        store: &'a Store,
        run: &Path,
        server: SocketAddrV4,
        keys: &PublicKeys,
    ) -> Result<Self, Failure> {
        let (configuration, home) = (run.join("nix"), run.join("home"));
        let nix = Self { program: program.to_owned(), store, configuration, home };
        let version = nix.version()?;
        let write = || -> io::Result<()> {
            fs::create_dir_all(&nix.configuration)?;
            // A fresh home for each run: what Nix remembers of a cache's narinfos must not outlive what the server has.
            match fs::remove_dir_all(&nix.home) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir_all(&nix.home)?,
            }
            fs::write(nix.configuration.join("nix.conf"), settings(version, server, keys))
        };
        write().map_err(|error| failed("preparing Nix in", run, &error, "is /run writable?"))?;
        Ok(nix)
    }

    /// Makes the store's directories and its database, empty.
    pub(super) fn make_database(&self) -> Result<(), Failure> {
        let mut command = self.command();
        command.arg("--init");
        let state = self.store.state();
        output(command)
            .map(|_| ())
            .map_err(|error| failed("making the store's database in", &state, &error, "check the disk"))
    }

    /// Are all these paths and everything below them registered, and there? Asks only the local database and disk.
    pub(super) fn has_closures(&self, toplevels: &[StorePath]) -> bool {
        self.missing(toplevels).is_ok_and(|missing| missing.is_empty())
    }

    /// The paths that are registered as these or below them, and not there. It is an error if these are not registered.
    fn missing(&self, toplevels: &[StorePath]) -> io::Result<Vec<String>> {
        let mut command = self.command();
        command.args(["--query", "--requisites"]).args(toplevels.iter().map(StorePath::as_str));
        // A dangling link is a store path too.
        let is_missing = |path: &&str| self.store.below_root(path).symlink_metadata().is_err();
        Ok(output(command)?.lines().filter(is_missing).map(str::to_owned).collect())
    }

    /// One attempt to make these paths and everything below them valid, and there.
    pub(super) fn realise(
        &self,
        toplevels: &[StorePath],
        patience: Duration,
        progress: &mut NixLog<'_>,
    ) -> Result<(), Trouble> {
        let missing = || self.missing(toplevels).map_err(|error| self.broken(&error));
        self.bring("--realise", toplevels.iter().map(StorePath::as_str), patience, progress)?;
        let gone = missing()?;
        if gone.is_empty() {
            return Ok(());
        }
        // Nix believes its database, and realises nothing that stands there.
        self.bring("--repair-path", gone.iter().map(String::as_str), patience, progress)?;
        match missing()?.first() {
            Some(path) => {
                Err(Trouble { kind: TroubleKind::Database, cause: format!("{path} is registered and not there") })
            }
            None => Ok(()),
        }
    }

    /// Runs an operation that brings paths, to its end or until nothing goes forward any more.
    fn bring<'p>(
        &self,
        operation: &str,
        paths: impl Iterator<Item = &'p str>,
        patience: Duration,
        progress: &mut NixLog<'_>,
    ) -> Result<(), Trouble> {
        let broken = |error| self.broken(&error);
        let mut command = self.command();
        command.arg(operation).args(paths).args(["--log-format", "internal-json"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(broken)?;
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take();
        let reader = std::thread::spawn(move || {
            let lines = stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n'));
            // Ends with the process, or with the receiver.
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        let mut forward = Instant::now();
        progress.begin_attempt();
        loop {
            match lines.recv_timeout(TICK) {
                Ok(line) => {
                    if progress.line(&String::from_utf8_lossy(&line)) {
                        forward = Instant::now();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Whether or not Nix keeps talking: many stalled transfers say several times a second that they stand still.
            if forward.elapsed() > patience {
                child.kill().map_err(broken)?;
                child.wait().map_err(broken)?;
                let cause = format!("nothing arrived for {}", console::span(patience));
                return Err(Trouble { kind: TroubleKind::Unreachable, cause });
            }
            progress.tick();
        }
        let status = child.wait().map_err(broken)?;
        let _ = reader.join();
        if status.success() { Ok(()) } else { Err(Trouble::of(progress.messages(), &status.to_string())) }
    }

    fn broken(&self, error: &io::Error) -> Trouble {
        Trouble { kind: TroubleKind::Program, cause: format!("{}: {error}", self.program.display()) }
    }

    /// Major and minor version.
    fn version(&self) -> Result<(u32, u32), Failure> {
        let unusable = |cause: String| {
            let sentence = format!("{}: {cause}; put a working Nix into the initrd", self.program.display());
            Failure::new(Exit::Failure, sentence)
        };
        let mut command = self.command();
        // Even for this Nix opens the store, and the client's may be damaged.
        command.arg("--version").env("NIX_REMOTE", "dummy://");
        let text = output(command).map_err(|error| unusable(error.to_string()))?;
        parse_version(&text).ok_or_else(|| unusable(format!("its version {text:?} is not understood")))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("NIX_REMOTE", format!("local?root={}", self.store.root().display()))
            .env("NIX_CONF_DIR", &self.configuration)
            .env("NIX_USER_CONF_FILES", "")
            .env("HOME", &self.home)
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .env_remove("NIX_CONFIG")
            .env_remove("NIX_PATH");
        command
    }
}

impl Trouble {
    /// Nix tells everything in words only. The texts are those of 2.8 to 2.34.
    pub(super) fn of(messages: &[String], status: &str) -> Self {
        let said = |texts: &[&str]| messages.iter().rev().find(|m| texts.iter().any(|text| m.contains(text))).cloned();
        let unknown = || messages.last().cloned().unwrap_or_else(|| format!("Nix ended with {status}"));
        let table: [(TroubleKind, &[&str]); 7] = [
            (
                TroubleKind::Database,
                &[
                    "schema' is corrupt",
                    "database disk image is malformed",
                    "file is not a database",
                    "SQL logic error",
                ],
            ),
            (TroubleKind::Space, &["No space left on device", "database or disk is full"]),
            (
                TroubleKind::Signature,
                &["not signed by any of the keys", "lacks a signature by a trusted key", "lacks a valid signature"],
            ),
            (TroubleKind::Busy, &["HTTP error 503", "HTTP error 429"]),
            (TroubleKind::Unreachable, &["unable to download", "error: opening a connection"]),
            (
                TroubleKind::Content,
                &[
                    "hash mismatch",
                    "does not exist in binary cache",
                    "NAR ",
                    "compress",
                    "zstd",
                    "don't know how to build",
                ],
            ),
            (TroubleKind::Program, &["error while loading shared libraries", "home directory"]),
        ];
        let found = table.iter().find_map(|(kind, texts)| Some((*kind, said(texts)?)));
        let (kind, cause) = found.unwrap_or_else(|| (TroubleKind::Unknown, unknown()));
        Self { kind, cause }
    }

    pub(super) fn into_failure(self, patience: Duration) -> Failure {
        let (kind, failure) = (self.kind, self.failure(patience));
        if kind == TroubleKind::Content { failure.with_spoilt(self.cause) } else { failure }
    }

    fn failure(&self, patience: Duration) -> Failure {
        let cause = &self.cause;
        let (exit, sentence) = match self.kind {
            TroubleKind::Unreachable | TroubleKind::Busy => {
                let waited = console::span(patience);
                (
                    Exit::Unavailable,
                    format!("{cause}; nothing arrived for {waited}: check the server and the cable, then boot again"),
                )
            }
            TroubleKind::Content => {
                (Exit::Failure, format!("{cause}; run `rookery verify` on the server, then boot again"))
            }
            TroubleKind::Signature => (
                Exit::Refused,
                format!("{cause}; publish with the key that is in the initrd, or put the new key into it"),
            ),
            TroubleKind::Database => (Exit::Failure, format!("{cause}; the disk may be failing")),
            TroubleKind::Space => (
                Exit::Failure,
                format!("the client's disk is full ({cause}); make the store's partition larger in the layout spec"),
            ),
            TroubleKind::Unknown => (
                Exit::Failure,
                format!("{cause}; look at the client's disk and memory, and run `rookery verify` on the server"),
            ),
            TroubleKind::Program => (Exit::Failure, format!("{cause}; put a working Nix into the initrd")),
        };
        Failure::new(exit, sentence)
    }
}

/// The reasons stand in docs/boot-flow.md; what matters most: a path is registered only after its files are on the medium.
fn settings(version: (u32, u32), server: SocketAddrV4, keys: &PublicKeys) -> String {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    // The settings exist since 2.0 and 2.25; an unknown one would be warned about.
    let durable = if version >= (2, 25) { "fsync-store-paths" } else { "sync-before-registering" };
    let parallel = if version >= (2, 16) { "max-substitution-jobs = 16\n" } else { "" };
    format!(
        "substituters = http://{server}\n\
         trusted-public-keys = {}\n\
         require-sigs = true\n\
         {durable} = true\n\
         fsync-metadata = true\n\
         build-users-group =\n\
         max-jobs = 0\n\
         fallback = false\n\
         sandbox = false\n\
         connect-timeout = 5\n\
         stalled-download-timeout = 15\n\
         download-attempts = 5\n\
         narinfo-cache-negative-ttl = 0\n\
         {parallel}",
        keys.join(" "),
    )
}

/// `nix-store (Nix) 2.8.0`, with whatever a distribution puts behind it.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.lines().find(|line| line.contains("(Nix"))?.split_whitespace().last()?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What a short command prints, if it succeeds in time.
fn output(mut command: Command) -> io::Result<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || stdout.map(io::read_to_string).unwrap_or_else(|| Ok(String::new())));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if begun.elapsed() > QUERY_PATIENCE => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer"));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let text = reader.join().map_err(|_| io::Error::other("its output could not be read"))??;
    if status.success() { Ok(text) } else { Err(io::Error::other(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_several_distributions() {
        let table = [
            ("nix-store (Nix) 2.8.0\n", Some((2, 8))),
            ("nix-store (Nix) 2.26.3+1", Some((2, 26))),
            ("nix-store (Nix) 2.35pre20260101_abc", Some((2, 35))),
            ("nix-store (Lix, like Nix) 2.93.0", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }

    #[test]
    fn settings_fit_the_version() {
        let keys: PublicKeys = "lab-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=".parse().unwrap();
        let server = "10.77.0.1:8080".parse().unwrap();
        let old = settings((2, 8), server, &keys);
        assert!(old.contains("sync-before-registering = true\n") && !old.contains("fsync-store-paths"));
        assert!(!old.contains("max-substitution-jobs"));
        let new = settings((2, 26), server, &keys);
        assert!(new.contains("fsync-store-paths = true\n") && !new.contains("sync-before-registering"));
        assert!(new.contains("trusted-public-keys = lab-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n"));
    }

    #[test]
    fn trouble_is_recognised_by_what_nix_said() {
        let failed = "error: build of '/nix/store/x' failed";
        let table: [(&[&str], TroubleKind, &str); 7] = [
            (
                &[
                    "warning: unable to download 'http://s/nix-cache-info': Couldn't connect",
                    "don't know how to build these paths:",
                    failed,
                ],
                TroubleKind::Unreachable,
                "Couldn't connect",
            ),
            (&["error: hash mismatch importing path 'x'", failed], TroubleKind::Content, "hash mismatch"),
            (
                &["warning: the substitute for 'x' is not signed by any of the keys", failed],
                TroubleKind::Signature,
                "not signed",
            ),
            (&["error: '/m/nix/var/nix/db/schema' is corrupt"], TroubleKind::Database, "corrupt"),
            (&["error: writing to file: No space left on device", failed], TroubleKind::Space, "No space"),
            (&[failed], TroubleKind::Unknown, "build of"),
            (
                &["error: unable to download 'http://s/nar/x': HTTP error 503 ('')", failed],
                TroubleKind::Busy,
                "HTTP error 503",
            ),
        ];
        for (messages, kind, cause) in table {
            let messages: Vec<String> = messages.iter().map(ToString::to_string).collect();
            let trouble = Trouble::of(&messages, "exit status: 1");
            assert_eq!(trouble.kind, kind, "{messages:?}");
            assert!(trouble.cause.contains(cause), "{trouble:?}");
        }
    }
}
