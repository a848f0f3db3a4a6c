//! The contract's first rule: killed at any point, readers see the last good state, and the next run carries on.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use boot_model::{GenerationId, GenerationRef, StorePath, Timestamp};
use generations::{Layout, Snapshot, scan};
use nix::sys::signal::{Signal, raise};
use nix_format::narinfo::NarInfo;
use nix_format::signature::{PublicKeys, SecretKey};
use publish::{
    Bundler, Collection, Collector, DEFAULT_LEVEL, Event, Publisher, Request, Roles, Store, all_generations,
    default_of, verify,
};
use support::{TestStore, store_path};

const NEVER: usize = usize::MAX;

/// Publishes in a process of its own, which kills itself at one of the moments that the publisher reports.
fn publish(test: &TestStore, toplevel: &StorePath, moment: usize) -> ExitStatus {
    run(test, "publish", toplevel, moment)
}

fn run(test: &TestStore, verb: &str, object: &dyn Display, moment: usize) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--ignored", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let job = format!("{verb} {} {} {object} {moment}", test.state().display(), test.root().display());
    child.stdin.take().unwrap().write_all(job.as_bytes()).unwrap();
    child.wait().unwrap()
}

#[test]
#[ignore = "the process that the other tests start; its job comes on standard input"]
fn victim() {
    let job = io::read_to_string(io::stdin()).unwrap();
    let [verb, state, root, object, moment] = job.split(' ').collect::<Vec<_>>()[..] else { panic!("no job: {job:?}") };
    let (layout, store, moment) = (Layout::new(state), Store::at(root), moment.parse::<usize>().unwrap());
    let passed = AtomicUsize::new(0);
    let report = |event: Event<'_>| {
        let counts = !matches!(event, Event::Waiting | Event::Packing { .. });
        if counts && passed.fetch_add(1, Ordering::SeqCst) == moment {
            raise(Signal::SIGKILL).unwrap();
        }
    };
    let roles = Roles { layout: &layout, report: &report };
    match verb {
        "remove" => return roles.remove(&object.parse().unwrap()).unwrap(),
        "bundle" => {
            let stop = AtomicBool::new(false);
            let made = Bundler { layout: &layout, report: &report, stop: &stop }.make_missing(&"lab".parse().unwrap());
            made.unwrap().into_iter().for_each(|made| drop(made.unwrap()));
            return;
        }
        "gc" => {
            let collection = Collection { grace: Duration::ZERO, now: Timestamp::from_unix_millis(0), dry_run: false };
            Collector { layout: &layout, report: &report }.collect(&collection).unwrap();
            return;
        }
        "default" => return roles.set_default(&object.parse().unwrap()).unwrap(),
        _ => {}
    }
    let keys = [key()];
    let publisher = Publisher { layout: &layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &report };
    let date = Timestamp::from_unix_millis(0);
    let toplevel = object.parse().unwrap();
    publisher.publish(&Request { role: "lab".parse().unwrap(), toplevel, number: None, date }).unwrap();
}

fn key() -> SecretKey {
    SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])
}

/// What readers see: numbers, highest first, and the default's. Every byte of it is right.
fn seen(layout: &Layout) -> (Vec<u32>, u32) {
    let snapshot = scan(layout, &Snapshot::default()).unwrap();
    assert_eq!(snapshot.problems, []);
    let role = &snapshot.roles[&"lab".parse().unwrap()];
    let numbers = role.generations.iter().map(|p| p.generation.id.number()).collect();
    let keys = PublicKeys::new(vec![key().public_key()]);
    let findings = verify(layout, &all_generations(layout, None).unwrap(), &keys, |_| {});
    assert_eq!(findings, []);
    (numbers, role.default_generation().unwrap().generation.id.number())
}

fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".staging-") {
            found.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(leftovers(&entry.path()));
        }
    }
    found
}

#[test]
fn killed_at_every_moment() {
    let mut moments = 0;
    loop {
        let test = TestStore::new();
        let layout = Layout::new(test.state());
        let (one, two) = (test.system("one"), test.system("two"));
        assert!(publish(&test, &one, NEVER).success());
        assert_eq!(seen(&layout), (vec![1], 1));

        let status = publish(&test, &two, moments);
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(9), "moment {moments}");
        let after = seen(&layout);
        let last_good = [(vec![1], 1), (vec![2, 1], 1), (vec![2, 1], 2)];
        assert!(last_good.contains(&after), "moment {moments}: {after:?}");

        assert!(publish(&test, &two, NEVER).success(), "moment {moments}");
        assert_eq!(seen(&layout), (vec![2, 1], 2), "moment {moments}");
        assert_eq!(leftovers(&test.state()), [] as [PathBuf; 0], "moment {moments}");
        moments += 1;
    }
    // Two packs and their narinfos, the cache, the source, boot files, manifest, description, name, default.
    assert!(moments >= 11, "only {moments} moments were tried");
}

