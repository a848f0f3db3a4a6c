//! `fetch`, by our own transfer and by a real Nix: the same cases for both.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use boot_model::report::Status;
use nix_format::signature::SecretKey;

use crate::{
    room::{Published, Room, Way, both_ways, nix, site_key, store_path},
    support::{peer, said, text},
};

both_ways! {
    an_empty_client_gets_everything_and_the_next_boot_asks_for_nothing
    an_update_brings_only_what_is_new
    a_system_that_no_signed_generation_lists_is_refused_before_anything_is_written
    a_cache_that_another_key_has_signed_is_refused
    a_flipped_byte_is_refused_and_repaired_when_the_server_is
    a_pack_that_is_not_there_is_a_mistake_of_the_server
    a_manifest_that_is_not_there_is_a_mistake_of_the_server
    a_server_that_stumbles_is_waited_for
    a_server_that_never_comes_is_given_up_with_its_own_exit_code
    a_path_that_is_gone_is_brought_again
    what_lies_in_a_paths_place_gives_way
    receipts_that_cannot_be_believed_are_made_again
    what_the_server_has_spoilt_is_named_and_an_older_generation_runs
    what_nobody_trusted_has_signed_is_no_reason_to_run_an_older_generation
}

fn an_empty_client_gets_everything_and_the_next_boot_asks_for_nothing(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let reports = room.server.reports();
    assert_eq!(reports.first().map(|report| report.status), Some(Status::Started));
    assert_eq!(reports.last().map(|report| report.status), Some(Status::Ok), "{reports:?}");
    assert!(reports.iter().all(|report| report.generation.as_ref() == Some(&published.generation)));
    assert!(room.server.requests().iter().any(|path| path.starts_with("/nar/")));

    let profiles = room.on_client("nix/var/nix/profiles");
    assert_eq!(fs::read_link(profiles.join("system")).unwrap(), PathBuf::from("system-3-link"));
    let roots = room.on_client("nix/var/nix/gcroots/profiles");
    assert_eq!(fs::read_link(roots).unwrap(), PathBuf::from("/nix/var/nix/profiles"), "as the client will see it");

    room.fetched(&published);
    let description = format!("/generations/{}/generation.json", published.generation);
    assert_eq!(room.server.requests(), [description]);

    // The server is away: what is complete is booted all the same.
    room.server.close_connections(usize::MAX);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

fn an_update_brings_only_what_is_new(room: &Room) {
    let first = room.publish(1);
    room.fetched(&first);
    let second = room.publish(2);
    room.server.requests();
    room.fetched(&second);
    room.complete(&second);
    let asked = room.server.requests();
    for shared in first.infos.iter().filter(|info| second.trees.contains_key(&info.store_path)) {
        assert!(!asked.iter().any(|path| path.contains(&shared.url)), "{}", shared.store_path);
    }
}

fn a_system_that_no_signed_generation_lists_is_refused_before_anything_is_written(room: &Room) {
    let published = room.publish(3);
    let refused = |cause: &str| {
        let output = room.fetch(&[]);
        assert_eq!(output.status.code(), Some(77), "{}", said(&output));
        assert!(said(&output).contains(cause), "{}", said(&output));
        assert_eq!(fs::read_dir(room.path("root")).unwrap().count(), 0, "nothing may be written");
    };
    room.choose_init(&published, &format!("{}/init", store_path(11, "library")));
    refused("has no entry that starts");
    room.publish_signed(3, &other_key());
    refused("not signed by a key of this initrd");
}

fn a_cache_that_another_key_has_signed_is_refused(room: &Room) {
    // The description is signed by the right key, the paths are not.
    let published = room.publish_signed(3, &other_key());
    let published = room.describe(3, published.trees, published.infos, &site_key());
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("not signed"), "{}", said(&output));
    assert!(!room.held(&published).exists());
    assert!(published.trees.keys().all(|path| !room.on_client(path.as_str()).exists()));
}

