//! What happens on the client around a fetch: booting without the server, room on the disk, Nix's database in stage 2.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output},
};

use nix_format::signature::SecretKey;

use crate::{
    room::{Published, Room, nix, site_key},
    support::{SmallDisk, agent, have, peer, said, text},
};

/// Two generations are complete here and a third is chosen, of a server that cannot be reached.
fn without_server(room: &Room) -> [Published; 2] {
    let held = [1, 2].map(|number| {
        let published = room.publish(number);
        room.fetched(&published);
        published
    });
    room.publish(3);
    room.server.close_connections(usize::MAX);
    held
}

fn booted(room: &Room) -> String {
    fs::read_to_string(room.path("run/init")).unwrap().trim().to_owned()
}

#[test]
fn without_the_server_the_newest_complete_generation_runs() {
    let room = Room::own();
    let [first, second] = without_server(&room);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let name = second.generation.to_string();
    assert!(said(&output).contains("OFFLINE") && said(&output).contains(&name), "{}", said(&output));
    assert_eq!(booted(&room), format!("{}/init", second.toplevel));
    assert!(fs::read_to_string(room.path("run/offline")).unwrap().contains(&name));

    // One that is not whole any more does not count, and neither does one that nobody trusted has signed.
    let path = room.on_client(&format!("{}/init", second.toplevel));
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(booted(&room), format!("{}/init", first.toplevel));
    fs::write(room.held(&first).join("generation.json.sig"), "site-1:AAAA").unwrap();
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));

    // The server is back: what was chosen runs, and the reports of the boots without it arrive.
    room.server.close_connections(0);
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let details: Vec<String> = room.server.reports().into_iter().filter_map(|report| report.detail).collect();
    assert!(details.iter().any(|detail| detail.contains("OFFLINE")), "{details:?}");
}

/// What Nix's garbage collector leaves of a generation: its record, and not its paths.
#[test]
fn a_generation_that_is_recorded_and_not_there_counts_as_missing() {
    let room = Room::own();
    let [first, second] = without_server(&room);
    fs::remove_dir_all(room.on_client(&format!("{}/init", first.toplevel)).parent().unwrap()).unwrap();
    room.choose(&first);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(booted(&room), format!("{}/init", second.toplevel));
    let line = fs::read_to_string(room.path("cmdline")).unwrap();
    fs::write(room.path("cmdline"), format!("{} rookery.offline=lab/3-00000000\n", line.trim())).unwrap();
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("is not on this disk"), "{}", said(&output));
}

/// Brings a generation with modules for another kernel only.
fn fetched_with_another_kernel(room: &Room, number: u32) -> Published {
    let mut trees = crate::room::system(number);
    trees.retain(|(path, _)| path.name() != "linux");
    let published = room.publish_trees(number, trees, &site_key());
    room.choose(&published);
    room.fetched(&published);
    published
}

/// Whether its kernel runs decides how the newest one is started, and not which one that is.
#[test]
fn the_newest_generation_comes_first_whichever_kernel_it_needs() {
    for newest_needs_another in [true, false] {
        let room = Room::own();
        let with_this_kernel = |number| {
            let published = room.publish(number);
            room.fetched(&published);
            published
        };
        let [other, this] = if newest_needs_another {
            let this = with_this_kernel(1);
            [fetched_with_another_kernel(&room, 2), this]
        } else {
            [fetched_with_another_kernel(&room, 1), with_this_kernel(2)]
        };
        room.publish(3);
        room.server.close_connections(usize::MAX);
        let output = room.fetch(&["--patience", "1"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(booted(&room), format!("{}/init", this.toplevel));
        // Here no other kernel can be started: the next newest follows.
        let [other, this] = [other, this].map(|published| {
            said(&output).find(&format!("generation {} of this disk runs instead", published.generation))
        });
        assert!(this.is_some() && other.is_some() == newest_needs_another && other <= this, "{}", said(&output));
        assert_eq!(said(&output).contains("its kernel stays"), newest_needs_another, "{}", said(&output));
    }
}

#[test]
fn a_generation_with_another_kernel_would_need_that_kernel() {
    let room = Room::own();
    fetched_with_another_kernel(&room, 1);
    room.publish(3);
    room.server.close_connections(usize::MAX);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("OFFLINE") && said(&output).contains("kernel stays"), "{}", said(&output));
    assert!(said(&output).contains("check the server and the cable"), "{}", said(&output));
}

#[test]
fn a_kernel_that_was_started_offline_asks_nobody() {
    let room = Room::own();
    let [_, second] = without_server(&room);
    room.choose(&second);
    let line = fs::read_to_string(room.path("cmdline")).unwrap();
    fs::write(room.path("cmdline"), format!("{} rookery.offline=lab/3-00000000\n", line.trim())).unwrap();
    room.server.requests();
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("OFFLINE"), "{}", said(&output));
    assert_eq!(booted(&room), format!("{}/init", second.toplevel));
    assert_eq!(room.server.requests(), [] as [String; 0]);
}

