//! A server with a role's generations, made as the publisher makes them, and a client without anything.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use boot_model::{
    Architecture, GenerationId, GenerationRef, Sha256Digest, StorePath, Timestamp,
    generation::{CLOSURE_FILE, Closure as Totals, Entry, FileDigest, Generation},
};
use nix_format::{
    closure::Closure,
    detached::Document,
    hash,
    narinfo::{Compression, NarInfo},
    signature::SecretKey,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    server::Server,
    support::{agent, have, peer, said, text},
    tree::{Tree, noise},
};

/// Who brings the closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Rookery,
    Nix,
}

/// Each case is a test for each way.
macro_rules! both_ways {
    ($($case:ident)*) => {
        $crate::room::both_ways!(@way rookery Rookery $($case)*);
        $crate::room::both_ways!(@way nix Nix $($case)*);
    };
    (@way $module:ident $way:ident $($case:ident)*) => {
        mod $module {
            $(#[test]
            fn $case() {
                if let Some(room) = $crate::room::Room::new($crate::room::Way::$way) {
                    super::$case(&room);
                }
            })*
        }
    };
}
pub(crate) use both_ways;

pub(crate) struct Room {
    pub(crate) dir: TempDir,
    pub(crate) server: Server,
    way: Way,
}

/// One generation as it should come to the disk.
pub(crate) struct Published {
    pub(crate) generation: GenerationRef,
    pub(crate) toplevel: StorePath,
    pub(crate) trees: BTreeMap<StorePath, Tree>,
    pub(crate) infos: Vec<NarInfo>,
}

