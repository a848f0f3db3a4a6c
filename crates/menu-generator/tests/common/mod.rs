//! A site in a folder of its own: configuration, and generations as the publisher would leave them.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests, of which each uses some")]

pub(crate) mod grub;
pub(crate) mod ipxe;
pub(crate) mod pxelinux;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use boot_model::generation::{Closure, Entry, FileDigest, Generation, boot_file};
use boot_model::intent::{Intent, Next};
use boot_model::{Architecture, GenerationId, GenerationRef, MacAddr, Sha256Digest, StorePath, Timestamp};
use config::Config;
use generations::{Layout, Snapshot};
use menu_generator::{Intents, Rendered, Sources, render};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// When every wish of these tests was wished: 2026-11-18, 11:06:40.
pub(crate) const CREATED: u64 = 1_795_000_000_000;
const DAY: u64 = 86_400_000;

pub(crate) const SITE: &str = r#"
[[subnet]]
interface = "lab0"
address = "10.77.0.1/24"
unknown = { role = "lab" }

[[role]]
name = "lab"
title = "Physics lab – Zürich"
local-disk = true

[[role]]
name = "staff"
"#;

pub(crate) const HOSTS: &str = r#"
[[host]]
mac = "52:54:00:77:00:01"
name = "pc-01"
role = "lab"

[[host]]
mac = "52:54:00:77:00:02"
name = "office"
role = "staff"

[[host]]
mac = "52:54:00:77:00:03"
name = "printer"
"#;

pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) layout: Layout,
}

/// What is to be published.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) role: &'static str,
    pub(crate) number: u32,
    pub(crate) letter: char,
    pub(crate) date: &'static str,
    pub(crate) architecture: Architecture,
    /// The label, and the system's parameters, then the same of each specialisation with its name.
    pub(crate) label: String,
    pub(crate) parameters: Vec<String>,
    pub(crate) specialisations: Vec<(String, String, Vec<String>)>,
}

impl Draft {
    pub(crate) fn new(number: u32, letter: char, date: &'static str) -> Self {
        Self {
            role: "lab",
            number,
            letter,
            date,
            architecture: Architecture::X86_64,
            label: format!("NixOS 26.05.202611{number:02}.abc1234 (Linux 6.12.58)"),
            parameters: vec!["console=ttyS0,115200".to_owned(), "loglevel=4".to_owned()],
            specialisations: Vec::new(),
        }
    }
}