fn register(room: &Room) -> Output {
    register_with(room, Path::new("nix-store"))
}

fn register_with(room: &Room, nix_store: &Path) -> Output {
    let [root, run] = ["root", "run"].map(|name| room.path(name));
    let conf = room.path("none");
    Command::new(env!("CARGO_BIN_EXE_rookery-agent"))
        .args(["register", "--nix-store", text(nix_store), "--root", text(&root), "--run-dir", text(&run)])
        .env("NIX_CONF_DIR", conf)
        .env("NIX_CONFIG", "build-users-group =\nsubstituters =")
        .env("HOME", room.path("home"))
        .output()
        .unwrap()
}

/// Every path is valid for Nix, and its content is what Nix takes it for.
fn registered(room: &Room, published: &Published) {
    let output = register(room);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let root = room.path("root");
    peer(nix(&root, "nix-store").args(["--verify", "--check-contents"]));
    let found = peer(nix(&root, "nix-store").args(["-qR", published.toplevel.as_str()]));
    assert_eq!(found.lines().count(), published.infos.len());
}

/// Every path has a signature in Nix's database that this key has made.
fn signed(room: &Room, key: &str) -> bool {
    let mut verify = nix(&room.path("root"), "nix");
    verify.args(["--extra-experimental-features", "nix-command", "store", "verify", "--all", "--no-contents"]);
    verify.args(["--option", "trusted-public-keys", key.trim()]).output().unwrap().status.success()
}

#[test]
fn nix_knows_the_sites_signatures() {
    if !have(&["nix-store", "nix"]) {
        return;
    }
    let room = Room::own();
    let stranger = SecretKey::from_seed("stranger-1".parse().unwrap(), &[2; 32]).public_key().to_string();
    for number in [1, 2] {
        let published = room.publish(number);
        room.fetched(&published);
        registered(&room, &published);
        assert!(signed(&room, &site_key().public_key().to_string()));
        assert!(!signed(&room, &stranger));
        assert!(!room.path("run/signatures").exists());
    }
}

