//! Killed at every step of a fetch, the next one makes the generation complete, and nothing is believed that is not so.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use crate::{
    room::{Published, Room},
    support::have,
    tree::Tree,
};

/// Everything that changes a name or makes something durable.
const STEPS: &str =
    "?mkdir,mkdirat,?rename,renameat,?renameat2,syncfs,fsync,fdatasync,?symlink,symlinkat,?unlink,unlinkat";

/// A fetch that strace watches at these steps; other options may follow.
pub(crate) fn watched(room: &Room, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={STEPS}")]).args(options);
    strace.arg(env!("CARGO_BIN_EXE_rookery-agent")).args(room.arguments());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    strace
}

/// Calls `killed` for the first call of each kind, the second one and so on, for as long as it returns true.
pub(crate) fn at_every_step(mut killed: impl FnMut(&str, usize) -> bool) {
    let mut tried = 0;
    for call in STEPS.split(',') {
        tried += (1..).take_while(|number| killed(call, *number)).count();
    }
    assert!(tried > 20, "only {tried} steps were tried");
}

/// Runs a fetch that is killed at the start of some thread's call of that kind and number: strace counts each thread's calls, and those of
/// each kind by themselves. False if it came to its end.
pub(crate) fn killed_at(room: &Room, call: &str, number: usize) -> bool {
    let inject = format!("inject={call}:signal=SIGKILL:when={number}");
    let status = watched(room, &["-o", "/dev/null", "-e", &inject]).status().unwrap();
    assert!(status.success() || status.signal() == Some(9), "{call} {number}: {status}");
    !status.success()
}

/// What has a receipt is there, and what is recorded as complete is.
pub(crate) fn claims_hold(room: &Room, published: &Published) {
    let receipts = fs::read_to_string(room.received()).unwrap_or_default();
    // Others were struck out.
    let receipts: Vec<&str> = receipts.lines().filter(|line| !line.starts_with('-')).collect();
    for (path, tree) in &published.trees {
        if room.held(published).exists() || receipts.iter().any(|line| line.contains(path.base_name())) {
            assert!(Tree::read(&room.on_client(path.as_str())) == *tree, "{path}");
        }
    }
}

#[test]
fn killed_at_every_step() {
    if !have(&["strace"]) {
        return;
    }
    let room = Room::own();
    let published = room.publish(3);
    at_every_step(|call, number| {
        let killed = killed_at(&room, call, number);
        claims_hold(&room, &published);
        if killed {
            room.fetched(&published);
        }
        room.complete(&published);
        fs::remove_dir_all(room.path("root")).unwrap();
        fs::create_dir(room.path("root")).unwrap();
        killed
    });
}