impl Site {
    pub(crate) fn new(config: &str, hosts: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::create_dir_all(directory.path().join("hosts.d")).unwrap();
        fs::create_dir_all(state.join("generations")).unwrap();
        fs::write(directory.path().join("hosts.d/hosts.toml"), hosts).unwrap();
        let text = format!("state-directory = {:?}\n{config}", state.display().to_string());
        fs::write(directory.path().join("rookery.toml"), text).unwrap();
        Self { directory, layout: Layout::new(state) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("rookery.toml")
    }

    pub(crate) fn config(&self) -> Config {
        config::load(&self.file()).unwrap()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let snapshot = generations::scan(&self.layout, &Snapshot::default()).unwrap();
        assert_eq!(snapshot.problems, []);
        snapshot
    }

    /// Stages a generation beside, then gives it its name.
    pub(crate) fn publish(&self, draft: &Draft) -> GenerationRef {
        let (generation, contents) = generation(draft);
        let reference = generation.reference();
        let staged = self.layout.role(&reference.role).join(".staging");
        fs::create_dir_all(staged.join("boot")).unwrap();
        for (name, bytes) in contents {
            fs::write(staged.join(name), bytes).unwrap();
        }
        fs::write(staged.join(Layout::GENERATION_NAME), generation.to_json()).unwrap();
        fs::write(staged.join(Layout::SIGNATURE_NAME), "site-1:AAAA\n").unwrap();
        fs::rename(staged, self.layout.generation(&reference)).unwrap();
        reference
    }

    /// Every menu as it is now.
    pub(crate) fn rendered(&self) -> Rendered {
        let (config, snapshot) = (self.config(), self.snapshot());
        let intents = self.intents();
        let memtest = self.layout.loaders().join(Layout::MEMTEST_BIOS_NAME).exists();
        let (config, hosts) = (&config, &config.hosts);
        render(&Sources { config, hosts, snapshot: &snapshot, intents: &intents, memtest })
    }

    /// What is wished while the tests run.
    pub(crate) fn intents(&self) -> BTreeMap<MacAddr, Intent> {
        Intents::look(&self.layout, Timestamp::from_unix_millis(CREATED + 1))
    }

    /// As `rookery loaders install` leaves the memory test.
    pub(crate) fn install_memtest(&self) {
        fs::create_dir_all(self.layout.loaders()).unwrap();
        for name in [Layout::MEMTEST_BIOS_NAME, Layout::MEMTEST_EFI_NAME] {
            fs::write(self.layout.loaders().join(name), "").unwrap();
        }
    }

    /// As `rookery boot-once` writes it.
    pub(crate) fn wish(&self, mac: &str, next: Next) {
        let mac = mac.parse().unwrap();
        let at = Timestamp::from_unix_millis;
        let intent = Intent::new(mac, at(CREATED), at(CREATED + DAY), next);
        fs::create_dir_all(self.layout.intents()).unwrap();
        fs::write(self.layout.intent(mac), intent.to_json()).unwrap();
    }

    pub(crate) fn set_default(&self, generation: &GenerationRef) {
        let link = self.layout.default_link(&generation.role);
        let staged = link.with_file_name(".default");
        symlink(generation.id.to_string(), &staged).unwrap();
        fs::rename(staged, link).unwrap();
    }
}

fn generation(draft: &Draft) -> (Generation, BTreeMap<String, Vec<u8>>) {
    let digest = |bytes: &[u8]| Sha256Digest::new(Sha256::digest(bytes).into());
    let (kernel, initrd) = (b"a kernel".to_vec(), b"an initrd".to_vec());
    let system = Entry {
        specialisation: None,
        label: draft.label.parse().unwrap(),
        toplevel: toplevel(draft.letter, ""),
        init: format!("{}/init", toplevel(draft.letter, "")).parse().unwrap(),
        kernel_parameters: draft.parameters.iter().map(|p| p.parse().unwrap()).collect(),
        kernel_version: None,
        kernel: digest(&kernel),
        initrd: digest(&initrd),
    };
    let mut entries = vec![system.clone()];
    for (name, label, parameters) in &draft.specialisations {
        entries.push(Entry {
            specialisation: Some(name.parse().unwrap()),
            label: label.parse().unwrap(),
            kernel_parameters: parameters.iter().map(|p| p.parse().unwrap()).collect(),
            ..system.clone()
        });
    }
    let contents = BTreeMap::from([
        (boot_file(digest(&kernel)), kernel),
        (boot_file(digest(&initrd)), initrd),
        ("closure".to_owned(), b"a closure".to_vec()),
    ]);
    let described = |(name, bytes): (&String, &Vec<u8>)| {
        (name.clone(), FileDigest { sha256: digest(bytes), size: bytes.len() as u64 })
    };
    let files = contents.iter().map(described).collect();
    let reference =
        GenerationRef { role: draft.role.parse().unwrap(), id: GenerationId::new(draft.number, &system.toplevel) };
    let closure = Closure { paths: 248, nar_size: 783_000_000, file_size: 233_400_000 };
    let generation =
        Generation::new(reference, draft.date.parse().unwrap(), draft.architecture, entries, closure, files);
    (generation.unwrap(), contents)
}

fn toplevel(letter: char, suffix: &str) -> StorePath {
    let hash: String = std::iter::repeat_n(letter, 32).collect();
    format!("/nix/store/{hash}-nixos-system-lab-26.05{suffix}").parse().unwrap()
}
