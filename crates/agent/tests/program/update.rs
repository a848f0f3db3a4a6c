//! Update bundles: what a client makes of one, and what it does when one is of no use.

use std::{
    fs,
    process::{Command, Stdio},
    sync::OnceLock,
};

use boot_model::StorePath;
use nix_format::{
    bundle::{Base, Head, IndexWriter, Record, Source},
    renames::Renames,
};

use crate::{
    room::{Published, Room, site_key, store_path},
    support::said,
    tree::{Tree, noise},
};

const OLD: u32 = 102;
const NEW: u32 = 202;

fn package(number: u32) -> StorePath {
    store_path(number, "package")
}

fn toplevel(number: u32) -> StorePath {
    store_path(number - 2, "nixos-system-test")
}

/// Contents that name the path itself.
fn script(number: u32) -> String {
    format!("#!{}/bin/sh\n", package(number))
}

/// Some megabytes: more than is made in memory at once.
fn large(seed: u64) -> Vec<u8> {
    static MADE: [OnceLock<Vec<u8>>; 3] = [const { OnceLock::new() }; 3];
    MADE[seed as usize].get_or_init(|| noise(seed, 5_000_000)).clone()
}

/// A file that changes in one place.
fn library(number: u32) -> Vec<u8> {
    let mut bytes = large(0);
    bytes[1_000..1_008].copy_from_slice(&u64::from(number).to_le_bytes());
    bytes
}

/// A package and a toplevel; the second one is what the first becomes.
fn system(number: u32) -> Vec<(StorePath, Tree)> {
    let (script, library) = (Tree::program(script(number)), Tree::file(library(number)));
    let same = Tree::file(large(1));
    let tree = if number == OLD {
        Tree::directory([("library", library), ("same", same), ("script", script)])
    } else {
        Tree::directory([
            ("large", Tree::file(large(2))),
            ("library", library),
            ("link", Tree::link("library")),
            ("moved", same),
            ("script", script),
            ("small", Tree::file("new")),
        ])
    };
    let init = Tree::directory([("init", Tree::program(format!("{}/script", package(number))))]);
    vec![(package(number), tree), (toplevel(number), init)]
}

fn frame(contents: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(contents, 3).unwrap()
}

fn patch(base: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::with_ref_prefix(Vec::new(), 3, base).unwrap();
    encoder.window_log(24).unwrap();
    encoder.include_contentsize(true).unwrap();
    encoder.set_pledged_src_size(Some(contents.len() as u64)).unwrap();
    std::io::Write::write_all(&mut encoder, contents).unwrap();
    encoder.finish().unwrap()
}

/// The bundle from the first to the second, with these names of files in place of the right ones.
fn bundle(same: &str) -> Vec<u8> {
    let renames = [(package(OLD), package(NEW)), (toplevel(OLD), toplevel(NEW))];
    let renames = Renames::of_paths(renames.iter().map(|(old, new)| (old, new))).unwrap();
    let (large, small) = (large(2), b"new");
    let frames = [frame(&large), patch(&library(OLD), &library(NEW)), frame(small)];
    let sizes = frames.each_ref().map(|frame| frame.len() as u64);
    let file = |executable, source| Record::File { executable, source };
    let old = package(OLD);
    let records = [
        Record::Directory,
        Record::Entry(b"large"),
        file(false, Source::Data { size: large.len() as u64, frame: sizes[0] }),
        Record::Entry(b"library"),
        file(false, Source::Patch { base: Base::Same, size: library(NEW).len() as u64, frame: sizes[1] }),
        Record::Entry(b"link"),
        Record::Symlink(b"library"),
        Record::Entry(b"moved"),
        file(false, Source::Copy { base: Base::Other { path: &old, name: same.as_bytes() } }),
        Record::Entry(b"script"),
        file(true, Source::Copy { base: Base::Same }),
        Record::Entry(b"small"),
        file(false, Source::Data { size: small.len() as u64, frame: sizes[2] }),
        Record::EndOfDirectory,
    ];
    let init = [
        Record::Directory,
        Record::Entry(b"init"),
        file(true, Source::Copy { base: Base::Same }),
        Record::EndOfDirectory,
    ];
    let mut writer = IndexWriter::new(renames);
    writer.path(&package(NEW), Some(&package(OLD)), records).unwrap();
    writer.path(&toplevel(NEW), Some(&toplevel(OLD)), init).unwrap();
    let index = writer.finish().unwrap();
    let packed = frame(&index);
    [&Head::new(index.len(), packed.len()).unwrap().bytes()[..], &packed, &frames.concat()].concat()
}

/// The first generation is on the disk, the second is published with this bundle and chosen.
fn room(bundle: &[u8]) -> (Room, Published) {
    room_of([system(OLD), system(NEW)], bundle)
}

fn room_of([old, new]: [Vec<(StorePath, Tree)>; 2], bundle: &[u8]) -> (Room, Published) {
    let room = Room::own();
    let first = room.publish_trees(1, old, &site_key());
    room.choose(&first);
    room.fetched(&first);
    let second = room.publish_trees(2, new, &site_key());
    room.choose(&second);
    let folder = room.path("served/bundle/lab");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{}..{}", first.generation.id, second.generation.id)), bundle).unwrap();
    room.server.requests();
    (room, second)
}

