//! `disk` on a loop device with a real mkfs.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::support::{agent, have, peer, said, skip, text};

const SPEC: &str = r#"{
    "version": 1, "site": "school", "role": "lab",
    "partitions": [
        {"label": "nb-nix", "type": "0fc63daf-8483-4772-8e79-3d69d8477de4", "size": {"min-mib": 64}, "fs": "ext4", "fs-label": "nb-nix", "mount": "/nix"},
        {"label": "nb-swap", "type": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "size": {"min-mib": 16, "max-mib": 16}, "fs": "swap"}
    ]}"#;

/// An image file as a disk.
struct Disk {
    dir: TempDir,
    node: PathBuf,
}

impl Disk {
    fn new() -> Option<Self> {
        if !have(&["losetup", "mkfs.ext4", "mkswap", "blkid"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        if fs::metadata(dir.path()).unwrap().uid() != 0 {
            skip("loop devices need root");
            return None;
        }
        fs::write(dir.path().join("layout.json"), SPEC).unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let attached = Command::new("losetup").args(["-P", "-f", "--show", text(&image)]).output().unwrap();
        if !attached.status.success() {
            skip("this machine gives no loop devices");
            return None;
        }
        let node = PathBuf::from(String::from_utf8(attached.stdout).unwrap().trim());
        Some(Self { dir, node })
    }

    fn run(&self, verb: &str) -> std::process::Output {
        let files = ["layout.json", "cmdline", "run"].map(|name| self.dir.path().join(name));
        let [spec, line, run] = files.each_ref().map(|file| text(file));
        agent(&["disk", verb, "--spec", spec, "--disk", text(&self.node), "--cmdline", line, "--run-dir", run])
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(&self.node).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.node).unwrap();
        file.write_all_at(bytes, at).unwrap();
        file.sync_all().unwrap();
    }

    fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.node.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.node).status();
    }
}

fn probed(node: &Path, tag: &str) -> String {
    peer(Command::new("blkid").args(["-p", "-o", "value", "-s", tag]).arg(node)).trim().to_owned()
}

#[test]
fn a_blank_disk_is_laid_out_once() {
    let Some(disk) = Disk::new() else { return };
    let plan = disk.run("plan");
    assert_eq!(plan.status.code(), Some(0), "{}", said(&plan));
    assert!(said(&plan).contains(": create"), "{}", said(&plan));

    let first = disk.run("apply");
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    assert_eq!(probed(&disk.partition(2), "TYPE"), "ext4");
    assert_eq!(probed(&disk.partition(2), "LABEL"), "nb-nix");
    assert_eq!(probed(&disk.partition(2), "PART_ENTRY_NAME"), "nb-nix");
    assert_eq!(probed(&disk.partition(3), "TYPE"), "swap");
    assert_eq!(probed(&disk.node, "PTTYPE"), "gpt");

    let before = disk.bytes();
    let second = disk.run("apply");
    assert_eq!(second.status.code(), Some(0), "{}", said(&second));
    assert!(said(&second).contains("is laid out as required"), "{}", said(&second));
    assert!(before == disk.bytes(), "a disk that matches is not written");

    // Lost label: ours, so it is made anew.
    disk.write((2 << 20) + 1024 + 0x78, b"other-label");
    let third = disk.run("apply");
    assert_eq!(third.status.code(), Some(0), "{}", said(&third));
    assert_eq!(probed(&disk.partition(2), "LABEL"), "nb-nix");
}

#[test]
fn somebody_elses_disk_is_not_touched() {
    let Some(disk) = Disk::new() else { return };
    peer(Command::new("mkfs.ext4").args(["-q", "-F", "-L", "photos"]).arg(&disk.node));
    let before = disk.bytes();
    let output = disk.run("apply");
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("THIS MACHINE'S DISK WAS NOT TOUCHED"), "{}", said(&output));
    assert!(said(&output).contains("an ext4 file system labelled \"photos\""), "{}", said(&output));
    assert_eq!(fs::read_to_string(disk.dir.path().join("run/on-refuse")).unwrap(), "halt", "what stage 1 does now");
    assert!(before == disk.bytes());
}

#[test]
fn a_spec_with_a_mistake_is_named() {
    let Some(disk) = Disk::new() else { return };
    fs::write(disk.dir.path().join("layout.json"), SPEC.replace("\"fs\": \"swap\"", "\"fs\": \"ntfs\"")).unwrap();
    let output = disk.run("apply");
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("layout.json") && said(&output).contains("ntfs"), "{}", said(&output));
}
