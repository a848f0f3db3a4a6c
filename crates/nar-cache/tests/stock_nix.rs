//! Stock Nix substitutes and copies from the server, without a warning: Debian 12's (2.8), and where ROOKERY_NIX226 names a
//! directory with `bin/nix-store`, Debian 13's (2.26).
//!
//! A Nix that is not there is skipped with the reason, or fails the test where ROOKERY_REQUIRE_PEERS=1 says that it must be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;
#[path = "../../publish/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use boot_model::Timestamp;
use boot_model::event::{Content, Event, EventKind};
use common::{Server, State, eventually};
use generations::Layout;
use nar_cache::Bounds;
use nix_format::closure::Closure;
use nix_format::signature::SecretKey;
use publish::{DEFAULT_LEVEL, Publisher, Request, Store};
use support::{TestStore, store_path};

/// One version of Nix: the folder of its programs.
struct Nix {
    programs: PathBuf,
}

impl Nix {
    /// Debian 12's, or `None` where the test is to be skipped.
    fn installed() -> Option<Self> {
        Self::at("/usr/bin".into(), "Debian's nix-bin is not installed")
    }

    fn newer() -> Option<Self> {
        let at = std::env::var_os("ROOKERY_NIX226").map(|directory| Path::new(&directory).join("bin"));
        Self::at(at.unwrap_or_default(), "ROOKERY_NIX226 names no directory with bin/nix-store")
    }

    fn at(programs: PathBuf, lacking: &str) -> Option<Self> {
        if programs.join("nix-store").exists() && programs.join("nix").exists() {
            return Some(Self { programs });
        }
        assert_ne!(std::env::var("ROOKERY_REQUIRE_PEERS").as_deref(), Ok("1"), "{lacking}");
        eprintln!("skipped: {lacking}");
        None
    }

    /// A command over a diverted store. Its HOME is the store's own: Nix keeps narinfos there.
    fn command(&self, store: &TestStore, program: &str, url: &str, key: &str) -> Command {
        let mut command = store.command(self.programs.join(program).to_str().unwrap());
        command.args(["--option", "trusted-public-keys", key, "--option", "substituters", url]);
        command
    }

    fn substitutes_and_copies(&self) {
        let site = Site::new();
        let Site { server, toplevel, key, .. } = &site;
        let url = &format!("http://{}", server.address);

        let substituted = TestStore::new();
        let result = substituted.file("result");
        silently(self.command(&substituted, "nix-store", url, key).args(["-r", toplevel, "--add-root"]).arg(result));
        is_whole(&substituted, toplevel);
        site.sent_each_pack(1);

        let copied = TestStore::new();
        silently(self.command(&copied, "nix", url, key).args(["copy", "--from", url, toplevel]));
        is_whole(&copied, toplevel);
        site.sent_each_pack(2);

        let stranger = TestStore::new();
        let other = SecretKey::from_seed("site-1".parse().unwrap(), &[2; 32]).public_key().to_string();
        let refused = self.command(&stranger, "nix-store", url, &other).args(["-r", toplevel]).output().unwrap();
        assert!(!refused.status.success(), "another key of the same name must not do");
    }
}

/// A server over a published system of five paths, one of them of several zstd frames.
struct Site {
    server: Server,
    toplevel: String,
    key: String,
    _source: TestStore,
}

impl Site {
    fn new() -> Self {
        let source = TestStore::new();
        let (kernel, initrd, library) = source.parts("one");
        let large = source.add("large", &[], |path| fs::write(path, large_content()).unwrap());
        let toplevel = store_path("nixos-system-one");
        source.add("nixos-system-one", &[&toplevel, &kernel, &initrd, &library, &large], |path| {
            source.fill_toplevel(path, &kernel, &initrd);
        });
        let layout = Layout::new(source.state());
        let store = Store::at(source.root());
        let keys = [SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])];
        let publisher =
            Publisher { layout: &layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &|_| {} };
        let date = Timestamp::from_unix_millis(0);
        let request = Request { role: "lab".parse().unwrap(), toplevel: toplevel.clone(), number: None, date };
        publisher.publish(&request).unwrap();
        let server = Server::with(State::of(layout), Bounds::new(100));
        Self { server, toplevel: toplevel.to_string(), key: keys[0].public_key().to_string(), _source: source }
    }

    /// By the server's own events, which are written once the network has taken the last byte.
    fn sent_each_pack(&self, times: u64) {
        let layout = &self.server.state.layout;
        let generation = fs::read_dir(layout.role(&"lab".parse().unwrap())).unwrap().flatten();
        let manifest = generation.map(|entry| entry.path().join(Layout::CLOSURE_NAME)).find(|path| path.is_file());
        let published = fs::read_to_string(manifest.unwrap()).unwrap().parse::<Closure>().unwrap().file_size();
        let packs = |event: Event| match event.kind {
            EventKind::Http { content: Content::Nar, bytes, complete: true, .. } => bytes,
            _ => 0,
        };
        eventually(|| self.server.events().into_iter().map(packs).sum::<u64>() == times * published);
    }
}

/// Random to zstd, so that it stays large.
fn large_content() -> Vec<u8> {
    (0_u32..5 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn silently(command: &mut Command) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {said}");
    for word in ["warning", "error", "retrying"] {
        assert!(!said.contains(word), "{command:?}: {said}");
    }
}

fn is_whole(store: &TestStore, toplevel: &str) {
    store.nix("nix-store", &["--verify", "--check-contents"]);
    let requisites = store.nix("nix-store", &["-qR", toplevel]).stdout;
    assert_eq!(String::from_utf8(requisites).unwrap().lines().count(), 5);
}

#[test]
fn nix_2_8() {
    if let Some(nix) = Nix::installed() {
        nix.substitutes_and_copies();
    }
}

#[test]
fn nix_2_26() {
    if let Some(nix) = Nix::newer() {
        nix.substitutes_and_copies();
    }
}
