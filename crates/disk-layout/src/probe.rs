//! Whose data is this? Superblocks and labels of everything that is likely to be on a disk.

use std::{fmt, ops::Range};

use crate::{Contents, MIB};

/// Bytes at the start of a partition in which the superblock of every file system that a spec can name lies.
pub(crate) const PARTITION_HEAD: u64 = 128 << 10;

/// What a signature stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the formats' own")]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Swap,
    Luks,
    Lvm2,
    MdRaid,
    FirmwareRaid,
    Zfs,
    Ntfs,
    Refs,
    BitLocker,
    ExFat,
    Vfat,
    Squashfs,
    Erofs,
    Iso9660,
    F2fs,
    Jfs,
    ReiserFs,
    HfsPlus,
    Apfs,
    Bcache,
    Bcachefs,
    Bluestore,
}

/// Something that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What it is.
    pub kind: Kind,
    /// Byte offset, counted from the start of the window.
    pub at: u64,
    /// Its label, where the format has one in the place that was read.
    pub label: Option<String>,
}

/// A disk or a partition, seen through the bytes that were read.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    contents: &'a Contents,
    base: u64,
    size: u64,
}

impl<'a> Window<'a> {
    /// `size` bytes that begin at byte `base` of the disk.
    #[must_use]
    pub fn new(contents: &'a Contents, base: u64, size: u64) -> Self {
        Self { contents, base, size }
    }

    /// Everything recognised at the start and the end of the window.
    #[must_use]
    pub fn edges(&self) -> Vec<Signature> {
        let mut found = self.head();
        found.extend(self.tail());
        found
    }

    /// What is recognised at the start: what a mount or a `blkid` of it would look at.
    #[must_use]
    pub fn head(&self) -> Vec<Signature> {
        let fixed = FIXED.iter().filter(|(_, at, magic)| self.is(*at, magic)).map(|(kind, at, _)| (*kind, *at));
        let mut found: Vec<Signature> =
            fixed.map(|(kind, at)| Signature { kind, at, label: self.label(kind) }).collect();
        found.extend(self.ext());
        found.extend(self.fat());
        found.extend([0, 4096].into_iter().filter(|at| self.is(*at, MD_MAGIC)).map(|at| plain(Kind::MdRaid, at)));
        found.extend([0, 256 << 10].into_iter().filter(|at| self.zfs_label(*at)).map(|at| plain(Kind::Zfs, at)));
        found
    }

    fn tail(&self) -> Vec<Signature> {
        let size = self.size;
        let mut found = Vec::new();
        // md 1.0 lies 8 KiB before the end, rounded down to 4 KiB; md 0.9 in the last whole 64 KiB, in either byte order.
        let md10 = (size / 512).saturating_sub(16) / 8 * 8 * 512;
        let md09 = (size & !0xFFFF).saturating_sub(64 << 10);
        if size > MIB {
            let md = [(md10, MD_MAGIC), (md09, MD_MAGIC), (md09, MD_MAGIC_BIG_ENDIAN)];
            found.extend(
                md.into_iter().filter(|(at, magic)| self.is(*at, magic)).map(|(at, _)| plain(Kind::MdRaid, at)),
            );
            let zfs_end = size & !((256 << 10) - 1);
            let zfs = [zfs_end - (512 << 10), zfs_end - (256 << 10)];
            found.extend(zfs.into_iter().filter(|at| self.zfs_label(*at)).map(|at| plain(Kind::Zfs, at)));
            let last = size - 512;
            if self.is(last, &[0xDE, 0x11, 0xDE, 0x11]) {
                found.push(plain(Kind::FirmwareRaid, last));
            }
            if self.is(last - 512, b"Intel Raid ISM Cfg") {
                found.push(plain(Kind::FirmwareRaid, last - 512));
            }
            if self.is(last + 3, b"NTFS    ") {
                found.push(plain(Kind::Ntfs, last));
            }
        }
        found
    }

    /// Copies that formats keep away from the edges, and a file system where a lost table's first partition would begin.
    #[must_use]
    pub fn scattered(&self) -> Vec<Signature> {
        let mut found = Vec::new();
        let copies = BTRFS_COPIES.iter().map(|at| (Kind::Btrfs, at + 0x40, BTRFS_MAGIC));
        let luks = LUKS2_COPIES.iter().map(|at| (Kind::Luks, *at, LUKS2_SECOND));
        found.extend(
            copies.chain(luks).filter(|(_, at, magic)| self.is(*at, magic)).map(|(kind, at, _)| plain(kind, at)),
        );
        let ext = EXT_COPIES.iter().filter(|at| self.is(*at + 0x38, EXT_MAGIC) && self.is(*at + 0x5A, &[1, 0]));
        found.extend(ext.map(|at| plain(Kind::Ext2, *at)));
        if self.size > 2 * MIB {
            let inner = Window { contents: self.contents, base: self.base + MIB, size: self.size - MIB };
            found.extend(inner.head().into_iter().map(|s| Signature { at: s.at + MIB, ..s }));
        }
        found
    }

