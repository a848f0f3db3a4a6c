//! Who may depend on whom, and what may come in from outside: read from `cargo metadata`, so that it can't be forgotten.
//!
//! The table below is the architecture of design.md in the form that a build can be held to. The rules for other people's
//! crates stand in deny.toml, which `cargo deny` understands too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each of our crates and the ones of ours that it may use. From the lowest layer to the highest: a crate only ever names
/// crates above itself in this table.
const LAYERS: [(&str, Kind, &[&str]); 16] = [
    // the words that all share
    ("boot-model", Kind::Pure, &[]),
    // engines and formats: what they need to know comes as arguments
    ("nix-format", Kind::Pure, &["boot-model"]),
    ("dhcp-engine", Kind::Pure, &["boot-model"]),
    ("tftp-engine", Kind::Pure, &["boot-model"]),
    ("disk-layout", Kind::Pure, &["boot-model"]),
    // may read files, start nothing
    ("generations", Kind::Library, &["boot-model", "nix-format"]),
    ("config", Kind::Library, &["boot-model"]),
    // may write the generations directory; only the admin's CLI links it
    ("publish", Kind::Library, &["boot-model", "nix-format", "generations"]),
    // a process and nothing of the domain
    ("service", Kind::Library, &[]),
    // binaries, which never use each other
    ("dhcpd", Kind::Binary, &["boot-model", "dhcp-engine", "generations", "config", "service"]),
    ("tftpd", Kind::Binary, &["boot-model", "tftp-engine", "generations", "config", "service"]),
    ("menu-generator", Kind::Binary, &["boot-model", "generations", "config", "service"]),
    // the lease file is read with the code that wrote it
    ("nar-cache", Kind::Binary, &["boot-model", "nix-format", "dhcp-engine", "generations", "config", "service"]),
    // in the initrd every dependency is paid for by each client at each boot
    ("agent", Kind::Binary, &["boot-model", "nix-format", "disk-layout"]),
    ("rookery", Kind::Binary, &["boot-model", "nix-format", "generations", "publish", "config", "service"]),
    // starts the binaries as programs, by path; its benchmarks are clients of their own
    ("integration", Kind::Binary, &["boot-model", "nix-format", "dhcp-engine", "tftp-engine"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No I/O: nothing in [`IMPURE`] may be below it, however deep.
    Pure,
    Library,
    Binary,
}

/// Crates that exist to touch the world outside.
const IMPURE: [&str; 8] = ["tokio", "mio", "notify", "nix", "rustix", "socket2", "hyper", "getrandom"];

/// As [`IMPURE`], where a pure crate's dependency links one all the same: crate, what it links, why that is accepted.
const IMPURE_BUT_ACCEPTED: [(&str, &str, &str); 1] =
    [("dhcp-engine", "getrandom", "dhcproto takes domain names from hickory-proto, which can invent DNS message ids")];

#[test]
fn every_crate_stands_in_the_table() {
    let ours: BTreeSet<_> = Workspace::read().ours.keys().cloned().collect();
    let table: BTreeSet<_> = LAYERS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(ours, table, "add new crates to LAYERS, with what they may use");
}

#[test]
fn the_table_only_points_upwards() {
    for (at, (name, _, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            let above = LAYERS[..at].iter().find(|(other, ..)| other == used);
            let Some((_, kind, _)) = above else { panic!("{name} may not use {used}, which is not above it") };
            assert_ne!(*kind, Kind::Binary, "{name} may not use the binary {used}");
        }
    }
}

#[test]
fn dependencies_follow_the_table() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for (name, _, allowed) in LAYERS {
        for used in &workspace.ours[name].direct {
            if workspace.ours.contains_key(used) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the allowed direction: {wrong:?}");
}

#[test]
fn pure_crates_reach_nothing_that_does_io() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for (name, ..) in LAYERS.iter().filter(|(_, kind, _)| *kind == Kind::Pure) {
        for used in workspace.below(name) {
            let accepted = IMPURE_BUT_ACCEPTED.iter().any(|(by, what, _)| by == name && *what == used);
            if IMPURE.contains(&used.as_str()) && !accepted {
                wrong.push(format!("{name} links {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "pure crates get I/O, time and chance as arguments: {wrong:?}");
}

#[test]
fn licences_are_on_the_list() {
    let rules = Rules::read();
    for package in &Workspace::read().packages {
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{} names no licence", package["name"]));
        assert!(rules.allows(licence), "{} is {licence}: not allowed by deny.toml", package["name"]);
    }
}

#[test]
fn everything_comes_from_one_registry() {
    let packages = Workspace::read().packages;
    let sources: BTreeSet<&str> = packages.iter().filter_map(|package| package["source"].as_str()).collect();
    let registries = sources.iter().filter(|source| source.starts_with("registry+")).count();
    assert!(registries == 1 && sources.len() == 1, "no git, no second registry: {sources:?}");
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let skipped = Rules::read().skipped;
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in &Workspace::read().packages {
        versions.entry(text(&package["name"])).or_default().push(text(&package["version"]));
    }
    let excused = |name: &str, version: &str| {
        skipped.iter().any(|(skip, start)| skip == name && version.starts_with(&format!("{start}.")))
    };
    for (name, versions) in versions {
        let unexcused = versions.iter().filter(|version| !excused(&name, version)).count();
        assert!(unexcused <= 1, "{name} is there as {versions:?}: update, or add a skip with a reason to deny.toml");
        let stale = versions.len() == 1 && excused(&name, &versions[0]);
        assert!(!stale, "{name} is there once: its skip in deny.toml is no longer needed");
    }
}

#[test]
fn licence_expressions_are_read_right() {
    let rules = Rules { licences: vec!["MIT".into(), "ISC".into()], skipped: vec![] };
    for allowed in
        ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC", "X WITH Y OR MIT"]
    {
        assert!(rules.allows(allowed), "{allowed}");
    }
    for refused in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR MIT) AND X", "MIT WITH Y", ""] {
        assert!(!rules.allows(refused), "{refused}");
    }
}

/// What `cargo metadata` says, for the platform that Rookery is made for.
struct Workspace {
    packages: Vec<Value>,
    ours: BTreeMap<String, Ours>,
    /// Package id to the ids that it links or builds with.
    links: BTreeMap<String, Vec<String>>,
}

struct Ours {
    id: String,
    direct: Vec<String>,
}

impl Workspace {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
            .current_dir(root)
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let members: BTreeSet<_> = list(&metadata["workspace_members"]).iter().map(text).collect();
        let packages = list(&metadata["packages"]).to_vec();
        let ours = packages.iter().filter(|package| members.contains(&text(&package["id"])));
        let ours = ours.map(|package| (text(&package["name"]), Ours::new(package))).collect();
        let links = list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), linked(node))).collect();
        Self { packages, ours, links }
    }

    /// The names of all crates that one of ours links, directly or not.
    fn below(&self, name: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut next = vec![self.ours[name].id.clone()];
        while let Some(id) = next.pop() {
            for used in &self.links[&id] {
                if seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        let names = self.packages.iter().filter(|package| seen.contains(&text(&package["id"])));
        names.map(|package| text(&package["name"])).collect()
    }
}

impl Ours {
    /// Dependencies for tests don't count: a test may use whatever proves its point.
    fn new(package: &Value) -> Self {
        let direct = list(&package["dependencies"]).iter().filter(|used| used["kind"] != "dev");
        Self { id: text(&package["id"]), direct: direct.map(|used| text(&used["name"])).collect() }
    }
}

/// What a node of the resolved graph links: neither for tests nor for its build script.
fn linked(node: &Value) -> Vec<String> {
    let normal = |used: &&Value| list(&used["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    list(&node["deps"]).iter().filter(normal).map(|used| text(&used["pkg"])).collect()
}

/// The part of deny.toml that is checked here.
struct Rules {
    licences: Vec<String>,
    skipped: Vec<(String, String)>,
}

impl Rules {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
        let rules: toml::Table =
            std::fs::read_to_string(file).expect("deny.toml is there").parse().expect("deny.toml is TOML");
        let rules = serde_json::to_value(rules).expect("TOML without dates fits JSON");
        let skipped = list(&rules["bans"]["skip"]).iter();
        Self {
            licences: list(&rules["licenses"]["allow"]).iter().map(text).collect(),
            skipped: skipped.map(|skip| (text(&skip["name"]), text(&skip["version"]))).collect(),
        }
    }

    /// Evaluates an SPDX expression (and the older `A/B`). AND binds closer than OR.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut at = 0;
        self.any(&words, &mut at) && at == words.len()
    }

    fn any(&self, words: &[&str], at: &mut usize) -> bool {
        let mut allowed = self.all(words, at);
        while words.get(*at) == Some(&"OR") {
            *at += 1;
            allowed |= self.all(words, at);
        }
        allowed
    }

    fn all(&self, words: &[&str], at: &mut usize) -> bool {
        let mut allowed = self.one(words, at);
        while words.get(*at) == Some(&"AND") {
            *at += 1;
            allowed &= self.one(words, at);
        }
        allowed
    }

    fn one(&self, words: &[&str], at: &mut usize) -> bool {
        let Some(word) = words.get(*at) else { return false };
        *at += 1;
        if *word == "(" {
            let allowed = self.any(words, at);
            *at += 1;
            return allowed;
        }
        if words.get(*at) == Some(&"WITH") {
            // An exception makes it another licence, and none with an exception is on the list.
            *at += 2;
            return false;
        }
        self.licences.iter().any(|licence| licence == word)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
