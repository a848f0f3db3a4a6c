//! A reader of `menus/current` finds a complete set, wherever the writer was stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use generations::Layout;
use menu_generator::{Stored, store};

type Files = BTreeMap<PathBuf, Arc<str>>;
type Leave = fn(&Path);

fn files(version: &str) -> Files {
    let names = ["10.0.0.1/pxelinux.cfg/default", "10.0.0.1/ipxe/default.ipxe", "10.0.0.2/ipxe/default.ipxe"];
    names.iter().enumerate().map(|(n, name)| (PathBuf::from(name), format!("{version} of {n}").into())).collect()
}

fn read(directory: &Path) -> Files {
    let mut found = Files::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => open.push(entry),
                false => {
                    let name = entry.strip_prefix(directory).unwrap().to_owned();
                    found.insert(name, fs::read_to_string(&entry).unwrap().into());
                }
            }
        }
    }
    found
}

fn sets(layout: &Layout) -> Vec<String> {
    let entries = fs::read_dir(layout.menus()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_set_is_swapped_as_a_whole_and_the_previous_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    for (version, left) in [
        ("a", vec!["current", "set-1"]),
        ("b", vec!["current", "set-1", "set-2"]),
        ("c", vec!["current", "set-2", "set-3"]),
    ] {
        let before = fs::canonicalize(layout.current_menus());
        assert!(matches!(store(&layout, &files(version)).unwrap(), Stored::New(_)));
        assert_eq!(read(&layout.current_menus()), files(version));
        assert_eq!(sets(&layout), left);
        // Whoever opened the set before still reads all of it.
        if let Ok(before) = before {
            assert_eq!(read(&before).len(), 3);
        }
    }
    assert_eq!(store(&layout, &files("c")).unwrap(), Stored::Unchanged);
}

#[test]
fn what_did_not_change_is_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    let inode = |name: &str| fs::metadata(layout.current_menus().join(name)).unwrap().ino();
    store(&layout, &files("a")).unwrap();
    let kept = inode("10.0.0.1/ipxe/default.ipxe");
    let mut second = files("a");
    second.insert("10.0.0.2/ipxe/default.ipxe".into(), "other".into());
    second.remove(Path::new("10.0.0.1/pxelinux.cfg/default"));
    store(&layout, &second).unwrap();
    assert_eq!(inode("10.0.0.1/ipxe/default.ipxe"), kept);
    assert_eq!(read(&layout.current_menus()), second);
}

#[test]
fn names_of_one_text_are_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    let shared: Arc<str> = "of a role".into();
    for text in [shared, "of the next generation".into()] {
        let files: Files = (0..300).map(|n| (format!("10.0.0.1/ipxe/{n}.ipxe").into(), Arc::clone(&text))).collect();
        store(&layout, &files).unwrap();
        assert_eq!(read(&layout.current_menus()), files);
        let inodes: BTreeSet<u64> =
            files.keys().map(|name| fs::metadata(layout.current_menus().join(name)).unwrap().ino()).collect();
        assert_eq!(inodes.len(), 1);
        assert_eq!(store(&layout, &files).unwrap(), Stored::Unchanged);
    }
}

/// Each state that a writer can leave behind when it dies, made by hand; readers see the old set, and the next writer goes on.
#[test]
fn stopped_anywhere_the_old_set_is_whole_and_the_next_writer_recovers() {
    let leave: [(&str, Leave); 4] = [
        ("a new set, empty", |menus| fs::create_dir(menus.join("set-2")).unwrap()),
        ("a new set, half written", |menus| {
            fs::create_dir_all(menus.join("set-2/10.0.0.1/ipxe")).unwrap();
            fs::write(menus.join("set-2/10.0.0.1/ipxe/default.ipxe"), "b o").unwrap();
        }),
        ("a link that was not renamed", |menus| {
            fs::create_dir(menus.join("set-2")).unwrap();
            symlink("set-2", menus.join(".current")).unwrap();
        }),
        ("old sets not swept", |menus| {
            fs::create_dir_all(menus.join("set-0/10.0.0.1")).unwrap();
            fs::create_dir_all(menus.join("set-7/10.0.0.1")).unwrap();
        }),
    ];
    for (what, leave) in leave {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        store(&layout, &files("a")).unwrap();
        leave(&layout.menus());
        assert_eq!(read(&layout.current_menus()), files("a"), "{what}");
        let Stored::New(name) = store(&layout, &files("b")).unwrap() else { panic!("{what}: unchanged") };
        assert_eq!(read(&layout.current_menus()), files("b"), "{what}");
        let mut left = vec!["current".to_owned(), "set-1".to_owned(), name];
        left.sort();
        assert_eq!(sets(&layout), left, "{what}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_the_old_set_stays() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    store(&layout, &files("a")).unwrap();
    let blocked = BTreeMap::from([("x".into(), "".into()), ("x/y".into(), "".into())]);
    let error = store(&layout, &blocked).unwrap_err().to_string();
    assert!(error.starts_with("cannot write menus (making ") && error.contains("set-2/x"), "{error}");
    assert_eq!(read(&layout.current_menus()), files("a"));
}
