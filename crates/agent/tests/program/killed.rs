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

/// Everything that changes a name or makes something durable. strace counts each thread's calls.
const STEPS: &str =
    "?mkdir,mkdirat,?rename,renameat,?renameat2,syncfs,fsync,fdatasync,?symlink,symlinkat,?unlink,unlinkat";

/// Runs a fetch that is killed at the start of some thread's call of that number. False if it came to its end.
fn killed_at(room: &Room, number: usize) -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={STEPS}")]);
    strace.args(["-e", &format!("inject={STEPS}:signal=SIGKILL:when={number}")]);
    strace.arg(env!("CARGO_BIN_EXE_rookery-agent")).args(room.arguments());
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success() || status.signal() == Some(9), "step {number}: {status}");
    !status.success()
}

/// What has a receipt is there, and what is recorded as complete is.
fn claims_hold(room: &Room, published: &Published) {
    let receipts = fs::read_to_string(room.received()).unwrap_or_default();
    for (path, tree) in &published.trees {
        if room.held(published).exists() || receipts.contains(path.base_name()) {
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
    let mut number = 1;
    while killed_at(&room, number) {
        claims_hold(&room, &published);
        room.fetched(&published);
        fs::remove_dir_all(room.path("root")).unwrap();
        fs::create_dir(room.path("root")).unwrap();
        number += 1;
    }
    room.complete(&published);
    // The records' directories, syncs of two batches with the receipts between, the profile, the generation's record.
    assert!(number > 10, "only {number} steps were tried");
}