fn a_flipped_byte_is_refused_and_repaired_when_the_server_is(room: &Room) {
    let published = room.publish(3);
    let pack = room.served_pack(published.largest());
    let good = fs::read(&pack).unwrap();
    for at in [3, 500_000, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&pack, bad).unwrap();
        let output = room.fetch(&[]);
        assert_eq!(output.status.code(), Some(1), "byte {at}: {}", said(&output));
        assert!(said(&output).contains("rookery verify"), "{}", said(&output));
        assert!(!room.held(&published).exists());
    }
    fs::write(&pack, good).unwrap();
    room.fetched(&published);
}

fn a_pack_that_is_not_there_is_a_mistake_of_the_server(room: &Room) {
    let published = room.publish(3);
    let pack = room.served_pack(published.largest());
    let good = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("rookery verify"), "{}", said(&output));
    fs::write(&pack, good).unwrap();
    room.fetched(&published);
}

fn a_server_that_stumbles_is_waited_for(room: &Room) {
    let published = room.publish(3);
    room.server.close_connections(4);
    room.server.cut_answers(3);
    room.fetched(&published);
    // The reports that could not be sent at first were sent later, in order. Progress is sent once or not at all.
    let steps =
        room.server.reports().into_iter().map(|report| report.status).filter(|status| *status != Status::Progress);
    assert_eq!(steps.collect::<Vec<_>>(), [Status::Started, Status::Ok]);
}

fn a_server_that_never_comes_is_given_up_with_its_own_exit_code(room: &Room) {
    room.publish(3);
    room.server.close_connections(usize::MAX);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("check the server and the cable"), "{}", said(&output));
}

fn a_path_that_is_gone_is_brought_again(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let path = room.on_client(published.infos[0].store_path.as_str());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(&path).unwrap();
    room.fetched(&published);
}

fn what_lies_in_a_paths_place_gives_way(room: &Room) {
    let published = room.publish(3);
    let [library, other, ..] = &published.infos[..] else { panic!() };
    let library = room.on_client(library.store_path.as_str());
    fs::create_dir_all(library.join("data")).unwrap();
    fs::write(library.join("data/half"), "of something").unwrap();
    std::os::unix::fs::symlink("/etc", room.on_client(other.store_path.as_str())).unwrap();
    room.fetched(&published);
}

fn receipts_that_cannot_be_believed_are_made_again(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let good = fs::read(room.received()).unwrap();
    let (half, mut changed) = (good[..good.len() / 2].to_vec(), good.clone());
    changed[good.len() / 3] ^= 1;
    for bad in [Vec::new(), half, changed, b"\xff\0\n\n".to_vec()] {
        fs::write(room.received(), &bad).unwrap();
        room.fetched(&published);
    }
}

fn served_manifest(room: &Room, published: &Published) -> PathBuf {
    room.path("served/generations").join(published.generation.to_string()).join("closure")
}

fn a_manifest_that_is_not_there_is_a_mistake_of_the_server(room: &Room) {
    let published = room.publish(3);
    let manifest = served_manifest(room, &published);
    let good = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let sentence = "closure: the server answered 404; run `rookery verify` on the server, then boot again";
    assert!(said(&output).contains(sentence) && !said(&output).contains("FALLBACK"), "{}", said(&output));
    fs::write(&manifest, good).unwrap();
    room.fetched(&published);
}

