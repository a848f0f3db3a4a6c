//! A process that is out of descriptors, in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs::File;
use std::process::Command;

use generations::{Layout, Snapshot, scan};

/// A room of clients can use them all up; what is published has not changed by that.
#[test]
fn without_descriptors_nothing_is_taken_for_unpublished() {
    let this = std::env::current_exe().unwrap();
    let script = "ulimit -n 64 && exec \"$0\" --ignored --exact out_of_descriptors";
    let output = Command::new("sh").args(["-c", script]).arg(this).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the child of the test above"]
fn out_of_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    common::publish(&layout, 1, 'a');
    let before = scan(&layout, &Snapshot::default()).unwrap();
    let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // With one left the folder of all roles can be listed, and no role's; with two, no file can be read.
    for _ in 0..3 {
        let error = scan(&layout, &Snapshot::default()).unwrap_err().to_string();
        assert!(error.contains("Too many open files") && error.contains("generations"), "{error}");
        held.pop();
    }
    held.pop();
    assert_eq!(scan(&layout, &Snapshot::default()).unwrap(), before);
}
