//! What the tests of the program need from outside: peers, and a client's surroundings.

use std::{
    path::Path,
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