/// Bases as large as they may be, for results that are small. Bytes of a base; files are cut from it.
fn large_base() -> Vec<u8> {
    let mut bytes = noise(3, 100_000);
    bytes.resize(48 << 20, 0);
    bytes
}

/// Several paths, each one file at the end of a path's name.
fn one_file_each(first: u32, content: &[u8]) -> Vec<(StorePath, Tree)> {
    (first..first + 4).map(|number| (package(number), Tree::directory([("file", Tree::file(content))]))).collect()
}

fn bundle_of_large_bases(old: &[(StorePath, Tree)], new: &[(StorePath, Tree)]) -> Vec<u8> {
    let pairs = || old.iter().zip(new).map(|((old, _), (new, _))| (old, new));
    let mut writer = IndexWriter::new(Renames::of_paths(pairs()).unwrap());
    let base = large_base();
    let patch = patch(&base, &base[..100_000]);
    let source = Source::Patch { base: Base::Same, size: 100_000, frame: patch.len() as u64 };
    for (old, new) in pairs() {
        let file = Record::File { executable: false, source };
        let records = [Record::Directory, Record::Entry(b"file"), file, Record::EndOfDirectory];
        writer.path(new, Some(old), records).unwrap();
    }
    let index = writer.finish().unwrap();
    let packed = frame(&index);
    [&Head::new(index.len(), packed.len()).unwrap().bytes()[..], &packed, &patch.repeat(new.len())].concat()
}

#[test]
fn large_bases_are_held_one_at_a_time() {
    let (old, new) = (one_file_each(300, &large_base()), one_file_each(400, &large_base()[..100_000]));
    let bundle = bundle_of_large_bases(&old, &new);
    let (room, second) = room_of([old, new], &bundle);
    let mut agent = Command::new("sh");
    // Less than two bases.
    agent.args(["-c", "ulimit -d 92000 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rookery-agent")]);
    let output = agent.args(room.arguments()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    room.complete(&second);
    assert_eq!(packs_asked_for(&room), [] as [String; 0], "{}", said(&output));
}

/// A bundle that holds as many paths as fit into its index, none of which anybody wants.
fn bundle_of_many_paths() -> Vec<u8> {
    let mut writer = IndexWriter::new(Renames::default());
    for number in 0..800_000 {
        writer.path(&store_path(number, "p"), None, [Record::Symlink(b"x")]).unwrap();
    }
    let index = writer.finish().unwrap();
    let packed = frame(&index);
    [&Head::new(index.len(), packed.len()).unwrap().bytes()[..], &packed].concat()
}

#[test]
fn an_index_of_more_paths_than_there_are_costs_no_memory() {
    let bundle = bundle_of_many_paths();
    let (room, second) = room(&bundle);
    let mut agent = Command::new("sh");
    // The index itself takes 32 MiB.
    agent.args(["-c", "ulimit -d 92000 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rookery-agent")]);
    let output = agent.args(room.arguments()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    room.complete(&second);
    let asked = room.server.requests();
    assert!(asked.iter().any(|path| path.starts_with("/bundle/")) && !said(&output).contains("built on"), "{asked:?}");
}

fn packs_asked_for(room: &Room) -> Vec<String> {
    room.server.requests().into_iter().filter(|path| path.starts_with("/nar/")).collect()
}

#[test]
fn an_update_is_built_on_what_is_there() {
    let (room, second) = room(&bundle("same"));
    let said = room.fetched(&second);
    assert_eq!(packs_asked_for(&room), [] as [String; 0], "{said}");
}

#[test]
fn a_bundle_goes_on_where_it_was_cut() {
    let (room, second) = room(&bundle("same"));
    room.server.cut_answers(5);
    room.fetched(&second);
    assert!(room.server.resumed().len() >= 5);
    assert_eq!(packs_asked_for(&room), [] as [String; 0]);
}

/// Head, index or frames: what comes out is right, or comes whole.
#[test]
fn a_spoilt_bundle_costs_bytes_only() {
    let good = bundle("same");
    let places = [0, 21, 60, good.len() / 2, good.len() - 3];
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let (room, second) = room(&bad);
        room.fetched(&second);
    }
    for length in [10, 24, good.len() - 1] {
        let (room, second) = room(&good[..length]);
        room.fetched(&second);
    }
}

#[test]
fn a_base_that_is_not_there_or_not_the_right_one_costs_that_path_only() {
    for base in ["nothing", "library", "library/x"] {
        let (room, second) = room(&bundle(base));
        room.fetched(&second);
        let whole = &second.infos.iter().find(|info| info.store_path == package(NEW)).unwrap().url;
        assert_eq!(packs_asked_for(&room), [format!("/{whole}")], "{base}");
    }
}

#[test]
fn no_bundle_leads_out_of_the_store() {
    let (room, second) = room(&bundle("same"));
    // The base has become a link to something else that would even be the right content.
    let base = room.on_client(package(OLD).as_str()).join("same");
    fs::write(room.path("elsewhere"), large(1)).unwrap();
    fs::remove_file(&base).unwrap();
    std::os::unix::fs::symlink(room.path("elsewhere"), &base).unwrap();
    room.fetched(&second);
    assert_eq!(packs_asked_for(&room).len(), 1);
}
