//! What readers see of a directory that is right, half right or damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::sync::Arc;

use boot_model::{Architecture, RoleName};
use common::{KERNEL, digest, publish, set_default};
use generations::{Layout, Snapshot, scan};
use tempfile::TempDir;

fn site() -> (TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    (directory, layout)
}

fn lab() -> RoleName {
    "lab".parse().unwrap()
}

fn ids(snapshot: &Snapshot) -> Vec<String> {
    snapshot.roles[&lab()].generations.iter().map(|p| p.generation.id.to_string()).collect()
}

#[test]
fn a_directory_that_does_not_exist_yet_is_empty() {
    let (_keep, layout) = site();
    assert_eq!(scan(&layout, &Snapshot::default()).unwrap(), Snapshot::default());
}

#[test]
fn numbers_order_and_default_is_another_thing() {
    let (_keep, layout) = site();
    let nine = publish(&layout, 9, 'z');
    publish(&layout, 10, '0');
    let snapshot = scan(&layout, &Snapshot::default()).unwrap();
    assert_eq!(ids(&snapshot), ["10-00000000", "9-zzzzzzzz"]);
    let default = |s: &Snapshot| s.roles[&lab()].default_generation().unwrap().generation.reference();
    assert_eq!(default(&snapshot).id.number(), 10, "without a link the newest is the default");

    set_default(&layout, &nine);
    let snapshot = scan(&layout, &snapshot).unwrap();
    assert_eq!(ids(&snapshot), ["10-00000000", "9-zzzzzzzz"]);
    assert_eq!(default(&snapshot), nine);
    assert!(snapshot.servable(&lab(), Architecture::X86_64));
    assert!(!snapshot.servable(&lab(), Architecture::Aarch64));
}

#[test]
fn what_is_staged_is_not_seen() {
    let (_keep, layout) = site();
    publish(&layout, 1, 'a');
    fs::create_dir(layout.role(&lab()).join(".staging-2-bbbbbbbb")).unwrap();
    fs::write(layout.publisher_lock(), "").unwrap();
    fs::write(layout.source(&lab()), "manual\n").unwrap();
    let snapshot = scan(&layout, &Snapshot::default()).unwrap();
    assert_eq!((ids(&snapshot).len(), snapshot.problems), (1, vec![]));
}

#[test]
fn a_bad_entry_is_left_out_with_its_reason_and_the_others_stay() {
    type Damage = fn(&Layout, &std::path::Path);
    let damages: [(&str, Damage, &str); 6] = [
        (
            "a byte of the kernel",
            |_, d| fs::write(d.join(format!("boot/{}", digest(KERNEL))), b"A kernel").unwrap(),
            "does not have the digest",
        ),
        ("a short manifest", |_, d| fs::write(d.join("closure"), b"").unwrap(), "has 0 bytes"),
        ("no signature", |_, d| fs::remove_file(d.join("generation.json.sig")).unwrap(), "generation.json.sig"),
        ("no JSON", |_, d| fs::write(d.join("generation.json"), b"{").unwrap(), "not a generation.json"),
        (
            "another's name",
            |l, d| fs::rename(d, l.role(&lab()).join("7-cccccccc")).unwrap(),
            "moved or renamed by hand",
        ),
        ("no name", |l, d| fs::rename(d, l.role(&lab()).join("copy of 2")).unwrap(), "neither a generation"),
    ];
    for (what, damage, reason) in damages {
        let (_keep, layout) = site();
        publish(&layout, 1, 'a');
        let second = publish(&layout, 2, 'b');
        damage(&layout, &layout.generation(&second));
        let snapshot = scan(&layout, &Snapshot::default()).unwrap();
        assert_eq!(ids(&snapshot), ["1-aaaaaaaa"], "{what}");
        assert_eq!(snapshot.problems.len(), 1, "{what}");
        assert!(snapshot.problems[0].reason.contains(reason), "{what}: {}", snapshot.problems[0].reason);
        assert_eq!(snapshot.new_problems(&snapshot).count(), 0, "a problem is new once");
    }
}

#[test]
fn a_generation_is_read_once_and_again_when_it_was_replaced() {
    let (_keep, layout) = site();
    let reference = publish(&layout, 1, 'a');
    let first = scan(&layout, &Snapshot::default()).unwrap();
    let second = scan(&layout, &first).unwrap();
    assert!(Arc::ptr_eq(&first.roles[&lab()].generations[0], &second.roles[&lab()].generations[0]));

    fs::remove_dir_all(layout.generation(&reference)).unwrap();
    publish(&layout, 1, 'a');
    let third = scan(&layout, &second).unwrap();
    assert!(!Arc::ptr_eq(&second.roles[&lab()].generations[0], &third.roles[&lab()].generations[0]));
}

#[test]
fn a_number_used_again_is_another_generation() {
    let (_keep, layout) = site();
    let old = publish(&layout, 1, 'a');
    let before = scan(&layout, &Snapshot::default()).unwrap();
    fs::remove_dir_all(layout.generation(&old)).unwrap();
    let new = publish(&layout, 1, 'b');
    let after = scan(&layout, &before).unwrap();
    assert!(after.find(&old).is_none());
    assert!(after.find(&new).is_some());
}