impl Room {
    /// `None` where the way needs a Nix and there is none.
    pub(crate) fn new(way: Way) -> Option<Self> {
        if way == Way::Nix && !have(&["nix-store", "nix"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("served/nar")).unwrap();
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("served/nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
        fs::write(dir.path().join("keys"), site_key().public_key().to_string()).unwrap();
        let server = Server::start(dir.path().join("served"));
        Some(Self { dir, server, way })
    }

    /// A client with our own transfer.
    pub(crate) fn own() -> Self {
        Self::new(Way::Rookery).expect("needs no peer")
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A file of the client.
    pub(crate) fn on_client(&self, path: &str) -> PathBuf {
        self.path("root").join(path.trim_start_matches('/'))
    }

    /// Publishes a generation whose own paths are new with its number, below two libraries that all generations share, signs it
    /// and chooses it.
    pub(crate) fn publish(&self, number: u32) -> Published {
        self.publish_signed(number, &site_key())
    }

    pub(crate) fn publish_signed(&self, number: u32, key: &SecretKey) -> Published {
        let published = self.publish_trees(number, system(number), key);
        self.choose(&published);
        published
    }

    /// Publishes these trees; the last one is the toplevel, and each refers to those before.
    pub(crate) fn publish_trees(&self, number: u32, trees: Vec<(StorePath, Tree)>, key: &SecretKey) -> Published {
        let mut infos: Vec<NarInfo> = Vec::new();
        for (path, tree) in &trees {
            let references = infos.iter().map(|info| info.store_path.clone()).collect();
            infos.push(self.pack(path, &tree.nar(), references, key));
        }
        self.describe(number, trees.into_iter().collect(), infos, key)
    }

    /// Puts a NAR into the cache; it need not be one.
    pub(crate) fn pack(&self, path: &StorePath, nar: &[u8], references: Vec<StorePath>, key: &SecretKey) -> NarInfo {
        let half = nar.len() / 2;
        // Two frames, as the publisher makes them of large paths.
        let packed = [&nar[..half], &nar[half..]].map(|part| zstd::bulk::compress(part, 3).unwrap()).concat();
        let file_hash = digest(&packed);
        let mut references = references;
        references.sort();
        let mut info = NarInfo {
            store_path: path.clone(),
            url: format!("nar/{}.nar.zst", hash::to_nix(&file_hash).trim_start_matches("sha256:")),
            compression: Compression::Zstd,
            file_hash,
            file_size: packed.len() as u64,
            nar_hash: digest(nar),
            nar_size: nar.len() as u64,
            references,
            deriver: None,
            signatures: Vec::new(),
            content_address: None,
        };
        info.sign(key);
        fs::write(self.path("served").join(&info.url), packed).unwrap();
        fs::write(self.path("served").join(format!("{}.narinfo", path.hash())), info.to_string()).unwrap();
        info
    }

    /// Writes a generation's description and manifest; the last path is its toplevel.
    pub(crate) fn describe(
        &self,
        number: u32,
        trees: BTreeMap<StorePath, Tree>,
        infos: Vec<NarInfo>,
        key: &SecretKey,
    ) -> Published {
        let toplevel = infos.last().unwrap().store_path.clone();
        let closure = Closure::new(infos.clone()).unwrap();
        let manifest = closure.to_string();
        let boot = |name: &str| match &trees.get(&kernel_path(number)) {
            Some(Tree::Directory(entries)) => entries.iter().find_map(|(entry, tree)| match tree {
                Tree::File { content, .. } if entry == name => Some(digest(content)),
                _ => None,
            }),
            _ => None,
        };
        let [kernel, initrd] = ["bzImage", "initrd"].map(|name| boot(name).unwrap_or(Sha256Digest::new([7; 32])));
        let entry = Entry {
            specialisation: None,
            label: "NixOS test".parse().unwrap(),
            toplevel: toplevel.clone(),
            init: format!("{toplevel}/init").parse().unwrap(),
            kernel_parameters: vec!["loglevel=4".parse().unwrap()],
            kernel_version: None,
            kernel,
            initrd,
        };
        let generation = GenerationRef { role: "lab".parse().unwrap(), id: GenerationId::new(number, &toplevel) };
        let file = |sha256| FileDigest { sha256, size: 1 };
        let json = Generation::new(
            generation.clone(),
            Timestamp::from_unix_millis(u64::from(number)),
            Architecture::X86_64,
            vec![entry],
            Totals { paths: infos.len() as u64, nar_size: closure.nar_size(), file_size: closure.file_size() },
            [
                (
                    CLOSURE_FILE.to_owned(),
                    FileDigest { sha256: digest(manifest.as_bytes()), size: manifest.len() as u64 },
                ),
                (format!("boot/{kernel}"), file(kernel)),
                (format!("boot/{initrd}"), file(initrd)),
            ]
            .into(),
        )
        .unwrap()
        .to_json();
        let directory = self.path("served/generations").join(generation.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("generation.json.sig"), Document::Generation.sign(&json, [key])).unwrap();
        fs::write(directory.join("generation.json"), json).unwrap();
        fs::write(directory.join(CLOSURE_FILE), manifest).unwrap();
        Published { generation, toplevel, trees, infos }
    }

    /// Chooses a generation in the menu.
    pub(crate) fn choose(&self, published: &Published) {
        self.choose_init(published, &format!("{}/init", published.toplevel));
    }

    pub(crate) fn choose_init(&self, published: &Published, init: &str) {
        let (server, generation) = (self.server.address, &published.generation);
        let line = format!(
            "init={init} rookery.server={server} rookery.generation={generation} BOOTIF=01-52-54-00-77-00-0a quiet\n"
        );
        fs::write(self.path("cmdline"), line).unwrap();
    }

    pub(crate) fn fetch(&self, more: &[&str]) -> Output {
        let mut arguments = self.arguments();
        arguments.extend(more.iter().map(ToString::to_string));
        agent(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let files = ["root", "cmdline", "keys", "run"].map(|name| self.path(name));
        let [root, line, keys, run] = files.each_ref().map(|file| text(file));
        let via = if self.way == Way::Nix { "nix" } else { "rookery" };
        ["fetch", "--root", root, "--cmdline", line, "--trusted-keys", keys, "--run-dir", run, "--via", via]
            .map(ToString::to_string)
            .to_vec()
    }

    /// Fetches, and checks that everything is there as it was published.
    pub(crate) fn fetched(&self, published: &Published) -> String {
        let output = self.fetch(&[]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        self.complete(published);
        said(&output)
    }

    pub(crate) fn complete_paths(&self, published: &Published) {
        for (path, tree) in &published.trees {
            assert!(Tree::read(&self.on_client(path.as_str())) == *tree, "{path}");
        }
    }

    pub(crate) fn complete(&self, published: &Published) {
        self.complete_paths(published);
        assert!(self.held(published).exists());
        assert_eq!(fs::read_to_string(self.path("run/init")).unwrap().trim(), format!("{}/init", published.toplevel));
        let profile = self.on_client("nix/var/nix/profiles/system");
        let link = fs::read_link(&profile).unwrap();
        assert_eq!(fs::read_link(profile.with_file_name(link)).unwrap(), Path::new(published.toplevel.as_str()));
    }

    /// The record that a generation is complete.
    pub(crate) fn held(&self, published: &Published) -> PathBuf {
        self.on_client("nix/var/rookery/generations").join(published.generation.to_string())
    }

    pub(crate) fn received(&self) -> PathBuf {
        self.on_client("nix/var/rookery/received")
    }

    /// The log of the inodes that were received.
    pub(crate) fn roots(&self) -> PathBuf {
        self.on_client("nix/var/rookery/roots")
    }

    /// The served file of a path.
    pub(crate) fn served_pack(&self, info: &NarInfo) -> PathBuf {
        self.path("served").join(&info.url)
    }
}

impl Published {
    /// Its largest path.
    pub(crate) fn largest(&self) -> &NarInfo {
        self.infos.iter().max_by_key(|info| info.nar_size).unwrap()
    }
}

pub(crate) fn site_key() -> SecretKey {
    SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])
}

pub(crate) fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(bytes).into())
}

/// A store path whose hash is a number.
pub(crate) fn store_path(number: u32, name: &str) -> StorePath {
    format!("/nix/store/{number:032}-{name}").parse().unwrap()
}

pub(crate) fn kernel_path(number: u32) -> StorePath {
    store_path(number * 100 + 1, "linux")
}

/// Two libraries for all generations; kernel, package and toplevel for this one.
pub(crate) fn system(number: u32) -> Vec<(StorePath, Tree)> {
    let toplevel = store_path(number * 100, "nixos-system-test");
    let kernel = kernel_path(number);
    let release = peer(Command::new("uname").arg("-r")).trim().to_owned();
    let modules = Tree::directory([("modules", Tree::Directory(vec![(release, Tree::directory([]))]))]);
    let library = Tree::directory([
        ("bin", Tree::directory([("tool", Tree::program("#!/bin/sh\n")), ("tool2", Tree::link("tool"))])),
        ("data", Tree::file(noise(1, 1_000_000))),
        ("empty", Tree::file("")),
    ]);
    vec![
        (store_path(11, "library"), library),
        (store_path(12, "other"), Tree::file(noise(2, 800_000))),
        (
            store_path(number * 100 + 2, "package"),
            Tree::directory([("data", Tree::file(noise(number.into(), 500_000)))]),
        ),
        (
            kernel,
            Tree::directory([
                ("bzImage", Tree::file(format!("kernel {number}"))),
                ("initrd", Tree::file(format!("initrd {number}"))),
                ("lib", modules),
            ]),
        ),
        (
            toplevel,
            Tree::directory([
                ("init", Tree::program("#!/bin/sh\n")),
                ("initrd", Tree::link(&format!("{}/initrd", kernel_path(number)))),
                ("kernel", Tree::link(&format!("{}/bzImage", kernel_path(number)))),
                ("kernel-modules", Tree::link(kernel_path(number).as_str())),
            ]),
        ),
    ]
}

/// A peer that works on the store below `root` and reads no configuration of this machine.
pub(crate) fn nix(root: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("NIX_REMOTE", format!("local?root={}", root.display()))
        .env("NIX_CONF_DIR", root.join("none"))
        .env("NIX_CONFIG", "build-users-group =\nsubstituters =")
        .env("HOME", root.join("home"));
    command
}
