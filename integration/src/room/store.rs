//! A look into the client's disk from outside, when the client is off.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;
use crate::{Error, Result};

/// The client's `/nix`, mounted from a copy of its disk: a mount writes, if only the journal's replay. Dropping it unmounts.
#[derive(Debug)]
pub struct MountedStore {
    root: PathBuf,
    copy: PathBuf,
}

/// The label of the file system that holds `/nix`.
const LABEL: &[u8] = b"rookery-nix";

const SECTOR: u64 = 512;

impl MountedStore {
    /// Mounts the file system of a disk image below `dir`. The kernel replays its journal, as the client's would.
    pub fn mount(image: &Path, dir: &Path) -> Result<Self> {
        let offset = find(image)?;
        let root = dir.join("mounted");
        let copy = dir.join("mounted.image");
        let nix = root.join("nix");
        fs::create_dir_all(&nix).map_err(Error::io(format!("creating {}", nix.display())))?;
        run(Command::new("cp").arg("--sparse=always").args([image, &copy]))?;
        run(Command::new("mount").args(["-o", &format!("loop,offset={offset}")]).args([&copy, &nix]))?;
        Ok(Self { root, copy })
    }

    /// Stock Nix reads every path and compares it with what its database says. It must find nothing to complain of.
    pub fn verify(&self) -> Result<()> {
        self.nix_store(&["--verify", "--check-contents"]).map(|_| ())
    }

    /// The paths that Nix takes for complete.
    pub fn valid_paths(&self) -> Result<Vec<String>> {
        let printed = self.nix_store(&["--dump-db"])?;
        // A path's record begins with the path itself; its references look alike, but are paths of their own anyway.
        let mut paths: Vec<String> =
            printed.lines().filter(|line| line.starts_with("/nix/store/")).map(str::to_owned).collect();
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// What lies in `/nix`, but for the file system's own.
    pub fn names(&self) -> Result<Vec<String>> {
        let nix = self.root.join("nix");
        let doing = || format!("reading {}", nix.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&nix).map_err(Error::io(doing()))? {
            names.push(entry.map_err(Error::io(doing()))?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != "lost+found");
        Ok(names)
    }

    fn nix_store(&self, arguments: &[&str]) -> Result<String> {
        let remote = format!("local?root={}", self.root.display());
        run(Command::new("nix-store").args(arguments).env("NIX_REMOTE", remote))
    }
}

impl Drop for MountedStore {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.root.join("nix"))) {
            eprintln!("lab: the client's disk stays mounted: {error}");
        }
        // The scratch directory takes along whatever can't be removed here.
        let _ = fs::remove_file(&self.copy);
    }
}

/// The offset of the ext4 file system with our label, by the partition table (GPT: UEFI specification 2.10, 5.3).
fn find(image: &Path) -> Result<u64> {
    let doing = || format!("reading the partition table of {}", image.display());
    let file = File::open(image).map_err(Error::io(doing()))?;
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes).map_err(Error::io(doing()))
    };
    let header = read(SECTOR, 92)?;
    if !header.starts_with(b"EFI PART") {
        return Err(Error::Wrong(format!("{} has no GPT", image.display())));
    }
    let (table, count, size) = (number(&header[72..80]), number(&header[80..84]), number(&header[84..88]));
    for index in 0..count.min(128) {
        let entry = read(table * SECTOR + index * size, 48)?;
        let start = number(&entry[32..40]) * SECTOR;
        if start > 0 && is_ours(&read(start + 1024, 256)?) {
            return Ok(start);
        }
    }
    Err(Error::Wrong(format!("{} has no file system labelled rookery-nix", image.display())))
}

/// An ext4 superblock: magic at 0x38, label at 0x78 (Linux, Documentation/filesystems/ext4/super.rst).
fn is_ours(superblock: &[u8]) -> bool {
    superblock[0x38..0x3a] == [0x53, 0xef] && superblock[0x78..0x88].starts_with(LABEL)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
