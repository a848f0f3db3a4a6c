//! Systems that must not reach a menu: each is refused with a message that says what to do, and leaves nothing visible.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fs;

use boot_model::{StorePath, Timestamp};
use generations::{Layout, Snapshot, scan};
use nix_format::signature::SecretKey;
use publish::{DEFAULT_LEVEL, Publisher, Request, Store};
use serde_json::{Value, json};
use support::{TestStore, store_path};

/// Publishes, expects a refusal, and checks that readers see nothing at all.
fn refusal(test: &TestStore, toplevel: &StorePath) -> String {
    let layout = Layout::new(test.state());
    let store = Store::at(test.root());
    let keys = [SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])];
    let publisher = Publisher { layout: &layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &|_| {} };
    let date = Timestamp::from_unix_millis(0);
    let request = Request { role: "lab".parse().unwrap(), toplevel: toplevel.clone(), number: None, date };
    let refused = publisher.publish(&request).unwrap_err().to_string();
    let snapshot = scan(&layout, &Snapshot::default()).unwrap();
    assert!(snapshot.problems.is_empty() && snapshot.roles.values().all(|role| role.generations.is_empty()));
    let staged = fs::read_dir(layout.cache().join(Layout::NAR_NAME)).into_iter().flatten().flatten();
    assert_eq!(staged.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")).count(), 0);
    refused
}

#[track_caller]
fn assert_refused(change: impl FnOnce(&TestStore, &mut Value), expected: &str) {
    let test = TestStore::new();
    let toplevel = test.system_with("bad", |spec| change(&test, &mut spec["org.nixos.bootspec.v1"]));
    let refused = refusal(&test, &toplevel);
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn labels_with_control_characters() {
    assert_refused(|_, spec| spec["label"] = json!("NixOS\nLABEL evil"), "control character U+000A");
    assert_refused(|_, spec| spec["label"] = json!("NixOS \u{1b}[2J"), "control character U+001B");
}

#[test]
fn kernel_parameters_that_smuggle_or_do_not_fit() {
    assert_refused(|_, spec| spec["kernelParams"] = json!(["quiet", "init=/bin/sh"]), "Rookery sets itself");
    assert_refused(|_, spec| spec["kernelParams"] = json!(["a\nb"]), "control character");
    assert_refused(|_, spec| spec["kernelParams"] = json!(["x".repeat(2047)]), "shorten boot.kernelParams by");
}

#[test]
fn kernels_and_initrds_that_are_not_there() {
    assert_refused(
        |_, spec| spec["kernel"] = json!("/nix/store/none/bzImage"),
        "its kernel /nix/store/none/bzImage is not there",
    );
    assert_refused(|_, spec| spec["kernel"] = json!("/etc/passwd"), "its kernel /etc/passwd is not there");
    assert_refused(
        |_, spec| {
            spec.as_object_mut().unwrap().remove("initrd");
        },
        "it has no initrd",
    );
    assert_refused(|_, spec| spec["init"] = json!("/bin/sh"), "\"/bin/sh\" is no path inside a store path");
}

#[test]
fn other_machines_and_other_systems() {
    assert_refused(|_, spec| spec["system"] = json!("riscv64-linux"), "it is for \"riscv64-linux\"");
    assert_refused(|_, spec| spec["toplevel"] = json!(store_path("other")), "its boot.json describes");
    assert_refused(|_, spec| spec["kernelParams"] = json!("quiet"), "cannot be read as bootspec v1");
}

#[test]
fn secrets_in_the_initrd() {
    let with_script = |script: &'static str| {
        move |test: &TestStore, spec: &mut Value| {
            let path = test.add("append-initrd-secrets", &[], |path| fs::write(path, script).unwrap());
            spec["initrdSecrets"] = json!(path);
        }
    };
    assert_refused(with_script("#!/bin/sh\ncp /etc/secret $1\n"), "remove boot.initrd.secrets");

    // A script that ends at once, or isn't there, appends nothing: then the next fault is found.
    let then_fails = |spec: &mut Value| spec["label"] = json!("");
    assert_refused(
        |test, spec| {
            with_script("#!/bin/sh\nexit 0\ncp /etc/secret $1\n")(test, spec);
            then_fails(spec);
        },
        "the label is empty",
    );
    assert_refused(
        |_, spec| {
            spec["initrdSecrets"] = json!(store_path("nowhere"));
            then_fails(spec);
        },
        "the label is empty",
    );
}

#[test]
fn a_path_that_is_damaged_missing_or_unknown() {
    let test = TestStore::new();
    let toplevel = test.system("one");
    let library = store_path("library-one");
    let file = test.on_disk(&library).join("lib.so");
    let good = fs::read(&file).unwrap();

    fs::write(&file, "flipped").unwrap();
    let refused = refusal(&test, &toplevel);
    assert!(refused.contains(&format!("{library} is damaged")) && refused.contains("--repair-path"), "{refused}");

    fs::remove_dir_all(test.on_disk(&library)).unwrap();
    let refused = refusal(&test, &toplevel);
    assert!(refused.contains(&format!("{library} is missing on disk")), "{refused}");

    fs::create_dir(test.on_disk(&library)).unwrap();
    fs::write(&file, good).unwrap();
    let unknown = store_path("never-built");
    let refused = refusal(&test, &unknown);
    assert!(refused.contains("is not valid in this Nix store"), "{refused}");
}

#[test]
fn a_kernel_that_was_damaged_after_it_was_packed() {
    let test = TestStore::new();
    let toplevel = test.system("one");
    let layout = Layout::new(test.state());
    let store = Store::at(test.root());
    let keys = [SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])];
    let publisher = Publisher { layout: &layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &|_| {} };
    let date = Timestamp::from_unix_millis(0);
    publisher.publish(&Request { role: "lab".parse().unwrap(), toplevel, number: None, date }).unwrap();

    fs::write(test.on_disk(&store_path("linux-6.12.58")).join("bzImage"), "bad kernel").unwrap();
    let toplevel = test.system("two");
    let request = Request { role: "lab".parse().unwrap(), toplevel, number: None, date };
    let refused = publisher.publish(&request).unwrap_err().to_string();
    assert!(refused.contains("linux-6.12.58 is damaged"), "{refused}");
}

#[test]
fn no_nixos_at_all() {
    let test = TestStore::new();
    let path = test.add("hello", &[], |path| fs::create_dir_all(path).unwrap());
    let refused = refusal(&test, &path);
    assert!(refused.contains("no boot.json") && refused.contains("is it a NixOS toplevel?"), "{refused}");
}