/// The manifest, then a pack: each is missing, then damaged.
fn what_the_server_has_spoilt_is_named_and_an_older_generation_runs(room: &Room) {
    let second = room.publish(2);
    let manifest = served_manifest(room, &second);
    let package = second.infos.iter().find(|info| info.store_path.name() == "package").unwrap();
    let first = room.publish(1);
    room.fetched(&first);
    room.choose(&second);
    let packed = room.served_pack(package);
    let pack = packed.file_name().unwrap().to_str().unwrap().to_owned();
    // Of a pack that is damaged Nix says how, and not always which.
    let is_nix = room.arguments().contains(&"nix".to_owned());
    let path = if is_nix { "error:" } else { package.store_path.base_name() };
    for (file, names) in [(manifest, ["closure", "closure"]), (packed, [pack.as_str(), path])] {
        let good = fs::read(&file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for (bad, named) in [None, Some(flipped)].into_iter().zip(names) {
            match bad {
                None => fs::remove_file(&file).unwrap(),
                Some(bad) => fs::write(&file, bad).unwrap(),
            }
            fs::remove_file(room.path("run/init")).unwrap();
            room.server.reports();
            let output = room.fetch(&[]);
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            let line = said(&output).lines().find(|line| line.contains("FALLBACK")).map(str::to_owned).unwrap();
            let first_name = first.generation.to_string();
            for part in [named, "rookery verify", "publish it again", &first_name] {
                assert!(line.contains(part), "{part}: {line}");
            }
            assert!(!said(&output).contains("OFFLINE"), "{}", said(&output));
            let init = fs::read_to_string(room.path("run/init")).unwrap();
            assert_eq!(init.trim(), format!("{}/init", first.toplevel));
            let last = room.server.reports().pop().unwrap();
            assert!(last.status == Status::Ok && last.detail.unwrap().contains("FALLBACK"));
            assert!(!room.held(&second).exists());
        }
        fs::write(&file, good).unwrap();
    }
    room.fetched(&second);
}

fn what_nobody_trusted_has_signed_is_no_reason_to_run_an_older_generation(room: &Room) {
    room.fetched(&room.publish(1));
    let refused = || {
        let _ = fs::remove_file(room.path("run/init"));
        let output = room.fetch(&[]);
        assert_eq!(output.status.code(), Some(77), "{}", said(&output));
        assert!(!said(&output).contains("FALLBACK") && !room.path("run/init").exists(), "{}", said(&output));
    };
    let second = room.publish_signed(2, &other_key());
    refused();
    // The description is signed by the right key now, the paths are not.
    room.describe(2, second.trees, second.infos, &site_key());
    refused();
}

fn other_key() -> SecretKey {
    SecretKey::from_seed("site-2".parse().unwrap(), &[2; 32])
}

#[test]
fn what_nix_brought_is_valid_for_nix() {
    let Some(room) = Room::new(Way::Nix) else { return };
    let published = room.publish(3);
    room.fetched(&published);
    let mut verify = nix(&room.path("root"), "nix-store");
    peer(verify.args(["--verify", "--check-contents"]));
    let found = peer(nix(&room.path("root"), "nix-store").args(["-qR", published.toplevel.as_str()]));
    assert_eq!(found.lines().count(), published.infos.len());
}

#[test]
fn a_nix_that_talks_and_gets_nowhere_is_given_up() {
    let Some(room) = Room::new(Way::Nix) else { return };
    room.publish(3);
    let program = room.path("talkative");
    let script = r#"#!/bin/sh
        case "$*" in
        *--version*) echo 'nix-store (Nix) 2.8.0' ;;
        *--init*) mkdir -p "${NIX_REMOTE#*root=}/nix/store" "${NIX_REMOTE#*root=}/nix/var/nix/db" ;;
        *) while :; do echo '@nix {"action":"result","fields":[0,9,0,0],"id":1,"type":105}' >&2; sleep 0.05; done ;;
        esac"#;
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = room.fetch(&["--patience", "1", "--nix-store", text(&program)]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("nothing arrived for 1 s"), "{}", said(&output));
}

#[test]
fn a_damaged_database_does_not_stop_a_client_for_ever() {
    let Some(room) = Room::new(Way::Nix) else { return };
    let published = room.publish(3);
    room.fetched(&published);
    let database = room.on_client("nix/var/nix/db");
    fs::write(database.join("schema"), "").unwrap();
    room.fetched(&published);
    // Cut while Nix made it: the files are there, the tables are not.
    fs::remove_file(database.join("rookery-made")).unwrap();
    fs::write(database.join("db.sqlite"), b"").unwrap();
    room.fetched(&published);
    // Well formed at first sight, and rubbish: Nix says so, and it is set aside then.
    fs::write(database.join("db.sqlite"), b"SQLite format 3\0 and then nothing that makes sense").unwrap();
    room.fetched(&published);
}
