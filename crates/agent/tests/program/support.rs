//! What the tests of the program need from outside: peers, and a client's surroundings.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// True if the programs are here. Else the test is skipped with the reason, or fails where `ROOKERY_REQUIRE_PEERS=1` says that
/// all peers are installed.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        // Nix opens its store even for this; it must not be this machine's.
        let asked = Command::new(program).arg("--version").env("NIX_REMOTE", "dummy://").output();
        asked.is_err()
    });
    missing.is_none_or(|missing| skip(&format!("{missing} is not installed")))
}

/// Says why a test does nothing. Always false.
pub(crate) fn skip(reason: &str) -> bool {
    assert_ne!(std::env::var("ROOKERY_REQUIRE_PEERS").as_deref(), Ok("1"), "{reason}, and ROOKERY_REQUIRE_PEERS=1");
    eprintln!("skipped: {reason}");
    false
}

/// Runs the agent to its end.
pub(crate) fn agent(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_rookery-agent")).args(arguments).stdin(Stdio::null()).output();
    output.expect("the agent was built for this test")
}

/// Everything that it said.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a peer that must succeed, and returns what it printed.
pub(crate) fn peer(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the peer was looked for before");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A client whose whole disk is a tmpfs of this size.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing can be mounted.
    pub(crate) fn mount(root: &Path, megabytes: u32) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(root)]).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("no file system can be mounted here");
            return None;
        }
        Some(Self(root.to_owned()))
    }

    /// Leaves this many bytes free.
    pub(crate) fn fill(&self, free: u64) {
        let mut filler = File::create(self.0.join("filler")).unwrap();
        let full = io::copy(&mut io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        filler.set_len(filler.metadata().unwrap().len() - free).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
