//! docs/configuration.md: its examples load, and it explains every key there is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

use std::fs;
use std::path::{Path, PathBuf};

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

/// The fenced TOML blocks of a page. One that begins with `# hosts.d` is a file of that folder.
fn examples(page: &str) -> Vec<String> {
    let text = fs::read_to_string(repository(page)).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    // Inside a list item the block is indented; TOML doesn't mind.
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_example_in_the_documentation_loads() {
    for (page, least) in [("docs/configuration.md", 2), ("README.md", 1)] {
        let examples = examples(page);
        assert!(examples.len() >= least, "{page} has {} examples", examples.len());
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("hosts.d")).unwrap();
        let file = directory.path().join("rookery.toml");
        for (n, example) in examples.iter().enumerate() {
            match example.starts_with("# hosts.d") {
                true => fs::write(directory.path().join(format!("hosts.d/{n}.toml")), example).unwrap(),
                false => fs::write(&file, example).unwrap(),
            }
            config::load(&file).unwrap_or_else(|error| panic!("{page}: {error}"));
        }
    }
}

#[test]
fn every_key_is_explained() {
    let page = fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let config = config::load(&repository("deploy/rookery.example.toml")).unwrap();
    let printed = config.to_toml();
    let keys: Vec<&str> = printed.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    assert!(keys.len() > 25);
    for key in keys {
        assert!(page.contains(&format!("| `{key}` |")), "docs/configuration.md does not explain {key}");
    }
}
