//! The verbs that need no network: what they print and how they exit.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
[[subnet]]
interface = "nosuchcard0"
address = "10.77.0.1/24"
pools = ["10.77.0.100-10.77.0.199"]
unknown = { role = "lab" }

[[role]]
name = "lab"
title = "Lab"
"#;

fn dhcpd(directory: &Path, config: &str, arguments: &[&str]) -> (i32, String, String) {
    let file = directory.join("rookery.toml");
    fs::write(&file, format!("state-directory = {:?}\n{config}", directory.join("state"))).unwrap();
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_rookery-dhcpd")).arg("--config").arg(file).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn check_says_what_would_be_served_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, err) = dhcpd(directory.path(), CONFIG, &["check"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "nosuchcard0 (there is no such interface now): 10.77.0.0/24 as 10.77.0.1, 100 addresses in pools",
        "bios boots lpxelinux.0",
        "role lab: no generation: no boot file is named",
    ] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    assert!(!directory.path().join("state").exists());
}

#[test]
fn check_fails_for_what_is_there_and_cannot_be_served() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::create_dir_all(state.join("generations/lab/nonsense")).unwrap();
    fs::create_dir_all(state.join("loaders")).unwrap();
    // As `rookery loaders install` writes it.
    fs::write(
        state.join("loaders/loaders.json"),
        "{\n  \"bios\": \"lpxelinux.0\",\n  \"http-x64\": \"snponly.efi\",\n  \"uefi-x64\": \"snponly.efi\"\n}\n",
    )
    .unwrap();
    fs::write(state.join("loaders/lpxelinux.0"), "a loader").unwrap();
    let (code, out, err) = dhcpd(directory.path(), CONFIG, &["check"]);
    assert_eq!((code, err.trim()), (1, "rookery-dhcpd: 2 things that are there cannot be served; each is named above"));
    for line in ["bios boots lpxelinux.0\n", "uefi-x64 boots snponly.efi\n", "http-x64 boots snponly.efi\n"] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    assert!(out.contains("lab/nonsense: its name is neither"), "{out}");
    assert!(out.contains("loaders/snponly.efi: loaders.json names it and it is not there"), "{out}");

    fs::write(state.join("loaders/loaders.json"), "{\"biso\": \"x\"}").unwrap();
    let (code, _, err) = dhcpd(directory.path(), CONFIG, &["check"]);
    assert_eq!(code, 78);
    assert!(err.contains("loaders.json: unknown variant `biso`") && err.contains("rookery loaders install"), "{err}");
}

#[test]
fn check_names_classes_and_loaders_that_only_they_want() {
    let directory = tempfile::tempdir().unwrap();
    let loaders = directory.path().join("state/loaders");
    fs::create_dir_all(&loaders).unwrap();
    fs::write(loaders.join("loaders.json"), "{\"bios\": \"lpxelinux.0\"}").unwrap();
    fs::write(loaders.join("lpxelinux.0"), "a loader").unwrap();
    let classes = "[[class]]\nname = \"Office\"\ncircuit = [\"eth1\"]\nboot = \"nothing\"\n\
                   [[class]]\nname = \"Odd\"\nmac = [\"52:54:00\"]\nboot = { loader = \"ipxe.efi\" }\n";
    let (code, out, _) = dhcpd(directory.path(), &format!("{CONFIG}{classes}"), &["check"]);
    assert_eq!(code, 1);
    assert!(out.contains("class Office boots nothing\nclass Odd boots ipxe.efi\n"), "{out}");
    assert!(out.contains("loaders/ipxe.efi: the class Odd names it and it is not there"), "{out}");
    fs::write(loaders.join("ipxe.efi"), "a loader").unwrap();
    assert_eq!(dhcpd(directory.path(), &format!("{CONFIG}{classes}"), &["check"]).0, 0);
}

#[test]
fn leases_of_a_server_that_never_ran() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(dhcpd(directory.path(), CONFIG, &["leases", "--json"]), (0, "[]\n".into(), String::new()));
    assert!(dhcpd(directory.path(), CONFIG, &["leases"]).1.starts_with("ADDRESS"));
}

#[test]
fn explain_reads_captures_only() {
    let directory = tempfile::tempdir().unwrap();
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/../dhcp-engine/fixtures/bios-plain.pcap");
    let (code, out, _) = dhcpd(directory.path(), CONFIG, &["explain", capture]);
    assert_eq!(code, 0);
    // No generation is published in this state directory.
    assert!(out.contains("no boot file: role lab has no generation for x86_64-linux that can be served"), "{out}");
    let (code, _, err) = dhcpd(directory.path(), CONFIG, &["explain", "/dev/null"]);
    assert_eq!(code, 64);
    assert!(err.contains("/dev/null: this is no classic pcap file; convert it"), "{err}");
}

#[test]
fn exit_codes_and_messages() {
    let directory = tempfile::tempdir().unwrap();
    let (code, _, err) = dhcpd(directory.path(), &CONFIG.replace("pools", "pool"), &[]);
    assert_eq!(code, 78);
    assert!(err.contains("pool"), "{err}");
    let (code, _, err) = dhcpd(directory.path(), CONFIG, &["run"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot serve port 67 on nosuchcard0"), "{err}");
    assert_eq!(dhcpd(directory.path(), CONFIG, &["--no-such-flag"]).0, 64);
}