    fn ext(&self) -> Option<Signature> {
        let superblock = self.bytes(1024, 1024).filter(|sb| sb[0x38..].starts_with(EXT_MAGIC))?;
        let word = |at: usize| {
            u32::from_le_bytes([superblock[at], superblock[at + 1], superblock[at + 2], superblock[at + 3]])
        };
        // Journal alone makes ext3; extents, 64bit, flex_bg, or one of ext4's read-only features make ext4.
        let kind = if word(0x60) & 0x02C0 != 0 || word(0x64) & 0x0478 != 0 {
            Kind::Ext4
        } else if word(0x5C) & 0x4 != 0 {
            Kind::Ext3
        } else {
            Kind::Ext2
        };
        Some(Signature { kind, at: 1024, label: text(&superblock[0x78..0x88]) })
    }

    fn fat(&self) -> Option<Signature> {
        let sector = self.bytes(0, 512).filter(|sector| sector[510..] == [0x55, 0xAA])?;
        let at = if sector[82..].starts_with(b"FAT32   ") {
            71
        } else if [&b"FAT12   "[..], b"FAT16   ", b"FAT     "].iter().any(|magic| sector[54..].starts_with(magic)) {
            43
        } else {
            return None;
        };
        Some(Signature { kind: Kind::Vfat, at: 0, label: text(&sector[at..at + 11]) })
    }

    /// One of the four ZFS labels: an uberblock in any slot of the array at 128 KiB, in either byte order.
    fn zfs_label(&self, at: u64) -> bool {
        (0..128).any(|slot| {
            let at = at + (128 << 10) + slot * 1024;
            self.is(at, &[0x0C, 0xB1, 0xBA, 0, 0, 0, 0, 0]) || self.is(at, &[0, 0, 0, 0, 0, 0xBA, 0xB1, 0x0C])
        })
    }

    fn label(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Xfs => text(self.bytes(108, 12)?),
            Kind::Btrfs => text(self.bytes(0x1_012B, 255)?),
            Kind::Swap => text(self.bytes(1052, 16)?),
            Kind::Luks if self.bytes(6, 2)? == [0, 2] => text(self.bytes(24, 48)?),
            _ => None,
        }
    }

    fn is(&self, at: u64, magic: &[u8]) -> bool {
        self.bytes(at, magic.len()) == Some(magic)
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Option<&'a [u8]> {
        let end = at.checked_add(len as u64)?;
        if end > self.size {
            return None;
        }
        self.contents.slice(self.base.checked_add(at)?, len)
    }
}

/// What [`Window::scattered`] looks at on a disk of this size.
pub(crate) fn scattered(size: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = BTRFS_COPIES
        .iter()
        .chain(&LUKS2_COPIES)
        .map(|at| *at..at + 4096)
        .chain(EXT_COPIES.iter().map(|at| *at..at + 1024))
        .filter(|range| range.end <= size)
        .collect();
    if size > 2 * MIB {
        // As long as the head of a ZFS label pair, so that nothing that `head` looks at is missing.
        ranges.push(MIB..size.min(2 * MIB));
    }
    ranges
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(label) = &self.label {
            write!(f, " labelled {label:?}")?;
        }
        write!(f, " (at byte {})", self.at)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext2 => "an ext2 file system",
            Self::Ext3 => "an ext3 file system",
            Self::Ext4 => "an ext4 file system",
            Self::Xfs => "an XFS file system",
            Self::Btrfs => "a Btrfs file system",
            Self::Swap => "swap space",
            Self::Luks => "a LUKS container",
            Self::Lvm2 => "an LVM physical volume",
            Self::MdRaid => "a Linux RAID member",
            Self::FirmwareRaid => "a firmware RAID member",
            Self::Zfs => "a ZFS pool member",
            Self::Ntfs => "an NTFS file system",
            Self::Refs => "a ReFS file system",
            Self::BitLocker => "a BitLocker volume",
            Self::ExFat => "an exFAT file system",
            Self::Vfat => "a FAT file system",
            Self::Squashfs => "a squashfs image",
            Self::Erofs => "an EROFS image",
            Self::Iso9660 => "a CD/DVD image",
            Self::F2fs => "an F2FS file system",
            Self::Jfs => "a JFS file system",
            Self::ReiserFs => "a ReiserFS file system",
            Self::HfsPlus => "an HFS+ file system",
            Self::Apfs => "an APFS container",
            Self::Bcache => "a bcache device",
            Self::Bcachefs => "a bcachefs file system",
            Self::Bluestore => "a Ceph BlueStore device",
        })
    }
}