/// A Nix without `nix`, or with another one.
#[test]
fn signatures_that_cannot_be_kept_are_no_reason_not_to_run() {
    if !have(&["nix-store"]) {
        return;
    }
    let room = Room::own();
    let published = room.publish(1);
    room.fetched(&published);
    let place = peer(Command::new("sh").args(["-c", "command -v nix-store"]));
    let alone = room.path("bin");
    fs::create_dir(&alone).unwrap();
    symlink(place.trim(), alone.join("nix-store")).unwrap();
    let output = register_with(&room, &alone.join("nix-store"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("does not know the signatures"), "{}", said(&output));
    registered(&room, &published);
}

#[test]
fn nix_is_told_what_was_brought_and_a_spoilt_database_heals() {
    if !have(&["nix-store"]) {
        return;
    }
    let room = Room::own();
    let first = room.publish(1);
    room.fetched(&first);
    registered(&room, &first);
    let second = room.publish(2);
    room.fetched(&second);
    registered(&room, &second);
    registered(&room, &first);
    let database = room.on_client("nix/var/nix/db");
    for (file, content) in [("schema", ""), ("db.sqlite", ""), ("db.sqlite", "SQLite format 3\0 and then rubbish")] {
        fs::write(database.join(file), content).unwrap();
        // As after a boot: nobody knows yet that it is spoilt.
        let _ = fs::remove_file(database.join("rookery-registered"));
        registered(&room, &second);
    }
}

/// The running generation collects the other one's paths, which has them again at its next boot.
#[test]
fn what_nix_collected_and_was_brought_again_is_registered_again() {
    if !have(&["nix-store"]) {
        return;
    }
    let room = Room::own();
    let [first, second] = [1, 2].map(|number| {
        let published = room.publish(number);
        room.fetched(&published);
        published
    });
    registered(&room, &second);
    // `nix-collect-garbage -d`.
    fs::remove_file(room.on_client("nix/var/nix/profiles/system-1-link")).unwrap();
    peer(nix(&room.path("root"), "nix-store").arg("--gc"));
    assert!(!room.on_client(first.toplevel.as_str()).exists());
    room.choose(&first);
    room.fetched(&first);
    assert!(!room.on_client("nix/var/nix/db/rookery-registered").exists());
    registered(&room, &first);
    registered(&room, &second);
}

/// Nix takes a path from its database first. What it has not deleted when the power fails still has its receipt.
#[test]
fn what_nix_has_forgotten_is_registered_again() {
    if !have(&["nix-store"]) {
        return;
    }
    let room = Room::own();
    let published = room.publish(1);
    room.fetched(&published);
    registered(&room, &published);
    let (database, before) = (room.on_client("nix/var/nix/db"), room.path("before"));
    fs::rename(&database, &before).unwrap();
    peer(nix(&room.path("root"), "nix-store").arg("--init"));
    for mark in ["rookery-made", "rookery-registered"] {
        fs::copy(before.join(mark), database.join(mark)).unwrap();
    }
    assert!(room.fetched(&published).contains("nothing was fetched"));
    registered(&room, &published);
}

/// Each boot asks Nix whether it knows its paths, and tells it of them once.
#[test]
fn what_is_registered_is_not_registered_again() {
    if !have(&["nix-store"]) {
        return;
    }
    let room = Room::own();
    let published = room.publish(1);
    room.fetched(&published);
    registered(&room, &published);
    let program = room.path("nix-store");
    fs::write(&program, "#!/bin/sh\necho \"$*\" >>\"$0.calls\"\nexec nix-store \"$@\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        room.fetched(&published);
        let output = register_with(&room, &program);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let calls = fs::read_to_string(room.path("nix-store.calls")).unwrap();
    assert!(calls.lines().all(|call| call.starts_with("--check-validity")), "{calls}");
}

#[test]
fn the_oldest_generation_makes_room_and_the_last_good_one_stays() {
    let room = Room::own();
    // Shared libraries of 1.8 MB, and 0.5 MB for each generation, with what is kept free for overhead.
    let Some(_disk) = SmallDisk::mount(&room.path("root"), 4) else { return };
    let first = room.publish(1);
    room.fetched(&first);
    let records = room.on_client("nix/var/rookery");
    fs::create_dir_all(records.join("good")).unwrap();
    fs::write(records.join("good/lab"), first.generation.id.to_string()).unwrap();
    let [second, .., last] = [2, 3, 4, 5].map(|number| {
        let published = room.publish(number);
        room.fetched(&published);
        published
    });
    room.complete(&last);
    room.complete_paths(&first);
    assert!(room.held(&first).exists(), "the one that last ran stays");
    assert!(!room.held(&second).exists(), "the oldest other one goes");
    let package = second.infos.iter().find(|info| info.store_path.name() == "package").unwrap().store_path.as_str();
    assert!(!room.on_client(package).exists());
    assert!(fs::read_to_string(records.join("dropped")).unwrap().contains(package));
    assert!(!fs::read_to_string(room.received()).unwrap().contains(&package["/nix/store/".len()..]));
}

/// The server dies when the newest complete generation has gone already, to make room: another one runs, which is there.
#[test]
fn what_made_room_is_not_what_runs_without_the_server() {
    let room = Room::own();
    let Some(_disk) = SmallDisk::mount(&room.path("root"), 4) else { return };
    let [first, second] = [1, 2].map(|number| {
        let published = room.publish(number);
        room.fetched(&published);
        published
    });
    let good = room.on_client("nix/var/rookery/good");
    fs::create_dir_all(&good).unwrap();
    fs::write(good.join("lab"), first.generation.id.to_string()).unwrap();
    fs::write(room.on_client("filler"), vec![1; 900_000]).unwrap();
    room.publish(3);
    room.server.die_at("/nar/");
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!room.held(&second).exists(), "{}", said(&output));
    assert_eq!(booted(&room), format!("{}/init", first.toplevel));
    room.complete_paths(&first);
}

/// A disk without room has a list of what went, and nothing in it.
#[test]
fn what_was_taken_from_the_disk_is_no_longer_valid_for_nix() {
    if !have(&["nix-store"]) {
        return;
    }
    for is_named in [true, false] {
        let room = Room::own();
        let [first, second] = [1, 2].map(|number| {
            let published = room.publish(number);
            room.fetched(&published);
            published
        });
        registered(&room, &second);
        // As an eviction leaves it.
        fs::remove_dir_all(room.held(&first)).unwrap();
        let gone: Vec<_> = first.trees.keys().filter(|path| !second.trees.contains_key(path)).collect();
        let list: String = gone.iter().filter(|_| is_named).map(|path| format!("{path}\n")).collect();
        fs::write(room.on_client("nix/var/rookery/dropped"), list).unwrap();
        gone.iter().for_each(|path| fs::remove_dir_all(room.on_client(path.as_str())).unwrap());
        registered(&room, &second);
        assert!(!room.on_client("nix/var/rookery/dropped").exists());
        let known =
            peer(nix(&room.path("root"), "nix-store").args(["-q", "--referrers", second.infos[0].store_path.as_str()]));
        assert!(gone.iter().all(|path| !known.contains(path.as_str())), "{known}");
    }
}

#[test]
fn a_disk_that_is_too_small_is_named_before_anything_is_fetched() {
    let room = Room::own();
    let Some(_disk) = SmallDisk::mount(&room.path("root"), 1) else { return };
    room.publish(1);
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("disk is full"), "{}", said(&output));
    assert!(!room.server.requests().iter().any(|path| path.starts_with("/nar/")));
}

#[test]
fn register_without_a_nix_says_so() {
    let room = Room::own();
    let root = room.path("root");
    let output = agent(&["register", "--nix-store", "/nonexistent", "--root", text(&root), "--run-dir", text(&root)]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("/nonexistent"), "{}", said(&output));
}
