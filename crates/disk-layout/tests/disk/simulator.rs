//! A disk in memory that loses what was not flushed, and a `mkfs` that writes just the superblock.

use std::collections::BTreeMap;

use boot_model::{EraseConsent, Nonce};
use disk_layout::{DiskFacts, FileSystem, LayoutSpec, PlacedPartition, Step, Transport, Verdict, plan, steps, wanted};

/// Sparse: sectors that are not in the map are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) sector: usize,
    pub(crate) size: u64,
    sectors: BTreeMap<u64, Vec<u8>>,
    unflushed: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn blank(size_mib: u64, sector: usize) -> Self {
        Self { sector, size: size_mib << 20, sectors: BTreeMap::new(), unflushed: Vec::new() }
    }

    /// Durable at once: for what was on the disk before the test.
    pub(crate) fn with(mut self, at: u64, bytes: &[u8]) -> Self {
        let mut all = self.read(at / self.sector as u64 * self.sector as u64, bytes.len() + 2 * self.sector);
        let skip = (at % self.sector as u64) as usize;
        all[skip..skip + bytes.len()].copy_from_slice(bytes);
        all.truncate((skip + bytes.len()).next_multiple_of(self.sector));
        self.write(at - skip as u64, &all);
        self.flush();
        self
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        assert_eq!(at % self.sector as u64, 0, "unaligned write");
        assert_eq!(bytes.len() % self.sector, 0, "write of half a sector");
        assert!(at + bytes.len() as u64 <= self.size, "write behind the end");
        let first = at / self.sector as u64;
        let chunks = bytes.chunks_exact(self.sector).enumerate();
        self.unflushed.extend(chunks.map(|(index, chunk)| (first + index as u64, chunk.to_vec())));
    }

    pub(crate) fn flush(&mut self) {
        for (lba, bytes) in std::mem::take(&mut self.unflushed) {
            if bytes.iter().all(|byte| *byte == 0) {
                self.sectors.remove(&lba)
            } else {
                self.sectors.insert(lba, bytes)
            };
        }
    }

    /// What is on the medium if power goes now and of the unflushed sectors only those arrived that `arrives` picks.
    pub(crate) fn cut(&self, mut arrives: impl FnMut(usize) -> bool) -> Self {
        let mut after = self.clone();
        let unflushed = std::mem::take(&mut after.unflushed);
        after.unflushed =
            unflushed.into_iter().enumerate().filter(|(i, _)| arrives(*i)).map(|(_, write)| write).collect();
        after.flush();
        after
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let (sector, end) = (self.sector as u64, at + len as u64);
        let mut out = vec![0; len];
        for (lba, bytes) in self.sectors.range(at / sector..end.div_ceil(sector)) {
            let start = lba * sector;
            let (from, to) = (start.max(at), (start + sector).min(end));
            out[(from - at) as usize..(to - at) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        out
    }

    pub(crate) fn facts(&self) -> DiskFacts {
        let mut facts = DiskFacts {
            name: "vda".to_owned(),
            size: self.size,
            sector_size: self.sector as u32,
            serial: Some("S1".to_owned()),
            path: "pci0000:00/0000:00:04.0/virtio1".to_owned(),
            transport: Transport::Virtio,
            ..DiskFacts::default()
        };
        loop {
            let ranges = wanted(&facts);
            if ranges.is_empty() {
                return facts;
            }
            for range in ranges {
                facts.contents.insert(range.start, self.read(range.start, (range.end - range.start) as usize));
            }
        }
    }

    pub(crate) fn plan(&self, spec: &LayoutSpec, consent: Option<&EraseConsent>) -> Verdict {
        plan(spec, &self.facts(), consent)
    }

    /// Carries out what a plan says and calls `observe` wherever a cut would be different from the one before.
    pub(crate) fn apply(
        &mut self,
        spec: &LayoutSpec,
        consent: Option<&EraseConsent>,
        mut observe: impl FnMut(&Self, &str),
    ) {
        let facts = self.facts();
        let verdict = plan(spec, &facts, consent);
        for (index, step) in steps(spec, &facts, &verdict).iter().enumerate() {
            match step {
                Step::Write { at, bytes, what } => {
                    self.write(*at, bytes);
                    observe(self, &format!("step {index}: {what}"));
                }
                Step::Zero { at, len } => self.write(*at, &vec![0; *len as usize]),
                Step::Flush => {
                    observe(self, &format!("step {index}: before flush"));
                    self.flush();
                    observe(self, &format!("step {index}: flushed"));
                }
                Step::Announce(_) => {}
                Step::Format(partition) => {
                    self.format(partition);
                    observe(self, &format!("step {index}: in mkfs"));
                    self.flush();
                    observe(self, &format!("step {index}: after mkfs"));
                }
            }
        }
    }

    fn format(&mut self, partition: &PlacedPartition) {
        let mut head = self.read(partition.at, 128 << 10);
        superblock(&mut head, partition.fs, partition.fs_label.as_deref().unwrap_or(""));
        self.write(partition.at, &head);
    }
}

/// The fields of a superblock that are looked at.
pub(crate) fn superblock(head: &mut [u8], fs: FileSystem, label: &str) {
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    match fs {
        FileSystem::None => {}
        FileSystem::Ext4 => {
            put(1024 + 0x38, &[0x53, 0xEF]);
            put(1024 + 0x60, &[0x42, 0x02, 0, 0]);
            put(1024 + 0x78, label.as_bytes());
        }
        FileSystem::Xfs => {
            put(0, b"XFSB");
            put(108, label.as_bytes());
        }
        FileSystem::Btrfs => {
            put(0x1_0040, b"_BHRfS_M");
            put(0x1_012B, label.as_bytes());
        }
        FileSystem::Vfat => {
            put(510, &[0x55, 0xAA]);
            put(82, b"FAT32   ");
            put(71, format!("{label:11}").as_bytes());
        }
        FileSystem::Swap => {
            put(4086, b"SWAPSPACE2");
            put(1052, label.as_bytes());
        }
    }
}

/// Small and repeatable; the seed is in every message of a test that uses it.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn flip(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 63 == 1
    }
}

/// For the simulated disk, `S1`, or another.
pub(crate) fn consent(serial: &str, nonce: u8) -> EraseConsent {
    let mac = "52:54:00:77:00:01".parse().expect("a MAC address");
    EraseConsent { mac, nonce: Nonce::new([nonce; 16]), serial: serial.parse().expect("a serial number") }
}

pub(crate) fn spec(version: u32, policy: &str, partitions: &str) -> LayoutSpec {
    let json = format!(
        r#"{{"version":{version},"site":"school","role":"lab","policy":"{policy}","partitions":[{partitions}]}}"#
    );
    serde_json::from_str(&json).expect("a valid layout spec")
}

pub(crate) const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
pub(crate) const SWAP: &str = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";

/// A store, a place for identity that must survive, swap.
pub(crate) fn partitions() -> String {
    format!(
        r#"{{"label":"nb-persist","type":"{LINUX}","size":{{"min-mib":16,"max-mib":16}},"fs":"ext4","persist":"keep"}},
           {{"label":"nb-nix","type":"{LINUX}","size":{{"min-mib":64,"weight":3}},"fs":"ext4","fs-label":"nb-nix","mount":"/nix"}},
           {{"label":"nb-swap","type":"{SWAP}","size":{{"min-mib":8,"max-mib":32}},"fs":"swap"}}"#
    )
}
