//! Receipts: which of them are believed when something happened to a path after it was received.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use sha2::{Digest as _, Sha256};

use crate::{
    room::{Published, Room, Way, both_ways, nix},
    support::{SmallDisk, peer, said},
    tree::Tree,
};

both_ways! {
    a_path_that_was_replaced_is_not_believed
    a_path_that_was_half_deleted_is_not_believed
    a_path_that_was_touched_is_hashed_once_and_not_fetched
    a_path_that_was_touched_runs_without_the_server
    what_was_hashed_in_vain_has_its_receipts
    old_receipts_are_checked_once
    agents_of_both_versions_take_turns
}

/// The paths that another fetch asked for; afterwards all is there.
fn brought_again(room: &Room, published: &Published) -> Vec<String> {
    room.server.requests();
    room.fetched(published);
    let mut asked = room.server.requests();
    asked.retain(|path| path.starts_with("/nar/"));
    asked
}

/// What is said before the paths of a generation are hashed.
fn looking(published: &Published) -> String {
    format!("looking whether generation {}", published.generation)
}

fn receipts(room: &Room) -> usize {
    fs::read_to_string(room.roots()).unwrap().lines().count()
}

/// Nix collects the path and substitutes it again, in place; the power fails when half of it is there.
fn a_path_that_was_replaced_is_not_believed(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let [library, other, ..] = &published.infos[..] else { panic!() };
    let place = room.on_client(library.store_path.as_str());
    // Kept, so that nothing new gets its inode.
    fs::rename(&place, room.path("collected")).unwrap();
    fs::create_dir(&place).unwrap();
    fs::write(place.join("data"), "").unwrap();
    let file = room.on_client(other.store_path.as_str());
    fs::rename(&file, room.path("collected-too")).unwrap();
    fs::write(&file, "").unwrap();
    let asked = brought_again(room, &published);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(brought_again(room, &published), [] as [String; 0]);
}

/// The same inode, of which Nix has begun to delete the content.
fn a_path_that_was_half_deleted_is_not_believed(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let place = room.on_client(published.infos[0].store_path.as_str());
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(place.join("data")).unwrap();
    assert_eq!(brought_again(room, &published).len(), 1);
}

fn a_path_that_was_touched_is_hashed_once_and_not_fetched(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let before = receipts(room);
    room.fetched(&published);
    assert_eq!(receipts(room), before);
    touch(room, &published);
    for _ in 0..2 {
        assert_eq!(brought_again(room, &published), [] as [String; 0]);
        assert_eq!(receipts(room), before + 1);
    }
}

fn a_path_that_was_touched_runs_without_the_server(room: &Room) {
    let published = room.publish(2);
    room.fetched(&published);
    room.publish(3);
    room.server.close_connections(usize::MAX);
    touch(room, &published);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains(&looking(&published)), "{}", said(&output));
    room.complete(&published);
    let output = room.fetch(&["--patience", "1"]);
    assert!(!said(&output).contains(&looking(&published)), "{}", said(&output));
    // With other content it does not.
    touch(room, &published);
    spoil(&room.on_client(published.infos[0].store_path.as_str()).join("data"));
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
}

/// Of a generation that turns out not to be whole nothing is hashed twice but what is not whole.
fn what_was_hashed_in_vain_has_its_receipts(room: &Room) {
    let published = room.publish(2);
    room.fetched(&published);
    let before = receipts(room);
    room.publish(3);
    room.server.close_connections(usize::MAX);
    touch(room, &published);
    spoil(&room.on_client(published.infos[1].store_path.as_str()));
    for _ in 0..2 {
        let output = room.fetch(&["--patience", "1"]);
        assert_eq!(output.status.code(), Some(69), "{}", said(&output));
        assert!(said(&output).contains(&looking(&published)), "{}", said(&output));
        assert_eq!(receipts(room), before + 1);
    }
}

fn old_receipts_are_checked_once(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    as_first_version(room, &[&published]);
    spoil(&room.on_client(published.infos[0].store_path.as_str()).join("data"));
    let asked = brought_again(room, &published);
    assert_eq!(asked.len(), 1, "{asked:?}");
    let now = receipts(room);
    assert_eq!(brought_again(room, &published), [] as [String; 0]);
    assert_eq!(receipts(room), now);
}

