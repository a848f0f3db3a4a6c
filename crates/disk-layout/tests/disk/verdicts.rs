//! Each kind of disk that a client may have, and what becomes of it.

use crate::simulator::{Disk, LINUX, consent, partitions, spec, superblock};
use disk_layout::{
    DiskFacts, FileSystem, Mismatch, Reason, Transport, Verdict, choose,
    gpt::{Entry, Header, encode_entries},
    plan,
};
use uuid::Uuid;

const HOME: &str = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";

pub(crate) fn blank() -> Disk {
    Disk::blank(256, 512)
}

pub(crate) fn ours(version: u32) -> Disk {
    let mut disk = blank();
    disk.apply(&spec(version, "create-if-blank-or-ours", &partitions()), None, |_, _| {});
    disk
}

/// A whole-disk file system.
fn holding(fs: FileSystem) -> Disk {
    let mut head = vec![0; 128 << 10];
    superblock(&mut head, fs, "data");
    blank().with(0, &head)
}

/// As Windows sets a disk up: reserved partition and a data partition, both tables whole.
pub(crate) fn windows(size_mib: u64) -> Disk {
    let sectors = (size_mib << 20) / 512;
    let entry = |number: u32, type_guid: u128, first_lba: u64, last_lba: u64, name: &str| Entry {
        number,
        type_guid: Uuid::from_u128(type_guid),
        unique_guid: Uuid::from_u128(first_lba.into()),
        first_lba,
        last_lba,
        attributes: 0,
        name: name.to_owned(),
    };
    let array = encode_entries(&[
        entry(1, 0xe3c9e316_0b5c_4db8_817d_f92df00215ae, 34, 32_767, "Microsoft reserved partition"),
        entry(2, 0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7, 32_768, sectors - 2048, "Basic data partition"),
    ]);
    let primary = Header {
        my_lba: 1,
        alternate_lba: sectors - 1,
        first_usable: 34,
        last_usable: sectors - 34,
        disk_guid: Uuid::from_u128(7),
        entries_lba: 2,
        entry_count: 128,
        entry_size: 128,
        entries_crc: crc(&array),
    };
    let backup = Header { my_lba: sectors - 1, alternate_lba: 1, entries_lba: sectors - 33, ..primary.clone() };
    Disk::blank(size_mib, 512)
        .with(0, &disk_layout::mbr::Mbr::protective(sectors, 512))
        .with(512, &primary.encode(512))
        .with(1024, &array)
        .with((sectors - 33) * 512, &array)
        .with((sectors - 1) * 512, &backup.encode(512))
        .with(32_768 * 512 + 3, b"NTFS    ")
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn refusal(disk: &Disk) -> String {
    match disk.plan(&spec(1, "create-if-blank-or-ours", &partitions()), None) {
        Verdict::Refuse(reasons) => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_foreign_disk_is_refused_with_its_name() {
    let mut mbr = vec![0; 512];
    mbr[446 + 4] = 0x07;
    mbr[446 + 8] = 1;
    mbr[510..].copy_from_slice(&[0x55, 0xAA]);
    let md10 = (256 << 20) - 8192;
    let md09 = (256 << 20) - (64 << 10);
    let cases: Vec<(&str, Disk, &str)> = vec![
        ("foreign MBR", blank().with(0, &mbr), "MBR partition table"),
        ("Windows GPT", windows(256), "Microsoft reserved partition, Basic data partition"),
        ("Windows GPT, primary lost", windows(256).with(0, &[0; 34 * 512]), "not ours"),
        ("Windows GPT, backup lost", windows(256).with((256 << 20) - 33 * 512, &[0; 33 * 512]), "not ours"),
        ("damaged GPT", windows(256).with(600, &[1]).with((256 << 20) - 500, &[1]), "GPT"),
        ("whole-disk ext4", holding(FileSystem::Ext4), "an ext4 file system labelled \"data\""),
        ("whole-disk XFS", holding(FileSystem::Xfs), "an XFS file system"),
        ("whole-disk Btrfs", holding(FileSystem::Btrfs), "a Btrfs file system"),
        ("whole-disk swap", holding(FileSystem::Swap), "swap space"),
        ("superfloppy", holding(FileSystem::Vfat), "FAT"),
        ("LUKS1", blank().with(0, b"LUKS\xba\xbe\0\x01"), "LUKS"),
        ("LUKS2", blank().with(0, b"LUKS\xba\xbe\0\x02"), "LUKS"),
        ("LUKS2, first header lost", blank().with(4 << 20, b"SKUL\xba\xbe\0\x02"), "LUKS"),
        ("LVM", blank().with(512, b"LABELONE"), "LVM"),
        ("md 1.2", blank().with(4096, &[0xfc, 0x4e, 0x2b, 0xa9]), "Linux RAID"),
        ("md 1.0", blank().with(md10, &[0xfc, 0x4e, 0x2b, 0xa9]), "Linux RAID"),
        ("md 0.9", blank().with(md09, &[0xfc, 0x4e, 0x2b, 0xa9]), "Linux RAID"),
        ("md 0.9 big endian", blank().with(md09, &[0xa9, 0x2b, 0x4e, 0xfc]), "Linux RAID"),
        ("ZFS, first label", blank().with(132 << 10, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]), "ZFS"),
        ("ZFS, last label", blank().with((256 << 20) - (128 << 10), &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]), "ZFS"),
        ("NTFS", blank().with(3, b"NTFS    "), "NTFS"),
        ("BitLocker", blank().with(3, b"-FVE-FS-"), "BitLocker"),
        ("exFAT", blank().with(3, b"EXFAT   "), "exFAT"),
        ("squashfs", blank().with(0, b"hsqs"), "squashfs"),
        ("DVD", blank().with(32769, b"CD001"), "CD/DVD"),
        ("firmware RAID", blank().with((256 << 20) - 512, &[0xde, 0x11, 0xde, 0x11]), "firmware RAID"),
        ("Btrfs mirror", blank().with((64 << 20) + 0x40, b"_BHRfS_M"), "Btrfs"),
        (
            "ext4 backup superblock",
            blank().with((128 << 20) + 0x38, &[0x53, 0xef]).with((128 << 20) + 0x5a, &[1]),
            "ext",
        ),
        ("lost table, XFS at 1 MiB", blank().with(1 << 20, b"XFSB"), "XFS"),
        ("one byte at the start", blank().with(700_000, &[1]), "not blank: data at byte 700000"),
        ("one byte at the end", blank().with((256 << 20) - 1, &[1]), "not blank: data at byte 268435455"),
    ];
    for (name, disk, expected) in cases {
        let text = refusal(&disk);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn blank_is_created_and_then_matches() {
    for sector in [512, 4096] {
        let spec = spec(1, "create-if-blank-or-ours", &partitions());
        let mut disk = Disk::blank(256, sector);
        assert!(matches!(disk.plan(&spec, None), Verdict::Create(_)), "{sector}");
        disk.apply(&spec, None, |_, _| {});
        let Verdict::Match(layout) = disk.plan(&spec, None) else { panic!("{:?}", disk.plan(&spec, None)) };
        let places: Vec<_> =
            layout.partitions.iter().map(|p| (p.number, p.label.as_str(), p.at >> 20, p.len >> 20)).collect();
        // 256 MiB: one before, one behind, one meta; swap takes its share up to 32, the store the rest.
        assert_eq!(
            places,
            [(1, "rookery-meta", 1, 1), (2, "nb-persist", 2, 16), (3, "nb-nix", 18, 205), (4, "nb-swap", 223, 32)]
        );
    }
}

#[test]
fn erased_flash_is_blank() {
    let disk = blank().with(0, &vec![0xff; 1 << 20]).with(255 << 20, &vec![0xff; 1 << 20]);
    assert!(matches!(disk.plan(&spec(1, "create-if-blank-or-ours", &partitions()), None), Verdict::Create(_)));
}

#[test]
fn an_older_spec_is_recreated_and_what_is_to_be_kept_stays() {
    let new = spec(2, "create-if-blank-or-ours", &partitions().replace("\"min-mib\":8", "\"min-mib\":9"));
    let secret = 6 << 20;
    let mut disk = ours(1).with(secret, b"host key");
    let Verdict::Recreate { layout, why } = disk.plan(&new, None) else { panic!("{:?}", disk.plan(&new, None)) };
    assert!(matches!(why.as_slice(), [Mismatch::Spec { .. }]), "{why:?}");
    assert_eq!(
        layout.partitions.iter().filter(|p| p.kept).map(|p| p.label.as_str()).collect::<Vec<_>>(),
        ["nb-persist"]
    );
    disk.apply(&new, None, |_, _| {});
    assert!(matches!(disk.plan(&new, None), Verdict::Match(_)));
    assert_eq!(disk.read(secret, 8), b"host key");
}

#[test]
fn what_is_to_be_kept_is_not_lost_to_a_new_layout() {
    let moved = spec(
        2,
        "create-if-blank-or-ours",
        &partitions().replace("\"min-mib\":16,\"max-mib\":16", "\"min-mib\":17,\"max-mib\":17"),
    );
    assert_eq!(ours(1).plan(&moved, None), Verdict::Refuse(vec![Reason::WouldLose("nb-persist".to_owned())]));
}

/// A label is all by which a partition is known: what is renamed looks like one that goes and one that comes.
#[test]
fn what_is_to_be_kept_is_not_lost_to_a_new_name() {
    let without_swap = partitions().rsplit_once(",\n").expect("several partitions").0.to_owned();
    let without_kept = partitions().split_once(",\n").expect("several partitions").1.to_owned();
    let renamed = partitions().replace("nb-persist", "persist");
    let typed = |label: &str, persist: &str| {
        format!(r#"{{"label":"{label}","type":"{HOME}","size":{{"min-mib":20}},"fs":"xfs","persist":"{persist}"}}"#)
    };
    let refused = |found: &str, required: &str| {
        let (found, required) = (found.to_owned(), required.to_owned());
        Verdict::Refuse(vec![Reason::Renamed { found, required }])
    };
    let table = [
        ("renamed", renamed.clone(), Some(refused("nb-persist", "persist"))),
        (
            "renamed, moved, of another type, size and file system",
            format!("{without_kept},{}", typed("home", "keep")),
            Some(refused("nb-persist", "home")),
        ),
        (
            "what is new and to be kept, where something else is dropped",
            format!("{},{}", partitions().replace("nb-nix", "nix"), typed("home", "keep")),
            Some(refused("nb-nix", "home")),
        ),
        ("renamed, and may go", renamed.replace("\"keep\"", "\"wipe-on-recreate\""), None),
        ("dropped", without_kept.clone(), None),
        ("dropped, and what is new may go", format!("{without_kept},{}", typed("scratch", "wipe-on-recreate")), None),
        ("the store renamed", partitions().replace("nb-nix", "nix"), None),
        ("only something new", format!("{},{}", partitions(), typed("home", "keep")), None),
        ("swap gone", format!("{without_swap},{}", typed("home", "keep")), None),
    ];
    for (name, partitions, expected) in table {
        let verdict = ours(1).plan(&spec(2, "create-if-blank-or-ours", &partitions), None);
        match expected {
            Some(refusal) => assert_eq!(verdict, refusal, "{name}"),
            None => assert!(matches!(verdict, Verdict::Recreate { .. }), "{name}: {verdict:?}"),
        }
    }
    let never_filled = ours(1).with(2 << 20, &vec![0; 128 << 10]);
    let verdict = never_filled.plan(&spec(2, "create-if-blank-or-ours", &renamed), None);
    assert!(matches!(verdict, Verdict::Recreate { .. }), "nothing is there to be kept: {verdict:?}");
    // Whoever erases with a consent has been asked.
    let wiped = ours(1).plan(&spec(2, "wipe", &renamed), Some(&consent("S1", 1)));
    assert!(matches!(wiped, Verdict::Recreate { .. }), "{wiped:?}");
}

#[test]
fn what_is_to_be_kept_is_not_made_anew_because_it_is_damaged() {
    let labelled = partitions().replace("\"persist\":\"keep\"", "\"fs-label\":\"nb-persist\",\"persist\":\"keep\"");
    let spec = spec(1, "create-if-blank-or-ours", &labelled);
    let mut whole = blank();
    whole.apply(&spec, None, |_, _| {});
    let superblock = (2 << 20) + 1024;
    let lost = Verdict::Refuse(vec![Reason::WouldLose("nb-persist".to_owned())]);
    assert_eq!(whole.clone().with(superblock + 0x38, &[0, 0]).plan(&spec, None), lost, "not known any more");
    assert_eq!(whole.clone().with(superblock + 0x78, b"x").plan(&spec, None), lost, "another label");
    let nothing = whole.with(2 << 20, &vec![0; 128 << 10]).plan(&spec, None);
    assert!(matches!(nothing, Verdict::Recreate { .. }), "nothing is there to be kept: {nothing:?}");
}

#[test]
fn damage_on_our_disk_is_named() {
    let spec = spec(1, "create-if-blank-or-ours", &partitions());
    let end = 256 << 20;
    let cases = [
        (ours(1).with(0, &[0; 512]), "protective MBR"),
        (ours(1).with(600, &[1]), "primary partition table"),
        (ours(1).with(1100, &[1]), "primary partition table"),
        (ours(1).with(end - 500, &[1]), "backup partition table"),
        (ours(1).with(1 << 20, &[1]), "another spec (none"),
        (ours(1).with((18 << 20) + 1024 + 0x38, &[0, 0]), "`nb-nix` holds nothing known; required is ext4 labelled"),
        (ours(1).with((18 << 20) + 1024 + 0x78, b"x"), "labelled \"xb-nix\""),
    ];
    for (disk, expected) in cases {
        let Verdict::Recreate { why, .. } = disk.plan(&spec, None) else {
            panic!("{expected}: {:?}", disk.plan(&spec, None))
        };
        let text = why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn our_disk_put_to_another_use_is_somebody_elses() {
    // mkfs and luksFormat of the whole disk leave the backup table where it is.
    let mut head = vec![0; 128 << 10];
    superblock(&mut head, FileSystem::Ext4, "photos");
    assert!(refusal(&ours(1).with(0, &head)).contains("labelled \"photos\""));
    let mut luks = vec![0; 1 << 20];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    assert!(refusal(&ours(1).with(0, &luks)).contains("LUKS"));
}

#[test]
fn another_role_of_the_site_is_told_apart() {
    let other: disk_layout::LayoutSpec = serde_json::from_str(&format!(
        r#"{{"version":1,"site":"school","role":"library","partitions":[{}]}}"#,
        partitions()
    ))
    .unwrap();
    let Verdict::Refuse(reasons) = ours(1).plan(&other, None) else { panic!() };
    assert_eq!(reasons, [Reason::OtherRole { site: "school".to_owned(), role: "lab".to_owned() }]);
}

#[test]
fn what_could_not_be_read_is_not_blank() {
    let spec = spec(1, "create-if-blank-or-ours", &partitions());
    let whole = blank().facts();
    for missing in disk_layout::wanted(&DiskFacts { contents: disk_layout::Contents::default(), ..whole.clone() }) {
        let mut facts = DiskFacts { contents: disk_layout::Contents::default(), ..whole.clone() };
        for range in disk_layout::wanted(&facts) {
            // A region that lies in a larger one is missing only together with it.
            if range.end <= missing.start || missing.end <= range.start {
                facts.contents.insert(range.start, vec![0; (range.end - range.start) as usize]);
            }
        }
        let verdict = plan(&spec, &facts, None);
        assert!(
            matches!(&verdict, Verdict::Refuse(reasons) if matches!(reasons[..], [Reason::Unread { .. }, ..])),
            "{missing:?}"
        );
    }
}

#[test]
fn too_small_write_protected_and_odd_sectors() {
    let spec = spec(1, "create-if-blank-or-ours", &partitions());
    assert_eq!(
        Disk::blank(90, 512).plan(&spec, None),
        Verdict::Refuse(vec![Reason::TooSmall { size_mib: 90, needed_mib: 91 }])
    );
    let facts = DiskFacts { read_only: true, ..blank().facts() };
    assert_eq!(plan(&spec, &facts, None), Verdict::Refuse(vec![Reason::ReadOnly]));
    let facts = DiskFacts { sector_size: 520, ..blank().facts() };
    assert_eq!(plan(&spec, &facts, None), Verdict::Refuse(vec![Reason::SectorSize(520)]));
}

#[test]
fn scratch_is_formatted_at_every_boot_and_nothing_else_is_touched() {
    let scratch = format!(
        r#"{},{{"label":"nb-scratch","type":"{LINUX}","size":{{"min-mib":4,"max-mib":4}},"fs":"ext4","persist":"format-every-boot"}}"#,
        partitions()
    );
    let spec = spec(1, "create-if-blank-or-ours", &scratch);
    let mut disk = blank();
    disk.apply(&spec, None, |_, _| {});
    let facts = disk.facts();
    let verdict = plan(&spec, &facts, None);
    let steps = disk_layout::steps(&spec, &facts, &verdict);
    assert!(matches!(&steps[..], [disk_layout::Step::Format(p)] if p.label == "nb-scratch"), "{steps:?}");
}

#[test]
fn exactly_one_disk_is_chosen() {
    let spec = spec(1, "create-if-blank-or-ours", &partitions());
    let disk = |name: &str, mib: u64, transport: Transport| DiskFacts {
        name: name.to_owned(),
        path: name.to_owned(),
        transport,
        serial: Some(name.to_owned()),
        ..Disk::blank(mib, 512).facts()
    };
    let small = disk("sda", 200, Transport::Sata);
    let large = disk("sdb", 300, Transport::Sata);
    let usb = disk("sdc", 900, Transport::Usb);
    let installed = DiskFacts { name: "sdd".to_owned(), ..ours(1).facts() };
    let chosen = |spec: &disk_layout::LayoutSpec, disks: &[DiskFacts]| {
        choose(spec, disks).disk.map(|i| disks[i].name.clone()).ok()
    };

    assert_eq!(chosen(&spec, &[small.clone(), large.clone(), usb.clone()]).as_deref(), Some("sdb"));
    assert_eq!(chosen(&spec, &[large.clone(), installed.clone()]).as_deref(), Some("sdd"), "ours wins over larger");
    assert_eq!(chosen(&spec, &[installed.clone(), installed.clone()]), None, "two of ours");
    assert_eq!(chosen(&spec, std::slice::from_ref(&usb)), None, "USB only");
    assert_eq!(chosen(&spec, &[]), None);

    let mut by_rule = spec;
    by_rule.disk = serde_json::from_str(r#"{"rules":[{"serial":"none"},{"transport":"usb"},{"path":"sd*"}]}"#).unwrap();
    assert_eq!(chosen(&by_rule, &[small.clone(), usb.clone()]).as_deref(), Some("sdc"), "first rule that fits any");
    assert_eq!(chosen(&by_rule, &[small, large]), None, "a rule that fits two");
    assert_eq!(choose(&by_rule, &[usb]).notes.len(), 1);
}
