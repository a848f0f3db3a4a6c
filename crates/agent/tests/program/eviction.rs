//! Making room on a disk that has little, or none: it is made, and nothing is claimed of what goes from before it goes.

use std::{fs, path::Path};

use boot_model::StorePath;

use crate::{
    killed::{at_every_step, claims_hold, killed_at, watched},
    room::{Published, Room, site_key, store_path},
    support::{SmallDisk, have, said, text},
    tree::{Tree, noise},
};

/// What lies on the disk beside the generation that is wanted, and has to go.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// A generation, and not only paths of one.
    is_recorded: bool,
    /// There is no room for the records of what is done.
    is_full: bool,
}

const CASES: [Case; 4] = [
    Case { is_recorded: true, is_full: false },
    Case { is_recorded: true, is_full: true },
    Case { is_recorded: false, is_full: false },
    Case { is_recorded: false, is_full: true },
];

/// Two generations, of which the second one needs room that the first one has.
fn publish(room: &Room) -> [Published; 2] {
    [(1, 700_000), (2, 250_000)].map(|(number, bytes)| {
        let package =
            Tree::directory([("data", Tree::file(noise(number.into(), bytes))), ("link", Tree::link("data"))]);
        let toplevel = Tree::directory([("init", Tree::program("#!/bin/sh\n"))]);
        let trees = vec![(package_of(number), package), (store_path(number * 100, "nixos-system-test"), toplevel)];
        room.publish_trees(number, trees, &site_key())
    })
}

fn package_of(number: u32) -> StorePath {
    store_path(number * 100 + 2, "package")
}

/// A new disk, with the first generation on it and the second one chosen. `None` where nothing can be mounted.
fn short_of_room(room: &Room, [first, second]: &[Published; 2], case: Case) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(&room.path("root"), 1)?;
    room.choose(first);
    room.fetched(first);
    if !case.is_recorded {
        fs::remove_dir_all(room.held(first)).unwrap();
    }
    if case.is_full {
        disk.fill(0);
    }
    room.choose(second);
    Some(disk)
}

fn dropped(room: &Room) -> std::path::PathBuf {
    room.on_client("nix/var/rookery/dropped")
}

#[test]
fn a_disk_without_a_free_byte_gets_room() {
    let room = Room::own();
    let published = publish(&room);
    for case in CASES {
        let Some(_disk) = short_of_room(&room, &published, case) else { return };
        let [first, second] = &published;
        let told = room.fetched(second);
        assert!(told.contains("short of room"), "{case:?}: {told}");
        assert!(!room.held(first).exists() && dropped(&room).exists(), "{case:?}");
        assert!(first.trees.keys().all(|path| !room.on_client(path.as_str()).exists()), "{case:?}");
        let told = room.fetched(second);
        assert!(told.contains("nothing was fetched"), "{case:?}: {told}");
        let receipts = fs::read_to_string(room.received()).unwrap();
        assert!(!receipts.contains(package_of(1).base_name()), "{case:?}: {receipts}");
    }
}

/// The disk runs full at any byte of the two logs of receipts. Where there is room again, every line is one that can be read.
#[test]
fn a_line_that_found_no_room_is_no_part_of_the_next_one() {
    let room = Room::own();
    let [first, _] = publish(&room);
    // Their receipts take some pages.
    let parts = (0..60).map(|part| (store_path(3000 + part, "part"), Tree::file("x"))).collect();
    let second = room.publish_trees(2, parts, &site_key());
    for pages in 0..5 {
        let Some(disk) = SmallDisk::mount(&room.path("root"), 8) else { return };
        for published in [&first, &second] {
            room.choose(published);
            let output = room.fetch(&[]);
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        }
        [room.received(), room.roots()].iter().for_each(|log| fs::write(log, "").unwrap());
        disk.fill(pages * 4096);
        let output = room.fetch(&[]);
        assert_eq!(output.status.code(), Some(0), "{pages}: {}", said(&output));
        assert!(!room.held(&first).exists(), "{pages}: {}", said(&output));
        for (log, words) in [(room.received(), 3), (room.roots(), 6)] {
            let text = fs::read_to_string(log).unwrap();
            let is_one = |line: &str| line.split(' ').count() == words && line.find(' ') == Some(16);
            assert!(text.lines().all(is_one), "{pages}: {text}");
        }
        let output = room.fetch(&[]);
        assert!(said(&output).contains("nothing was fetched"), "{pages}: {}", said(&output));
    }
}

/// What a killed run leaves is what the kernel was told until then, in its order.
#[test]
fn killed_at_every_step_of_an_eviction() {
    if !have(&["strace"]) {
        return;
    }
    let room = Room::own();
    let published = publish(&room);
    let [first, second] = &published;
    if SmallDisk::mount(&room.path("root"), 1).is_none() {
        return;
    }
    // With both kinds of what goes, and both kinds of disks.
    for case in [CASES[0], CASES[3]] {
        at_every_step(|call, number| {
            let _disk = short_of_room(&room, &published, case).expect("it could be mounted");
            let killed = killed_at(&room, call, number);
            claims_hold(&room, first);
            claims_hold(&room, second);
            if !dropped(&room).exists() {
                room.complete_paths(first);
            }
            room.fetched(second);
            // Smaller things may be left, until room is short again.
            let large = room.on_client(package_of(1).as_str()).join("data");
            assert!(!large.exists(), "{case:?}, {call} {number}");
            killed
        });
    }
}

/// What a power cut leaves is what was synced. Each of these steps comes after the one before it, and all come before the first of the
/// files that go.
#[test]
fn what_goes_is_synced_before_the_first_file_goes() {
    if !have(&["strace"]) {
        return;
    }
    let room = Room::own();
    let published = publish(&room);
    for case in CASES {
        let Some(_disk) = short_of_room(&room, &published, case) else { return };
        let trace = room.path("trace");
        let status = watched(&room, &["-y", "-o", text(&trace)]).status().unwrap();
        assert!(status.success(), "{case:?}");
        let trace = fs::read_to_string(&trace).unwrap();
        let steps = steps(&room, &published[0], case);
        let mut lines = trace.lines();
        for step in &steps {
            assert!(lines.any(|line| step.iter().all(|part| line.contains(part))), "{case:?}: {step:?} in\n{trace}");
        }
        let files =
            [&package_of(1), &published[0].toplevel].map(|path| text(&room.on_client(path.as_str())).to_owned());
        let is_file = |line: &&str| line.contains("unlink") && files.iter().any(|file| line.contains(file));
        let (all, after) = (trace.lines().filter(is_file).count(), lines.filter(is_file).count());
        assert!(all == after && all > 4, "{case:?}: {all} {after} {trace}");
    }
}

/// Parts of the lines of strace that say each step.
fn steps(room: &Room, first: &Published, case: Case) -> Vec<[String; 2]> {
    let records = room.on_client("nix/var/rookery");
    let synced = |path: &Path| ["sync(".to_owned(), format!("<{}>", path.display())];
    let role = records.join("generations/lab");
    let record = [format!("\"{}\"", room.held(first).display()), "AT_REMOVEDIR".to_owned()];
    let mut steps = if case.is_recorded { vec![record, synced(&role)] } else { Vec::new() };
    steps.extend([records.join("dropped"), records.clone(), room.received()].each_ref().map(|path| synced(path)));
    steps
}
