//! `fetch` against a real Nix: a store filled by hand, copied to a signed binary cache, served on loopback.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use boot_model::{
    Architecture, GenerationId, GenerationRef, Sha256Digest, StorePath, Timestamp,
    generation::{Closure, Entry, FileDigest, Generation},
    report::Status,
};
use nix_format::{detached::Document, signature::SecretKey};
use tempfile::TempDir;

use crate::{
    server::Server,
    support::{agent, have, peer, said, text},
};

const PATHS: u64 = 5;

/// A server with one generation, and a client without anything.
struct Room {
    dir: TempDir,
    server: Server,
    toplevel: StorePath,
    generation: GenerationRef,
}

impl Room {
    /// `None` where there is no Nix.
    fn new() -> Option<Self> {
        if !have(&["nix-store", "nix-hash", "nix"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32]);
        fs::write(dir.path().join("secret"), key.to_secret_text()).unwrap();
        fs::write(dir.path().join("keys"), key.public_key().to_string()).unwrap();
        let served = dir.path().join("served");
        fs::create_dir_all(dir.path().join("root")).unwrap();
        let toplevel = binary_cache(dir.path(), &served);
        let id = GenerationId::new(3, &toplevel);
        let generation = GenerationRef { role: "lab".parse().unwrap(), id };
        let server = Server::start(served);
        let room = Self { dir, server, toplevel, generation };
        room.publish(&key);
        room.choose(&format!("{}/init", room.toplevel));
        Some(room)
    }

    fn publish(&self, key: &SecretKey) {
        let digest = Sha256Digest::new([7; 32]);
        let entry = Entry {
            specialisation: None,
            label: "NixOS test".parse().unwrap(),
            toplevel: self.toplevel.clone(),
            init: format!("{}/init", self.toplevel).parse().unwrap(),
            kernel_parameters: Vec::new(),
            kernel_version: None,
            kernel: digest,
            initrd: digest,
        };
        let file = FileDigest { sha256: digest, size: 1 };
        let json = Generation::new(
            self.generation.clone(),
            Timestamp::from_unix_millis(0),
            Architecture::X86_64,
            vec![entry],
            Closure { paths: PATHS, nar_size: 5_000_000, file_size: 5_000_000 },
            [("closure".to_owned(), file), (format!("boot/{digest}"), file)].into(),
        )
        .unwrap()
        .to_json();
        let directory = self.dir.path().join("served/generations").join(self.generation.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("generation.json.sig"), Document::Generation.sign(&json, [key])).unwrap();
        fs::write(directory.join("generation.json"), json).unwrap();
    }

