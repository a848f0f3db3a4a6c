use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Disk;
use crate::lab::Lab;
use crate::process::{Process, run};
use crate::{Error, Result};

/// A disk of the lab as a block device of this machine, for file systems that this machine's kernel mounts: no virtual machine has
/// to boot to see what survives a power cut. Dropping it detaches it; unmount before.
///
/// Kernels without an NBD client have loop devices. QEMU's storage daemon shows the disk as a file, on which the loop device lies:
/// each write of the device is a write to the disk, each flush a flush.
#[derive(Debug)]
pub struct BlockDevice {
    path: PathBuf,
    daemon: Process,
}

/// How long the storage daemon may take to begin.
const READY: Duration = Duration::from_secs(30);

impl BlockDevice {
    /// Attaches a disk. Not two devices to one disk.
    pub fn attach(lab: &Lab, disk: &Disk, name: &str) -> Result<Self> {
        let file = lab.scratch().join(format!("{name}.device"));
        File::create(&file).map_err(Error::io(format!("creating {}", file.display())))?;
        let node = format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", disk.socket().display());
        let export = format!("type=fuse,id=export,node-name=disk,mountpoint={},writable=on", file.display());
        // Not in the lab's network namespace: `ip netns exec` has mounts of its own, and nobody else would see the file.
        let mut daemon = Command::new("setpriv");
        daemon.args(["--pdeathsig", "KILL", "--", "qemu-storage-daemon", "--blockdev", &node, "--export", &export]);
        let mut daemon = Process::start(lab.log(), "storage-daemon", &mut daemon)?;
        lab.poll("the disk as a file", READY, || {
            if daemon.exited()?.is_some() {
                let (what, origin) = ("the disk as a file".into(), "qemu-storage-daemon".into());
                return Err(Error::Ended { what, origin });
            }
            Ok(fs::metadata(&file).is_ok_and(|file| file.len() == disk.size()).then_some(()))
        })?;
        // Buffered: with direct I/O through FUSE the loop device of Linux 6.18 writes garbage into ext4's first inodes.
        let path = run(Command::new("losetup").args(["--find", "--show", "--direct-io=off"]).arg(&file))?;
        Ok(Self { path: path.trim().into(), daemon })
    }

    /// `/dev/loop3`, say.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("losetup").arg("--detach").arg(&self.path)) {
            eprintln!("lab: {} stays attached: {error}", self.path.display());
        }
        // SIGTERM, so that it takes its mount away.
        if let Err(error) = self.daemon.stop() {
            eprintln!("lab: the storage daemon did not end in order: {error}");
        }
    }
}
