//! A client's partition: a file system that nobody has used, on this machine's disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;
use crate::{Error, Result};

/// Dropping it unmounts and removes it.
pub(super) struct Partition {
    image: PathBuf,
    mounted: PathBuf,
}

/// Bytes: a closure, and what Nix needs besides.
const SIZE: u64 = 3 << 30;

impl Partition {
    /// Its image lies in this directory, which decides on which disk.
    pub(super) fn at(directory: &Path) -> Result<Self> {
        let mounted = directory.join("client");
        fs::create_dir_all(&mounted).map_err(Error::io(format!("creating {}", mounted.display())))?;
        Ok(Self { image: directory.join("partition"), mounted })
    }

    /// Makes it anew, and returns where it is mounted. A directory of a file system in use would also measure what was removed from it a
    /// moment ago: ext4 looks for inodes that were not freed in the last seconds.
    pub(super) fn empty(&self) -> Result<PathBuf> {
        self.clear();
        let doing = || format!("making {}", self.image.display());
        File::create(&self.image).and_then(|file| file.set_len(SIZE)).map_err(Error::io(doing()))?;
        run(Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&self.image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted))?;
        nix::unistd::sync();
        Ok(self.mounted.clone())
    }

    /// Nothing of it need be there.
    fn clear(&self) {
        let _ = run(Command::new("umount").arg(&self.mounted));
        let _ = fs::remove_file(&self.image);
        for extension in ["home", "surroundings"] {
            let _ = fs::remove_dir_all(self.mounted.with_extension(extension));
        }
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.clear();
    }
}
