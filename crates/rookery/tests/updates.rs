//! What an admin sees of bundles and of collecting.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

#[path = "../../publish/tests/support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::TestStore;

struct Site {
    test: TestStore,
}

impl Site {
    /// Two systems, whose names say that one follows the other.
    fn new() -> Self {
        let site = Self { test: TestStore::new() };
        site.run(&["keys", "generate", "site-1"]);
        for name in ["lab-1", "lab-2"] {
            site.test.system(name);
        }
        site
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.arg("--state").arg(self.test.state()).arg("--secret-key").arg(self.test.file("secret-key"));
        command.args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn publish(&self, system: &str, more: &[&str]) -> String {
        let toplevel = support::store_path(&format!("nixos-system-{system}"));
        let root = self.test.root();
        self.run(&[&["publish", "lab", toplevel.as_str(), "--store", root.to_str().unwrap()], more].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn publishing_has_two_moments() {
    let site = Site::new();
    let first = site.publish("lab-1", &[]);
    assert!(first.ends_with("which lab boots from now on\n"), "nothing to come from: {first}");
    let second = site.publish("lab-2", &[]);
    let lines: Vec<&str> = second.lines().collect();
    assert!(lines[0].ends_with("which lab boots from now on"), "{second}");
    assert!(lines[1].starts_with("bundle from lab/1-") && lines[1].contains(": 2 paths in "), "{second}");
    assert!(lines[2].starts_with("bootable after ") && lines[2].contains("bundles ready after "), "{second}");
    assert_eq!(site.publish("lab-2", &[]).lines().count(), 1, "they are there");

    fs::remove_dir_all(site.test.state().join("bundles")).unwrap();
    assert_eq!(site.publish("lab-2", &["--no-bundles"]).lines().count(), 1);
    assert!(!site.test.state().join("bundles").exists());
    let again: Value = serde_json::from_str(&site.publish("lab-2", &["--json"])).unwrap();
    assert_eq!((&again["new"], &again["problems"]), (&false.into(), &Value::Array(Vec::new())));
    let bundle = &again["bundles"][0];
    let file = fs::metadata(site.test.state().join("bundles/lab").join(format!(
        "{}..{}",
        bundle["old"].as_str().unwrap().trim_start_matches("lab/"),
        bundle["new"].as_str().unwrap().trim_start_matches("lab/"),
    )));
    assert_eq!(bundle["bytes"], file.unwrap().len());
    assert!(again["bundles-seconds"].as_f64() >= again["bootable-seconds"].as_f64());
}

/// It is published and boots; that nobody saves bytes on the way there is told, and no failure.
#[test]
fn a_bundle_that_cannot_be_made_is_a_warning() {
    let site = Site::new();
    site.publish("lab-1", &[]);
    for pack in fs::read_dir(site.test.state().join("cache/nar")).unwrap().flatten() {
        let size = pack.metadata().unwrap().len();
        fs::write(pack.path(), vec![0; size.try_into().unwrap()]).unwrap();
    }
    let toplevel = support::store_path("nixos-system-lab-2");
    let mut publish = site.command(&["publish", "lab", toplevel.as_str(), "--store"]);
    let output = publish.arg(site.test.root()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("which lab boots from now on\n"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot be read from the cache") && said.contains("`rookery verify`"), "{said}");
}

#[test]
fn gc_says_what_went_and_what_waits() {
    let site = Site::new();
    site.publish("lab-1", &[]);
    site.publish("lab-2", &[]);
    assert_eq!(site.run(&["gc"]), "removed no packs, no narinfos and listings, no bundles, no unfinished files\n");
    site.run(&["remove", "lab/1"]);
    let text = site.run(&["gc"]);
    assert!(text.contains("6 files (") && text.contains("wait until 24 hours after they were needed last"), "{text}");
    let foretold = site.json(&["gc", "--grace", "0", "--dry-run"]);
    assert_eq!(foretold["packs"]["files"], 2);
    let mut collected = site.json(&["gc", "--grace", "0"]);
    collected["dry-run"] = true.into();
    assert_eq!(collected, foretold);
    assert_eq!(site.run(&["verify"]), "1 generations are as they were published\n");
}
