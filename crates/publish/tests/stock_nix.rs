//! Stock Nix takes what was published from the cache as it lies there.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fs;

use boot_model::Timestamp;
use generations::Layout;
use nix_format::signature::SecretKey;
use publish::{DEFAULT_LEVEL, Publisher, Request, Store};
use support::{TestStore, store_path};

/// More than one zstd frame, and not the same bytes over and over.
fn large_content() -> Vec<u8> {
    (0_u32..5 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Publishes a system with a large path; returns its toplevel and the public key.
fn publish(test: &TestStore) -> (String, String) {
    let (kernel, initrd, library) = test.parts("one");
    let large = test.add("large", &[], |path| fs::write(path, large_content()).unwrap());
    let toplevel = store_path("nixos-system-one");
    test.add("nixos-system-one", &[&toplevel, &kernel, &initrd, &library, &large], |path| {
        test.fill_toplevel(path, &kernel, &initrd);
    });
    let layout = Layout::new(test.state());
    let store = Store::at(test.root());
    let keys = [SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])];
    let publisher = Publisher { layout: &layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &|_| {} };
    let date = Timestamp::from_unix_millis(0);
    let request = Request { role: "lab".parse().unwrap(), toplevel: toplevel.clone(), number: None, date };
    publisher.publish(&request).unwrap();
    (toplevel.to_string(), keys[0].public_key().to_string())
}

#[test]
fn substitutes_and_copies_from_the_cache() {
    let source = TestStore::new();
    let (toplevel, key) = publish(&source);
    let cache = format!("file://{}", Layout::new(source.state()).cache().display());

    let substituted = TestStore::new();
    let root = substituted.file("result");
    let root = root.to_str().unwrap();
    let arguments = [
        "-r",
        &toplevel,
        "--add-root",
        root,
        "--option",
        "substituters",
        &cache,
        "--option",
        "trusted-public-keys",
        &key,
    ];
    let said = substituted.nix("nix-store", &arguments).stderr;
    assert!(!String::from_utf8_lossy(&said).contains("warning"), "{}", String::from_utf8_lossy(&said));
    substituted.nix("nix-store", &["--verify", "--check-contents"]);
    let requisites = substituted.nix("nix-store", &["-qR", &toplevel]).stdout;
    assert_eq!(String::from_utf8(requisites).unwrap().lines().count(), 5);

    let copied = TestStore::new();
    copied.nix("nix", &["copy", "--from", &cache, "--option", "trusted-public-keys", &key, &toplevel]);
    copied.nix("nix-store", &["--verify", "--check-contents"]);

    let stranger = TestStore::new();
    let wrong = SecretKey::from_seed("site-1".parse().unwrap(), &[2; 32]).public_key().to_string();
    let refused = stranger
        .command("nix-store")
        .args(["-r", &toplevel, "--option", "substituters", &cache, "--option", "trusted-public-keys", &wrong])
        .output()
        .unwrap();
    assert!(!refused.status.success(), "another key of the same name must not do");
}