fn plain(kind: Kind, at: u64) -> Signature {
    Signature { kind, at, label: None }
}

/// A label as people wrote it: up to the first NUL, without padding; `None` if nothing is left or FAT says there is none.
fn text(field: &[u8]) -> Option<String> {
    let len = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let label = String::from_utf8_lossy(&field[..len]).trim_end().to_owned();
    (!label.is_empty() && label != "NO NAME").then_some(label)
}

const EXT_MAGIC: &[u8] = &[0x53, 0xEF];
const MD_MAGIC: &[u8] = &[0xFC, 0x4E, 0x2B, 0xA9];
const MD_MAGIC_BIG_ENDIAN: &[u8] = &[0xA9, 0x2B, 0x4E, 0xFC];
const BTRFS_MAGIC: &[u8] = b"_BHRfS_M";
const LUKS2_SECOND: &[u8] = b"SKUL\xBA\xBE";
/// Btrfs mirrors its superblock at 64 MiB and 256 GiB.
const BTRFS_COPIES: [u64; 2] = [64 << 20, 256 << 30];
/// Where LUKS2 keeps its second header if the first one is larger than the first MiB.
const LUKS2_COPIES: [u64; 3] = [1 << 20, 2 << 20, 4 << 20];
/// Superblock copy of block group 1 for blocks of 1, 2 and 4 KiB.
const EXT_COPIES: [u64; 3] = [8193 << 10, 32 << 20, 128 << 20];

const FIXED: &[(Kind, u64, &[u8])] = &[
    (Kind::Xfs, 0, b"XFSB"),
    (Kind::Btrfs, 0x1_0040, BTRFS_MAGIC),
    // The page size of the machine that made it: 4, 8, 16 or 64 KiB.
    (Kind::Swap, 4086, b"SWAPSPACE2"),
    (Kind::Swap, 8182, b"SWAPSPACE2"),
    (Kind::Swap, 16374, b"SWAPSPACE2"),
    (Kind::Swap, 65526, b"SWAPSPACE2"),
    (Kind::Swap, 4086, b"SWAP-SPACE"),
    (Kind::Luks, 0, b"LUKS\xBA\xBE"),
    (Kind::Luks, 0x4000, LUKS2_SECOND),
    (Kind::Luks, 0x8000, LUKS2_SECOND),
    (Kind::Luks, 0x1_0000, LUKS2_SECOND),
    (Kind::Luks, 0x2_0000, LUKS2_SECOND),
    (Kind::Luks, 0x4_0000, LUKS2_SECOND),
    (Kind::Luks, 0x8_0000, LUKS2_SECOND),
    (Kind::Lvm2, 0, b"LABELONE"),
    (Kind::Lvm2, 512, b"LABELONE"),
    (Kind::Lvm2, 1024, b"LABELONE"),
    (Kind::Lvm2, 1536, b"LABELONE"),
    (Kind::Ntfs, 3, b"NTFS    "),
    (Kind::Refs, 3, b"ReFS\0\0\0\0"),
    (Kind::BitLocker, 3, b"-FVE-FS-"),
    (Kind::ExFat, 3, b"EXFAT   "),
    (Kind::Squashfs, 0, b"hsqs"),
    (Kind::Erofs, 1024, &[0xE2, 0xE1, 0xF5, 0xE0]),
    (Kind::Iso9660, 32769, b"CD001"),
    (Kind::Iso9660, 32769, b"BEA01"),
    (Kind::F2fs, 1024, &[0x10, 0x20, 0xF5, 0xF2]),
    (Kind::Jfs, 32768, b"JFS1"),
    (Kind::ReiserFs, 65588, b"ReIsEr"),
    (Kind::HfsPlus, 1024, b"H+\0"),
    (Kind::HfsPlus, 1024, b"HX\0"),
    (Kind::Apfs, 32, b"NXSB"),
    (
        Kind::Bcache,
        4120,
        &[0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA, 0x6D, 0x81],
    ),
    (
        Kind::Bcachefs,
        4120,
        &[0xC6, 0x85, 0x73, 0xF6, 0x66, 0xCE, 0x90, 0xA9, 0xD9, 0x6A, 0x60, 0xCF, 0x80, 0x3D, 0xF7, 0xEF],
    ),
    (Kind::Bluestore, 0, b"bluestore block device"),
];