/// Two generations, the second one the default.
fn two_published() -> (TestStore, Layout, [GenerationRef; 2]) {
    published(["one", "two"])
}

fn published(names: [&str; 2]) -> (TestStore, Layout, [GenerationRef; 2]) {
    let test = TestStore::new();
    let layout = Layout::new(test.state());
    let generations = [(1, names[0]), (2, names[1])].map(|(number, name)| {
        let toplevel = test.system(name);
        assert!(publish(&test, &toplevel, NEVER).success());
        GenerationRef { role: "lab".parse().unwrap(), id: GenerationId::new(number, &toplevel) }
    });
    (test, layout, generations)
}

#[test]
fn removal_killed_at_every_moment() {
    for moment in 0.. {
        let (test, layout, [one, two]) = two_published();
        let status = run(&test, "remove", &one, moment);
        if status.success() {
            assert_eq!(moment, 2, "out of sight, then gone");
            break;
        }
        assert_eq!(status.signal(), Some(9), "moment {moment}");
        assert_eq!(seen(&layout), (vec![2], 2), "moment {moment}");

        // The last one takes the role along, and whatever was left with it.
        assert_eq!(run(&test, "remove", &two, moment).signal(), Some(9), "moment {moment}");
        assert!(scan(&layout, &Snapshot::default()).unwrap().roles.is_empty(), "moment {moment}");
        assert!(publish(&test, &test.system("three"), NEVER).success());
        assert_eq!(seen(&layout), (vec![1], 1), "moment {moment}");
        assert_eq!(leftovers(&test.state()), [] as [PathBuf; 0], "moment {moment}");
    }
}

#[test]
fn a_default_that_moved_stays_where_it_is() {
    let (test, layout, [one, two]) = two_published();
    assert_eq!(run(&test, "default", &one, 0).signal(), Some(9));
    assert_eq!(seen(&layout), (vec![2, 1], 1));
    // Killed before the rename: what it had begun is in nobody's way.
    std::os::unix::fs::symlink("half", layout.role(&two.role).join(".staging-link")).unwrap();
    assert!(run(&test, "default", &two, NEVER).success());
    assert_eq!(default_of(&layout, &two.role), Some(two.id));
    assert_eq!(leftovers(&test.state()), [] as [PathBuf; 0]);
}

/// What a stock Nix client finds: each narinfo with its pack.
fn assert_no_narinfo_without_its_pack(layout: &Layout, moment: usize) {
    for entry in fs::read_dir(layout.cache()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "narinfo") {
            let info: NarInfo = fs::read_to_string(entry.path()).unwrap().parse().unwrap();
            assert!(layout.cache().join(&info.url).exists(), "moment {moment}: {}", info.store_path);
        }
    }
}

#[test]
fn collection_killed_at_every_moment() {
    let mut moments = 0;
    loop {
        let (test, layout, [one, two]) = two_published();
        assert!(run(&test, "remove", &one, NEVER).success());
        fs::write(layout.cache().join("nar/.staging-0"), "half a pack").unwrap();
        let status = run(&test, "gc", &"-", moments);
        assert_no_narinfo_without_its_pack(&layout, moments);
        assert_eq!(seen(&layout), (vec![2], 2), "moment {moments}");
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(9), "moment {moments}");

        // Published again at once: what was shared is reused, what is gone is packed.
        assert!(publish(&test, &store_path("nixos-system-one"), NEVER).success(), "moment {moments}");
        assert_eq!(seen(&layout), (vec![3, 2], 3), "moment {moments}");
        assert!(run(&test, "remove", &two, NEVER).success());
        assert!(run(&test, "gc", &"-", NEVER).success());
        assert_eq!(seen(&layout), (vec![3], 3), "moment {moments}");
        assert_eq!(
            fs::read_dir(layout.cache().join("nar")).unwrap().count(),
            4,
            "moment {moments}: four paths, four packs"
        );
        assert_eq!(fs::read_dir(layout.removed()).unwrap().count(), 0, "moment {moments}");
        moments += 1;
    }
    // The leftover; narinfo and listing of two paths; their packs; what was left of the generation.
    assert_eq!(moments, 8);
}

#[test]
fn bundles_killed_at_every_moment() {
    // By their names the toplevels take after each other, and the libraries.
    let (test, layout, [one, two]) = published(["lab-1", "lab-2"]);
    let bundle = layout.bundle(&two.role, one.id, two.id);
    let mut moments = 0;
    while !run(&test, "bundle", &"-", moments).success() {
        assert_eq!(seen(&layout), (vec![2, 1], 2), "moment {moments}");
        moments += 1;
        // The last moment is after it got its name.
        if let Ok(whole) = fs::read(&bundle) {
            assert!(whole.starts_with(b"rookery-bundle-1"));
            fs::remove_file(&bundle).unwrap();
        }
    }
    // It begins; two paths are made, then tried; it has its name.
    assert_eq!(moments, 6);
    assert!(bundle.exists());
    assert_eq!(leftovers(&test.state()), [] as [PathBuf; 0]);
}
