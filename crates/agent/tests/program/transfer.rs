//! What only our own transfer does: going on in mid-path, refusing hostile archives, coming back after being killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::{
    room::{Room, site_key, store_path},
    support::said,
};

#[test]
fn a_cut_path_goes_on_where_it_was_cut() {
    let room = Room::own();
    let published = room.publish(3);
    room.server.cut_answers(3);
    let said = room.fetched(&published);
    assert_eq!(room.server.resumed().len(), 3);
    assert!(said.contains("/nar/") && said.contains("; trying again in "), "{said}");
}

#[test]
fn a_busy_server_is_asked_again_later() {
    let room = Room::own();
    let published = room.publish(3);
    room.server.refuse_for_now(5);
    room.fetched(&published);
}

/// The person at the console reads why nothing comes.
#[test]
fn a_client_that_waits_for_its_turn_says_so() {
    let room = Room::own();
    let published = room.publish(3);
    room.server.queue_answers(1);
    let mut agent = Command::new(env!("CARGO_BIN_EXE_rookery-agent"));
    let mut agent = agent.args(room.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("waiting for its turn")));
    room.server.serve_the_queue();
    let after: Vec<String> = lines.collect();
    assert!(agent.wait().unwrap().success(), "{after:?}");
    room.complete(&published);
}

/// Strings as a NAR has them.
fn words(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// A directory with one entry of any name.
fn with_entry(name: &str) -> Vec<u8> {
    words(&[
        "nix-archive-1",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        name,
        "node",
        "(",
        "type",
        "regular",
        "contents",
        "escaped",
        ")",
        ")",
        ")",
    ])
}

/// A symbolic link to a directory, then an entry of the same name that would write through it.
fn through_link(outside: &str, second: &str) -> Vec<u8> {
    words(&[
        "nix-archive-1",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        "a",
        "node",
        "(",
        "type",
        "symlink",
        "target",
        outside,
        ")",
        ")",
        "entry",
        "(",
        "name",
        second,
        "node",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        "b",
        "node",
        "(",
        "type",
        "regular",
        "contents",
        "escaped",
        ")",
        ")",
        ")",
        ")",
        ")",
    ])
}

#[test]
fn hostile_archives_are_refused_and_nothing_is_written_outside() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let mut bomb = words(&["nix-archive-1"]);
    for _ in 0..1000 {
        bomb.extend(words(&["(", "type", "directory", "entry", "(", "name", "d", "node"]));
    }
    let mut oversized = words(&["nix-archive-1", "(", "type", "regular", "contents"]);
    oversized.extend(u64::MAX.to_le_bytes());
    let mut trailing = with_entry("a");
    trailing.extend([0; 8]);
    let absolute = format!("{target}/x");
    let archives = [
        ("..", with_entry("..")),
        (".", with_entry(".")),
        ("empty", with_entry("")),
        ("absolute", with_entry(&absolute)),
        ("slash", with_entry("a/../../x")),
        ("NUL", with_entry("a\0b")),
        ("long", with_entry(&"n".repeat(300))),
        ("link and the same name", through_link(target, "a")),
        ("unsorted", through_link(target, "A")),
        ("deep", bomb),
        ("oversized", oversized),
        ("trailing", trailing),
        ("cut", with_entry("a")[..100].to_vec()),
        ("none", Vec::new()),
    ];
    for (name, archive) in archives {
        let room = Room::own();
        let key = site_key();
        let info = room.pack(&store_path(1, "hostile"), &archive, Vec::new(), &key);
        let hostile = room.describe(3, BTreeMap::new(), vec![info], &key);
        room.choose(&hostile);
        let output = room.fetch(&[]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        assert!(said(&output).contains("rookery verify"), "{name}: {}", said(&output));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name}");
        let store = room.on_client("nix/store");
        let left: Vec<_> = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".rookery-staging"], "{name}");
        assert_eq!(fs::read_dir(store.join(".rookery-staging")).unwrap().count(), 0, "{name}");
        assert!(!room.on_client("nix/x").exists() && !room.path("x").exists(), "{name}");
    }
}

#[test]
fn a_pack_that_unpacks_to_more_than_was_signed_is_refused() {
    let room = Room::own();
    let published = room.publish(3);
    let info = published.largest();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let mut infos = published.infos.clone();
    for changed in infos.iter_mut().filter(|changed| changed.store_path == info.store_path) {
        changed.file_size = bomb.len() as u64;
    }
    fs::write(room.served_pack(info), bomb).unwrap();
    room.describe(3, BTreeMap::new(), infos, &site_key());
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}
