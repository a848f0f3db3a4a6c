//! What sysfs and the disks themselves say. Everything here only reads.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::AsFd,
        unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use disk_layout::{DiskFacts, Transport};

use super::Disk;
use crate::{Exit, Failure, machine::failed};

/// Disks appear while drivers load; a machine without any is believed after this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the first disk, others may be a moment behind; choosing the largest must see them.
const SETTLE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const BLOCK: &str = "/sys/class/block";

/// All disks of the machine, by name, and a sentence for each that could not be looked at. Waits until there is one, and a
/// moment longer.
pub(super) fn wait_for_any() -> (Vec<Disk>, Vec<String>) {
    let begun = Instant::now();
    while real_disks().is_empty() && begun.elapsed() < PATIENCE {
        std::thread::sleep(LOOK_AGAIN);
    }
    // A disk with a loose cable comes and goes for ever.
    let deadline = Instant::now() + PATIENCE;
    let mut count = 0;
    while real_disks().len() != count && Instant::now() < deadline {
        count = real_disks().len();
        std::thread::sleep(SETTLE);
    }
    let (mut disks, mut unreadable) = (Vec::new(), Vec::new());
    for name in real_disks() {
        match of_device(&Path::new("/dev").join(name)) {
            Ok(disk) => disks.push(disk),
            Err(failure) => unreadable.push(failure.sentence),
        }
    }
    (disks, unreadable)
}

/// One disk, by its device node. An image file will do for looking at.
pub(super) fn of_device(device: &Path) -> Result<Disk, Failure> {
    let cannot = |error: io::Error| failed("reading disk", device, &error, "check the device");
    let mut file = File::open(device).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mut facts = if metadata.file_type().is_block_device() {
        described(&sysfs(metadata.rdev())).map_err(cannot)?
    } else {
        DiskFacts { name: device.display().to_string(), sector_size: 512, ..DiskFacts::default() }
    };
    if facts.name.is_empty() {
        let sentence = format!("{} is a partition; name the whole disk", device.display());
        return Err(Failure::new(Exit::Usage, sentence));
    }
    facts.size = file.seek(SeekFrom::End(0)).map_err(cannot)?;
    read_contents(&file, &mut facts);
    Ok(Disk { device: device.to_owned(), facts })
}

/// Reads what the verdict needs. A region that can't be read stays out, and the verdict will be a refusal.
pub(super) fn read_contents(file: &File, facts: &mut DiskFacts) {
    facts.contents = disk_layout::Contents::default();
    drop_cached_pages(file);
    loop {
        let mut read_any = false;
        for range in disk_layout::wanted(facts) {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            if file.read_exact_at(&mut bytes, range.start).is_ok() {
                facts.contents.insert(range.start, bytes);
                read_any = true;
            }
        }
        if !read_any {
            return;
        }
    }
}

/// The directory of a block device in sysfs.
pub(super) fn sysfs(device_number: u64) -> PathBuf {
    let (major, minor) = (nix::sys::stat::major(device_number), nix::sys::stat::minor(device_number));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// Pages may be older than the medium if partitions were written through another device node.
fn drop_cached_pages(file: &File) {
    let _ = nix::fcntl::posix_fadvise(file.as_fd(), 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// The name stays empty for a partition.
fn described(directory: &Path) -> io::Result<DiskFacts> {
    let directory = fs::canonicalize(directory)?;
    if directory.join("partition").exists() {
        return Ok(DiskFacts::default());
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = directory.to_string_lossy().trim_start_matches("/sys/devices/").to_owned();
    let path = path.split("/block/").next().unwrap_or(&path).to_owned();
    let text = |file: &str| {
        let text = fs::read(directory.join(file)).ok()?;
        let text = String::from_utf8_lossy(&text).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
        (!text.is_empty()).then_some(text)
    };
    let number = |file: &str| text(file).and_then(|text| text.parse::<u32>().ok());
    Ok(DiskFacts {
        transport: transport(&path, &name),
        model: text("device/model"),
        // virtio-blk has it beside the queue, NVMe below device, SCSI only in the vital product data.
        serial: text("serial").or_else(|| text("device/serial")).or_else(|| product_serial(&directory)),
        wwn: text("wwid").or_else(|| text("device/wwid")),
        removable: number("removable") == Some(1),
        read_only: number("ro") == Some(1),
        sector_size: number("queue/logical_block_size").unwrap_or(0),
        name,
        path,
        ..DiskFacts::default()
    })
}

/// Page 0x80: four bytes of header, then the serial number.
fn product_serial(directory: &Path) -> Option<String> {
    let mut page = Vec::new();
    File::open(directory.join("device/vpd_pg80")).ok()?.take(256).read_to_end(&mut page).ok()?;
    let serial = String::from_utf8_lossy(page.get(4..)?).trim().to_owned();
    (!serial.is_empty()).then_some(serial)
}

/// From the path in sysfs, the most specific word first: a USB case holds a SCSI disk.
fn transport(path: &str, name: &str) -> Transport {
    let by_path = [
        // A drive with several controllers, under the kernel's own multipath, hangs on none of them.
        ("virtual/nvme-subsystem/", Transport::Nvme),
        ("virtual", Transport::Virtual),
        ("/usb", Transport::Usb),
        ("/nvme", Transport::Nvme),
        ("/virtio", Transport::Virtio),
        ("/mmc", Transport::Mmc),
        ("/ata", Transport::Sata),
        ("/host", Transport::Scsi),
    ];
    let virtual_names = ["loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd"];
    if virtual_names.iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    }) {
        return Transport::Virtual;
    }
    by_path.iter().find(|(word, _)| path.contains(word)).map_or(Transport::Other, |(_, transport)| *transport)
}

/// Names of the whole disks that are hardware and not empty drives.
fn real_disks() -> Vec<String> {
    let Ok(entries) = fs::read_dir(BLOCK) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| !entry.path().join("partition").exists())
        .filter(|entry| fs::read_to_string(entry.path().join("size")).is_ok_and(|size| size.trim() != "0"))
        // One path of several to a drive has no node in /dev.
        .filter(|entry| fs::read_to_string(entry.path().join("hidden")).map_or(true, |hidden| hidden.trim() != "1"))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let path = fs::canonicalize(entry.path()).ok()?;
            (transport(&path.to_string_lossy(), &name) != Transport::Virtual).then_some(name)
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_by_path() {
        let table = [
            ("pci0000:00/0000:00:04.0/virtio1", "vda", Transport::Virtio),
            ("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "sda", Transport::Sata),
            ("pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0", "sdb", Transport::Usb),
            ("pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0", "nvme0n1", Transport::Nvme),
            ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme0n1", Transport::Nvme),
            ("platform/soc/mmc_host/mmc0/mmc0:0001", "mmcblk0", Transport::Mmc),
            ("pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0", "sr0", Transport::Virtual),
            ("virtual", "loop0", Transport::Virtual),
            ("pci0000:00/0000:00:05.0/host2/target2:0:0", "sdc", Transport::Scsi),
        ];
        for (path, name, expected) in table {
            assert_eq!(transport(path, name), expected, "{path}");
        }
    }
}
