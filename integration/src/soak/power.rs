//! A client's disk under the kernel of this machine: mounted, used, and cut off from its power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::FileSystem;
use crate::dice::Dice;
use crate::nbd::{BlockDevice, Disk};
use crate::process::run;
use crate::{Error, Lab, Result};

/// A disk that is mounted at `<root>/nix`. Dropping it unmounts.
#[derive(Debug)]
pub(super) struct Powered<'a> {
    lab: &'a Lab,
    nix: PathBuf,
    file_system: FileSystem,
    /// Dropped in this order, and after the file system is unmounted.
    _device: BlockDevice,
    disk: Disk,
}

/// What became of the sectors that were written and not flushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) kept: u64,
    pub(super) lost: u64,
}

impl<'a> Powered<'a> {
    /// Makes a file system on an empty disk.
    pub(super) fn blank(lab: &'a Lab, root: &Path, file_system: FileSystem, disk: Disk) -> Result<Self> {
        let device = BlockDevice::attach(lab, &disk, "blank")?;
        run(&mut match file_system {
            FileSystem::Ext4 => command("mke2fs", &["-q", "-t", "ext4", "-L", "rookery-nix"], device.path()),
            FileSystem::Xfs => command("mkfs.xfs", &["-q", "-L", "rookery-nix"], device.path()),
        })?;
        Self::mount(lab, root, file_system, device, disk)
    }

    /// As stage 1 does after a power cut: checks the file system as far as its journal goes, and mounts it.
    pub(super) fn on(lab: &'a Lab, root: &Path, file_system: FileSystem, disk: Disk, name: &str) -> Result<Self> {
        let device = BlockDevice::attach(lab, &disk, name)?;
        if file_system == FileSystem::Ext4 {
            let status =
                command("e2fsck", &["-p"], device.path()).output().map_err(Error::io("running e2fsck"))?.status;
            // 1: corrected; 2: corrected, and a reboot is needed where it was mounted
            if status.code().is_none_or(|code| code >= 4) {
                return Err(Error::Wrong(format!("e2fsck gave the file system up: {status}")));
            }
        }
        Self::mount(lab, root, file_system, device, disk)
    }

    fn mount(lab: &'a Lab, root: &Path, file_system: FileSystem, device: BlockDevice, disk: Disk) -> Result<Self> {
        let nix = root.join("nix");
        fs::create_dir_all(&nix).map_err(Error::io(format!("creating {}", nix.display())))?;
        run(Command::new("mount").args(["-t", file_system.name(), "-o", "noatime"]).arg(device.path()).arg(&nix))?;
        Ok(Self { lab, nix, file_system, _device: device, disk })
    }

    /// What this disk would be had the power gone now. It goes on itself, until it is dropped: whatever is still written to it, the
    /// survivor does not see.
    pub(super) fn cut(&self, name: &str, dice: &mut Dice, percent: f64) -> Result<(Disk, Cut)> {
        let (disk, kept, lost) =
            self.disk.survivor(self.lab.scratch(), name, dice, percent, self.file_system.block())?;
        Ok((disk, Cut { kept, lost }))
    }

    /// Another disk with the same content, all of it flushed.
    pub(super) fn copy(&self, name: &str) -> Result<Disk> {
        run(Command::new("sync").arg("--file-system").arg(&self.nix))?;
        copy(&self.disk, self.lab, name)
    }
}

impl Drop for Powered<'_> {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.nix)) {
            eprintln!("lab: {} with {} stays mounted: {error}", self.nix.display(), self.file_system.name());
        }
    }
}

/// Another disk with everything that was written to this one.
pub(super) fn copy(disk: &Disk, lab: &Lab, name: &str) -> Result<Disk> {
    disk.survivor(lab.scratch(), name, &mut Dice::new(0), 100.0, 512).map(|(disk, ..)| disk)
}

fn command(program: &str, arguments: &[&str], device: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg(device);
    command
}
