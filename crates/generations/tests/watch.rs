//! The watch sees what happens, whatever the file system says of it. Waits have a deadline that only a broken watch reaches.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use common::{publish, set_default};
use generations::{Layout, Snapshot, Watch, watch};

/// Far longer than any machine needs, far shorter than the minute after which a scan comes without any event.
const DEADLINE: Duration = Duration::from_secs(30);

fn start(layout: &Layout) -> (Arc<Snapshot>, Watch, Receiver<Arc<Snapshot>>) {
    let (sender, receiver) = mpsc::channel();
    let (first, watch) = watch(layout.clone(), move |s| sender.send(Arc::clone(s)).unwrap()).unwrap();
    (first, watch, receiver)
}

/// The first snapshot for which `holds`; those before it are states on the way there.
fn wait_until(changes: &Receiver<Arc<Snapshot>>, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    loop {
        let snapshot = changes.recv_timeout(DEADLINE).expect("the change must be seen");
        if holds(&snapshot) {
            return snapshot;
        }
    }
}

fn count(snapshot: &Snapshot) -> usize {
    snapshot.roles.values().map(|role| role.generations.len()).sum()
}

#[test]
fn a_directory_that_appears_later_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    let (first, _watch, changes) = start(&layout);
    assert_eq!(count(&first), 0);
    let one = publish(&layout, 1, 'a');
    wait_until(&changes, |s| count(s) == 1);
    publish(&layout, 2, 'b');
    wait_until(&changes, |s| count(s) == 2);
    set_default(&layout, &one);
    wait_until(&changes, |s| s.roles[&one.role].default_generation().unwrap().generation.id == one.id);
    fs::remove_dir_all(layout.generation(&one)).unwrap();
    wait_until(&changes, |s| count(s) == 1);
}

#[test]
fn a_directory_that_is_replaced_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    publish(&layout, 1, 'a');
    let (first, _watch, changes) = start(&layout);
    assert_eq!(count(&first), 1);
    fs::rename(layout.generations(), directory.path().join("old")).unwrap();
    wait_until(&changes, |s| count(s) == 0);
    publish(&layout, 5, 'b');
    wait_until(&changes, |s| count(s) == 1);
    publish(&layout, 6, 'c');
    wait_until(&changes, |s| count(s) == 2);
}

#[test]
fn more_events_than_the_queue_holds_end_in_the_right_state() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    publish(&layout, 1, 'a');
    let (_first, _watch, changes) = start(&layout);
    // fs.inotify.max_queued_events is 16384; a burst beyond it, in the watched folder, ends in an overflow event.
    let role = layout.role(&"lab".parse().unwrap());
    for n in 0..20_000 {
        let file = role.join(format!(".noise-{}", n % 7));
        fs::write(&file, b"").unwrap();
        fs::remove_file(&file).unwrap();
    }
    publish(&layout, 2, 'b');
    wait_until(&changes, |s| count(s) == 2);
}
