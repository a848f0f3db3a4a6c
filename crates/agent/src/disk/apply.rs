//! Carries out the steps of a verdict.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use boot_model::EraseConsent;
use disk_layout::{FileSystem, LayoutSpec, PlacedPartition, Step, Verdict};

use super::{Disk, device::LockedDisk, facts, refusal};
use crate::{Exit, Failure, console, machine::failed};

/// mkfs of a large slow disk; beyond that it hangs.
const MKFS_PATIENCE: Duration = Duration::from_secs(600);
/// udev may be looking at a partition that has just appeared.
const MKFS_ATTEMPTS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const SETTLE_SECONDS: &str = "10";

/// Judges the disk once more under the lock (it may have changed since it was chosen), then does what must be done, and
/// returns the verdict that was carried out.
pub(super) fn apply(spec: &LayoutSpec, disk: &Disk, consent: Option<&EraseConsent>) -> Result<Verdict, Failure> {
    let device = &disk.device;
    let cannot =
        |doing: &str, error: &io::Error| failed(doing, device, error, "check the disk and its cable, then boot again");
    let locked = LockedDisk::open(device).map_err(|error| {
        failed("opening for writing", device, &error, "unmount whatever uses the disk, then boot again")
    })?;
    let mut facts = disk.facts.clone();
    facts::read_contents(locked.file(), &mut facts);
    let verdict = disk_layout::plan(spec, &facts, consent);
    if let Verdict::Refuse(reasons) = &verdict {
        return Err(refusal(spec, Some(device), reasons));
    }
    let steps = disk_layout::steps(spec, &facts, &verdict);
    let mut nodes = Vec::new();
    for step in &steps {
        match step {
            Step::Write { at, bytes, what } => {
                locked.write(*at, bytes).map_err(|error| cannot(&format!("writing the {what} of"), &error))?;
            }
            Step::Zero { at, len } => {
                locked.zero(*at, *len).map_err(|error| cannot("removing old signatures from", &error))?;
            }
            Step::Flush => locked.flush().map_err(|error| cannot("flushing", &error))?,
            Step::Announce(partitions) => {
                locked
                    .announce(partitions)
                    .map_err(|error| cannot("telling the kernel about the partitions of", &error))?;
                nodes = partitions.iter().map(|p| p.number).collect();
            }
            Step::Format(partition) => format(&locked, partition)?,
        }
    }
    for number in &nodes {
        locked.partition_node(*number).map_err(|error| cannot("waiting for the partitions of", &error))?;
    }
    facts::read_contents(locked.file(), &mut facts);
    let result = disk_layout::plan(spec, &facts, None);
    if !matches!(result, Verdict::Match(_)) {
        let sentence =
            format!("{} was laid out and still reads as: {result}; the disk may be failing", device.display());
        return Err(Failure::new(Exit::Failure, sentence));
    }
    drop(locked);
    settle();
    Ok(verdict)
}

fn format(locked: &LockedDisk, partition: &PlacedPartition) -> Result<(), Failure> {
    let label = &partition.label;
    let node = locked
        .partition_node(partition.number)
        .map_err(|error| Failure::new(Exit::Failure, format!("partition {label}: {error}; boot again")))?;
    console::say(&format!("rookery: making {} on {label} ({})", partition.fs, console::bytes(partition.len)));
    let mut attempt = 1;
    loop {
        let outcome = mkfs(partition, &node).and_then(|()| File::open(&node)?.sync_all());
        match outcome {
            Ok(()) => return Ok(()),
            Err(_) if attempt < MKFS_ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(error) => {
                let sentence = format!("making {} on partition {label} failed: {error}; check the disk", partition.fs);
                return Err(Failure::new(Exit::Failure, sentence));
            }
        }
    }
}

/// Runs the program that makes the file system; it is found by PATH.
fn mkfs(partition: &PlacedPartition, node: &Path) -> io::Result<()> {
    let (program, options, label_option): (&str, &[&str], &str) = match partition.fs {
        FileSystem::None => return Ok(()),
        FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F"], "-L"),
        FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"], "-L"),
        FileSystem::Btrfs => ("mkfs.btrfs", &["-q", "-f"], "-L"),
        FileSystem::Vfat => ("mkfs.vfat", &["-F", "32"], "-n"),
        FileSystem::Swap => ("mkswap", &[], "-L"),
    };
    let mut command = Command::new(program);
    command.args(options);
    if let Some(label) = &partition.fs_label {
        command.args([label_option, label]);
    }
    // What it has to say on success is no news; its errors belong on the console.
    let child = command.arg(node).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut child =
        child.map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}; is it in the initrd?")))?;
    let begun = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("{program}: {status}"))),
            None if begun.elapsed() > MKFS_PATIENCE => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{program} did not end")));
            }
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// udev, where it runs, now makes the links by label; stage 1 mounts by them. Without udev there is nothing to wait for.
fn settle() {
    let _ = Command::new("udevadm")
        .args(["settle", "--timeout", SETTLE_SECONDS])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
