//! docs/disk.md: its layouts are layouts, and it explains every key and word there is.

use std::collections::BTreeSet;

use disk_layout::{LayoutSpec, Persist};

const PAGE: &str = include_str!("../../../../docs/disk.md");

fn examples() -> Vec<&'static str> {
    PAGE.split("```json\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect()
}

#[test]
fn every_example_is_a_layout() {
    let specs: Vec<LayoutSpec> = examples()
        .iter()
        .map(|example| serde_json::from_str(example).unwrap_or_else(|error| panic!("{error} in {example}")))
        .collect();
    let [smallest, written_down, kept] = specs.as_slice() else { panic!("{} examples", specs.len()) };
    assert_eq!(smallest, written_down, "the defaults are what the page says");
    let persist: Vec<Persist> = kept.partitions.iter().map(|p| p.persist).collect();
    assert_eq!(persist, [Persist::Keep, Persist::WipeOnRecreate, Persist::FormatEveryBoot, Persist::WipeOnRecreate]);
}

/// What could have stood there instead, as serde lists it.
fn instead(from: &str, to: &str) -> BTreeSet<String> {
    let full = examples().remove(2);
    assert!(full.contains(from), "{from}");
    let error = serde_json::from_str::<LayoutSpec>(&full.replacen(from, to, 1)).expect_err(to).to_string();
    let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{to}: {error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_and_word_is_explained() {
    let places = [
        ("\"version\"", "\"x\"", 7),
        ("\"label\"", "\"x\"", 7),
        ("\"max-mib\"", "\"x\"", 3),
        ("\"min-size-mib\"", "\"x\"", 2),
        ("\"path\"", "\"x\"", 5),
        ("\"fs\": \"ext4\"", "\"fs\": \"x\"", 6),
        ("\"keep\"", "\"x\"", 3),
        ("\"wipe\"", "\"x\"", 3),
        ("\"reboot\"", "\"x\"", 2),
        ("\"transport\": \"nvme\"", "\"transport\": \"x\"", 8),
    ];
    for (from, to, least) in places {
        let words = instead(from, to);
        assert!(words.len() >= least, "{from}: {words:?}");
        for word in words {
            assert!(PAGE.contains(&format!("`{word}`")), "docs/disk.md does not explain {word}");
        }
    }
}
