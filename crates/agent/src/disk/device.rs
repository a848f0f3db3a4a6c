//! A disk that is being written: locked, flushed when it must be, its partitions made known to the kernel.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use disk_layout::PlacedPartition;
use nix::libc;

use super::facts::sysfs;

/// How long somebody else may hold the disk (udev looks at new disks).
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
/// How long a partition's device node may take.
const NODE_PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const ZEROS: usize = 1 << 20;

/// Open for writing, under `flock(LOCK_EX)`: udev does not re-read a disk that is locked, so partitions do not come and go under mkfs
/// (<https://systemd.io/BLOCK_DEVICE_LOCKING/>).
pub(super) struct LockedDisk {
    file: File,
    node: PathBuf,
    sysfs: PathBuf,
}

impl LockedDisk {
    /// Opens a disk that nothing uses.
    pub(super) fn open(node: &Path) -> io::Result<Self> {
        // O_EXCL on a block device fails while it, or a partition of it, is mounted. It is not kept: with it, mkfs could not
        // open the partitions.
        drop(OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(node)?);
        let file = OpenOptions::new().read(true).write(true).open(node)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOOK_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other("another program holds the disk's lock"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let sysfs = sysfs(file.metadata()?.rdev());
        Ok(Self { file, node: node.to_owned(), sysfs })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    pub(super) fn zero(&self, mut at: u64, mut len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        while len > 0 {
            let part = len.min(ZEROS as u64);
            self.write(at, &zeros[..part as usize])?;
            (at, len) = (at + part, len - part);
        }
        Ok(())
    }

    /// Returns when everything is on the medium, the drive's own cache included.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Makes the kernel know exactly these partitions. One by one, which leaves alone what is already right; where the kernel
    /// can't, by making it read the table again.
    pub(super) fn announce(&self, partitions: &[PlacedPartition]) -> io::Result<()> {
        let wanted: Vec<Extent> = partitions.iter().map(|p| (p.number, p.at, p.len)).collect();
        let known = self.known_partitions();
        let one_by_one = || -> io::Result<()> {
            for (number, ..) in known.iter().filter(|known| !wanted.contains(known)) {
                self.partition_ioctl(BLKPG_DEL_PARTITION, (*number, 0, 0))?;
            }
            wanted
                .iter()
                .filter(|wanted| !known.contains(wanted))
                .try_for_each(|p| self.partition_ioctl(BLKPG_ADD_PARTITION, *p))
        };
        one_by_one().or_else(|_| self.reread_table())
    }

    /// The device node of a partition, once it is there.
    pub(super) fn partition_node(&self, number: u32) -> io::Result<PathBuf> {
        let mut name = self.node.clone().into_os_string();
        // nvme0n1p1, but sda1.
        if self.node.to_string_lossy().ends_with(|c: char| c.is_ascii_digit()) {
            name.push("p");
        }
        name.push(number.to_string());
        let node = PathBuf::from(name);
        let begun = Instant::now();
        while !node.exists() {
            if begun.elapsed() > NODE_PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} did not appear", node.display())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(node)
    }

    /// As the kernel sees them now.
    fn known_partitions(&self) -> Vec<Extent> {
        let Ok(entries) = fs::read_dir(&self.sysfs) else { return Vec::new() };
        let number = |path: &Path, file: &str| fs::read_to_string(path.join(file)).ok()?.trim().parse::<u64>().ok();
        let extent = |path: PathBuf| {
            // sysfs counts in 512 bytes whatever the disk does.
            let (start, len) = (number(&path, "start")? * 512, number(&path, "size")? * 512);
            Some((number(&path, "partition")? as u32, start, len))
        };
        entries.flatten().filter_map(|entry| extent(entry.path())).collect()
    }

    #[allow(unsafe_code)]
    fn partition_ioctl(&self, operation: libc::c_int, (number, at, len): Extent) -> io::Result<()> {
        let mut partition = BlkpgPartition {
            start: at.cast_signed(),
            length: len.cast_signed(),
            number: number.cast_signed(),
            device_name: [0; 64],
            volume_name: [0; 64],
        };
        let argument = BlkpgArgument {
            operation,
            flags: 0,
            data_len: size_of::<BlkpgPartition>() as libc::c_int,
            data: &raw mut partition,
        };
        // SAFETY: the descriptor is open, and `argument` and the `partition` that it points to are laid out as
        // <linux/blkpg.h> says and live until the call returns.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), BLKPG as _, &raw const argument) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    #[allow(unsafe_code)]
    fn reread_table(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open and BLKRRPART takes no argument.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), BLKRRPART as _) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Number, offset in bytes, length in bytes.
type Extent = (u32, u64, u64);

/// `struct blkpg_ioctl_arg` of <linux/blkpg.h>.
#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    data_len: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `struct blkpg_partition` of <linux/blkpg.h>.
#[repr(C)]
struct BlkpgPartition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

const BLKPG: u32 = 0x1269;
const BLKRRPART: u32 = 0x125F;
const BLKPG_ADD_PARTITION: libc::c_int = 1;
const BLKPG_DEL_PARTITION: libc::c_int = 2;