/// The running system's Nix has brought a path and registered it, the power failed, and its files are empty.
#[test]
fn what_is_empty_under_its_row_is_repaired() {
    let Some(room) = Room::new(Way::Nix) else { return };
    let published = room.publish(3);
    room.fetched(&published);
    let on_client = |program| nix(&room.path("root"), program);
    fs::write(room.path("mine"), "what somebody has installed besides").unwrap();
    let mine = peer(on_client("nix-store").arg("--add").arg(room.path("mine")));
    let path = published.infos[1].store_path.as_str();
    let file = room.on_client(path);
    fs::rename(&file, room.path("collected")).unwrap();
    fs::write(&file, "").unwrap();
    room.server.close_connections(usize::MAX);
    for _ in 0..2 {
        let output = room.fetch(&["--patience", "1"]);
        assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    }
    room.server.close_connections(0);
    assert_eq!(brought_again(&room, &published).len(), 1);
    peer(on_client("nix-store").args(["--check-validity", mine.trim()]));
    peer(on_client("nix-store").args(["--verify", "--check-contents"]));
}

/// Nix repairs in place: half of the path lies under its row when the connection breaks.
#[test]
fn what_nix_half_repaired_is_not_believed() {
    let Some(room) = Room::new(Way::Nix) else { return };
    let published = room.publish(3);
    room.fetched(&published);
    for info in &published.infos[..2] {
        fs::rename(room.on_client(info.store_path.as_str()), room.path(info.store_path.name())).unwrap();
        room.server.cut_answers(2);
        assert!(room.fetched(&published).contains("; trying again in "));
    }
}

/// Outdated lines, a damaged one and a torn one want a log that is written anew, for which there is no room.
#[test]
fn receipts_are_believed_on_a_full_disk() {
    let room = Room::own();
    let Some(disk) = SmallDisk::mount(&room.path("root"), 4) else { return };
    let published = room.publish(1);
    room.fetched(&published);
    let good = fs::read_to_string(room.received()).unwrap();
    room.server.close_connections(usize::MAX);
    let roots = fs::read_to_string(room.roots()).unwrap();
    let spoilt = |good: &str| [good.repeat(3), format!("rubbish\n{good}"), format!("{good}half a li")];
    for (log, roots) in spoilt(&good).into_iter().zip(spoilt(&roots)) {
        fs::write(room.received(), &log).unwrap();
        fs::write(room.roots(), &roots).unwrap();
        disk.fill(0);
        let output = room.fetch(&["--patience", "1"]);
        assert!(said(&output).contains("nothing was fetched"), "{log}: {}", said(&output));
        assert_eq!(output.status.code(), Some(0));
        disk.fill(64 << 10);
    }
}

/// The generation is whole, its receipts are old, and the disk has less left than a fetch of as many paths would need.
#[test]
fn what_is_only_hashed_needs_no_room() {
    let room = Room::own();
    let Some(disk) = SmallDisk::mount(&room.path("root"), 4) else { return };
    let [older, published] = [1, 2].map(|number| {
        let published = room.publish(number);
        room.fetched(&published);
        published
    });
    as_first_version(&room, &[&older, &published]);
    disk.fill(128 << 10);
    room.server.close_connections(usize::MAX);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    room.complete(&published);
    assert!(room.held(&older).exists(), "nothing had to make room: {}", said(&output));
}

/// An older generation's agent knows nothing of roots: it believes these receipts, and takes no root away.
fn agents_of_both_versions_take_turns(room: &Room) {
    let published = room.publish(3);
    room.fetched(&published);
    let sorted = |lines: &str| lines.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let received = fs::read_to_string(room.received()).unwrap();
    assert_eq!(sorted(&received), sorted(&first_version(&published)));
    // It writes the log anew now and then.
    fs::write(room.received(), first_version(&published)).unwrap();
    assert!(room.fetched(&published).contains("nothing was fetched"));
}

/// Leaves receipts as the first agents did, which wrote nothing about inodes.
fn as_first_version(room: &Room, generations: &[&Published]) {
    let lines: String = generations.iter().map(|published| first_version(published)).collect();
    fs::write(room.received(), lines).unwrap();
    fs::remove_file(room.roots()).unwrap();
}

/// The receipts for a generation as the first agents wrote and read them.
fn first_version(published: &Published) -> String {
    let line = |content: String| {
        let sum: String = Sha256::digest(&content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{sum} {content}\n")
    };
    let infos = published.infos.iter();
    infos.map(|info| line(format!("{} {}", info.nar_hash, info.store_path.base_name()))).collect()
}

/// As Nix does when it replaces files in a path by hard links.
fn touch(room: &Room, published: &Published) {
    let place = room.on_client(published.infos[0].store_path.as_str());
    for mode in [0o755, 0o555] {
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn spoil(file: &Path) {
    assert!(matches!(Tree::read(file), Tree::File { .. }));
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, "something else").unwrap();
}