    /// What the menu puts on the kernel command line.
    fn choose(&self, init: &str) {
        let (server, generation) = (self.server.address, &self.generation);
        let line = format!(
            "init={init} rookery.server={server} rookery.generation={generation} BOOTIF=01-52-54-00-77-00-0a quiet\n"
        );
        fs::write(self.dir.path().join("cmdline"), line).unwrap();
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn fetch(&self, more: &[&str]) -> Output {
        let files = ["root", "cmdline", "keys", "run"].map(|name| self.path(name));
        let [root, line, keys, run] = files.each_ref().map(|file| text(file));
        let mut arguments = vec!["fetch", "--root", root, "--cmdline", line, "--trusted-keys", keys, "--run-dir", run];
        arguments.extend(more);
        agent(&arguments)
    }

    fn fetched(&self) {
        let output = self.fetch(&[]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let mut verify = nix(&self.path("root"), "nix-store");
        peer(verify.args(["--verify", "--check-contents"]));
        let found = peer(nix(&self.path("root"), "nix-store").args(["-qR", self.toplevel.as_str()]));
        assert_eq!(found.lines().count() as u64, PATHS);
        assert!(self.receipt().exists());
    }

    fn receipt(&self) -> PathBuf {
        let name = format!("{}-{}.json", self.generation.role, self.generation.id);
        self.path("root/nix/var/rookery/receipts").join(name)
    }

    fn a_nar(&self) -> PathBuf {
        let mut nars: Vec<_> = fs::read_dir(self.path("served/nar")).unwrap().map(|nar| nar.unwrap().path()).collect();
        nars.sort_by_key(|nar| fs::metadata(nar).unwrap().len());
        nars.pop().unwrap()
    }
}

/// Four paths of random megabytes below a toplevel, made as `nix copy` makes them.
fn binary_cache(dir: &Path, served: &Path) -> StorePath {
    let build = dir.join("build");
    let path = |number: u32, name: &str| format!("/nix/store/{number:032}-{name}");
    let mut registration = String::new();
    let mut references = Vec::new();
    let mut noise = 1_u64;
    for number in 1..=PATHS as u32 {
        let last = u64::from(number) == PATHS;
        let store_path = path(number, if last { "nixos-system-test" } else { "library" });
        let real = build.join(&store_path[1..]);
        fs::create_dir_all(&real).unwrap();
        let file = real.join(if last { "init" } else { "data" });
        let content: Vec<u8> = if last {
            b"#!/bin/sh\n".to_vec()
        } else {
            std::iter::repeat_with(|| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .take(1_000_000)
            .collect()
        };
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(if last { 0o555 } else { 0o444 })).unwrap();
        let hash = peer(nix(&build, "nix-hash").args(["--type", "sha256", text(&real)]));
        let size = nix(&build, "nix-store").args(["--dump", text(&real)]).output().unwrap().stdout.len();
        registration += &format!("{store_path}\n{}\n{size}\n\n{}\n", hash.trim(), references.len());
        registration.extend(references.iter().map(|reference| format!("{reference}\n")));
        if !last {
            references.clear();
            references.extend((1..=number).map(|number| path(number, "library")));
        }
    }
    let file = dir.join("registration");
    fs::write(&file, registration).unwrap();
    let mut load = nix(&build, "nix-store");
    let status = load.arg("--load-db").stdin(fs::File::open(&file).unwrap()).status().unwrap();
    assert!(status.success());
    let toplevel = path(PATHS as u32, "nixos-system-test");
    let to = format!("file://{}?compression=zstd&secret-key={}", served.display(), dir.join("secret").display());
    peer(nix(&build, "nix").args(["--extra-experimental-features", "nix-command", "copy", "--to", &to, &toplevel]));
    toplevel.parse().unwrap()
}

/// A peer that works on the store below `root` and reads no configuration of this machine.
fn nix(root: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("NIX_REMOTE", format!("local?root={}", root.display()))
        .env("NIX_CONF_DIR", root.join("none"))
        .env("NIX_CONFIG", "build-users-group =\nsubstituters =")
        .env("HOME", root.join("home"));
    command
}

#[test]
fn an_empty_client_gets_everything_and_the_next_boot_asks_for_nothing() {
    let Some(room) = Room::new() else { return };
    room.fetched();
    let reports = room.server.reports();
    assert_eq!(reports.first().map(|report| report.status), Some(Status::Started));
    assert_eq!(reports.last().map(|report| report.status), Some(Status::Ok), "{reports:?}");
    assert!(reports.iter().all(|report| report.generation.as_ref() == Some(&room.generation)));
    assert!(room.server.requests().iter().any(|path| path.starts_with("/nar/")));

    let profiles = room.path("root/nix/var/nix/profiles");
    assert_eq!(fs::read_link(profiles.join("system")).unwrap(), PathBuf::from("system-3-link"));
    assert_eq!(fs::read_link(profiles.join("system-3-link")).unwrap(), PathBuf::from(room.toplevel.as_str()));
    let roots = room.path("root/nix/var/nix/gcroots/profiles");
    assert_eq!(fs::read_link(roots).unwrap(), PathBuf::from("/nix/var/nix/profiles"), "as the client will see it");

    room.fetched();
    let asked = room.server.requests();
    assert!(asked.iter().all(|path| path.starts_with("/generations/")), "{asked:?}");

    // The server is away: what is complete is booted all the same.
    room.server.close_connections(usize::MAX);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_system_that_no_signed_generation_lists_is_refused_before_anything_is_written() {
    let Some(room) = Room::new() else { return };
    let refused = |cause: &str| {
        let output = room.fetch(&[]);
        assert_eq!(output.status.code(), Some(77), "{}", said(&output));
        assert!(said(&output).contains(cause), "{}", said(&output));
        assert!(!room.path("root/nix").exists());
        let reports = room.server.reports();
        assert_eq!(reports.last().map(|report| report.status), Some(Status::Failed));
    };
    // A path that the key has signed, and that is published by nobody.
    room.choose(&format!("/nix/store/{:032}-library/init", 1));
    refused("has no entry that starts");
    room.choose(&format!("{}/init", room.toplevel));
    room.publish(&SecretKey::from_seed("site-1".parse().unwrap(), &[2; 32]));
    refused("not signed by a key of this initrd");
}

#[test]
fn a_cache_that_another_key_has_signed_is_refused() {
    let Some(room) = Room::new() else { return };
    let other = SecretKey::from_seed("site-2".parse().unwrap(), &[2; 32]);
    fs::write(room.path("keys"), other.public_key().to_string()).unwrap();
    room.publish(&other);
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("not signed"), "{}", said(&output));
    assert!(!room.receipt().exists());
}

#[test]
fn a_flipped_byte_is_refused_and_repaired_when_the_server_is() {
    let Some(room) = Room::new() else { return };
    let nar = room.a_nar();
    let good = fs::read(&nar).unwrap();
    let mut bad = good.clone();
    bad[500_000] ^= 1;
    fs::write(&nar, bad).unwrap();
    let output = room.fetch(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("rookery verify"), "{}", said(&output));
    assert!(!room.receipt().exists());
    fs::write(&nar, good).unwrap();
    room.fetched();
}

#[test]
fn a_server_that_stumbles_is_waited_for() {
    let Some(room) = Room::new() else { return };
    room.server.close_connections(4);
    room.server.cut_answers(3);
    room.fetched();
    // The reports that could not be sent at first were sent later, in order. Progress is sent once or not at all.
    let steps =
        room.server.reports().into_iter().map(|report| report.status).filter(|status| *status != Status::Progress);
    assert_eq!(steps.collect::<Vec<_>>(), [Status::Started, Status::Ok]);
}

#[test]
fn a_server_that_never_comes_is_given_up_with_its_own_exit_code() {
    let Some(room) = Room::new() else { return };
    room.server.close_connections(usize::MAX);
    let output = room.fetch(&["--patience", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("check the server and the cable"), "{}", said(&output));
}

#[test]
fn a_registered_path_that_is_gone_is_brought_again() {
    let Some(room) = Room::new() else { return };
    room.fetched();
    let library = room.path(&format!("root/nix/store/{:032}-library", 2));
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(&library).unwrap();
    room.fetched();
    assert!(library.join("data").exists());
}

#[test]
fn a_nix_that_talks_and_gets_nowhere_is_given_up() {
    let Some(room) = Room::new() else { return };
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
    let Some(room) = Room::new() else { return };
    room.fetched();
    let database = room.path("root/nix/var/nix/db");
    fs::write(database.join("schema"), "").unwrap();
    room.fetched();
    // Cut while Nix made it: the files are there, the tables are not.
    fs::remove_file(database.join("rookery-made")).unwrap();
    fs::write(database.join("db.sqlite"), b"").unwrap();
    room.fetched();
    // Well formed at first sight, and rubbish: Nix says so, and it is set aside then.
    fs::write(database.join("db.sqlite"), b"SQLite format 3\0 and then nothing that makes sense").unwrap();
    room.fetched();
}
