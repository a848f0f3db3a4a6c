//! Partitions that we did not make, on disks that we did: tools that edit a table keep the disk GUID by which a disk is ours.

use disk_layout::{
    DiskFacts, LayoutSpec, Mismatch, Reason, Verdict, choose,
    gpt::{ARRAY_BYTES, Entry, Header, encode_entries},
    mbr::Mbr,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::simulator::{Disk, consent, partitions, spec};

const CREATE: &str = "create-if-blank-or-ours";
const SIZE: u64 = 256 << 20;
const BASIC_DATA: Uuid = Uuid::from_u128(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7);

/// A layout that leaves room behind it.
pub(crate) fn roomy(version: u32, policy: &str) -> LayoutSpec {
    spec(version, policy, &partitions().replace("\"weight\":3", "\"max-mib\":100"))
}

fn ours() -> Disk {
    let mut disk = Disk::blank(256, 512);
    disk.apply(&roomy(1, CREATE), None, |_, _| {});
    disk
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    Both,
    Primary,
    Backup,
}

/// As `parted` and `gdisk` do it: the disk GUID, and the boot code of the first sector, stay as they are.
fn edited(mut disk: Disk, copies: Copies, edit: impl FnOnce(&mut Vec<Entry>)) -> Disk {
    let header = Header::decode(&disk.read(512, 512)).expect("our header");
    let mut entries = header.decode_entries(&disk.read(1024, ARRAY_BYTES)).expect("our entries");
    edit(&mut entries);
    let array = encode_entries(&entries);
    let last = SIZE / 512 - 1;
    for (copy, my_lba, entries_lba) in [(Copies::Primary, 1, 2), (Copies::Backup, last, last - 32)] {
        if copies == copy || copies == Copies::Both {
            let alternate_lba = last + 1 - my_lba;
            let entries_crc = crc32fast::hash(&array);
            let header = Header { my_lba, alternate_lba, entries_lba, entries_crc, ..header.clone() };
            disk = disk.with(my_lba * 512, &header.encode(512)).with(entries_lba * 512, &array);
        }
    }
    disk
}

fn stranger(number: u32, name: &str) -> Entry {
    let first_lba = 160 * 2048 + u64::from(number);
    let unique_guid = Uuid::from_u128(u128::from(number));
    Entry {
        number,
        type_guid: BASIC_DATA,
        unique_guid,
        first_lba,
        last_lba: first_lba + 64 * 2048 - 1,
        attributes: 0,
        name: name.to_owned(),
    }
}

/// Windows was put into the free space.
pub(crate) fn with_windows() -> Disk {
    edited(ours(), Copies::Both, |entries| entries.push(stranger(7, "Basic data partition")))
}

/// A first sector with a partition of its own beside the protective one.
fn hybrid() -> Vec<u8> {
    let mut sector = Mbr::protective(SIZE / 512, 512);
    sector[462 + 4] = 0x07;
    sector
}

fn refusal(disk: &Disk, spec: &LayoutSpec) -> String {
    match disk.plan(spec, None) {
        Verdict::Refuse(reasons) => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        other => format!("no refusal but {other}"),
    }
}

/// The entry of a disk that was larger: what it names can't be used, and nobody knows what is left of it.
#[test]
fn a_partition_beyond_the_end_is_no_match() {
    let beyond = |label: &'static str| {
        edited(ours(), Copies::Both, |entries| {
            let entry = entries.iter_mut().find(|entry| entry.name == label).expect("its entry");
            entry.last_lba = SIZE;
        })
    };
    let store = beyond("nb-nix").plan(&roomy(1, CREATE), None);
    let Verdict::Recreate { why, .. } = &store else { panic!("{store}") };
    assert_eq!(why.as_slice(), [Mismatch::Missing("nb-nix".to_owned())]);
    let kept = beyond("nb-persist").plan(&roomy(1, CREATE), None);
    assert_eq!(kept, Verdict::Refuse(vec![Reason::WouldLose("nb-persist".to_owned())]));
}

#[test]
fn a_partition_that_is_not_provably_ours_stops_everything() {
    let windows = "partition 7 (\"Basic data partition\", 64 MiB) is on a disk of ours";
    let cases = [
        ("in the free space", with_windows(), windows),
        (
            "in the backup only",
            edited(ours(), Copies::Backup, |e| e.push(stranger(7, "Basic data partition"))),
            windows,
        ),
        (
            "in the primary only",
            edited(ours(), Copies::Primary, |e| e.push(stranger(7, "Basic data partition"))),
            windows,
        ),
        ("no first sector", with_windows().with(0, &[0; 512]), windows),
        ("backup table alone", with_windows().with(512, &[0; 512]), windows),
        ("primary table alone", with_windows().with(SIZE - 512, &[0; 512]), windows),
        (
            "a table that another system uses now",
            edited(ours(), Copies::Both, |e| *e = vec![stranger(1, "EFI System"), stranger(2, "root")]),
            "partition 1 (\"EFI System\", 64 MiB) is on a disk of ours",
        ),
        (
            "a label changed by hand",
            edited(ours(), Copies::Both, |e| "mine".clone_into(&mut e[2].name)),
            "partition 3 (\"mine\", 100 MiB)",
        ),
        (
            "deleted and made anew under our label",
            edited(ours(), Copies::Both, |e| e[2].unique_guid = Uuid::from_u128(5)),
            "partition 3 (\"nb-nix\", 100 MiB)",
        ),
        (
            "a GUID for the second time",
            edited(ours(), Copies::Both, |e| e.push(Entry { unique_guid: e[2].unique_guid, ..stranger(9, "nb-nix") })),
            "partition 9 (\"nb-nix\", 64 MiB)",
        ),
        (
            "a label that plays with the terminal",
            edited(ours(), Copies::Both, |e| e.push(stranger(7, "\u{1b}[2J"))),
            "partition 7 (\"\\u{1b}[2J\"",
        ),
        ("a hybrid MBR", ours().with(0, &hybrid()), "MBR partition table"),
        (
            "no list of partitions",
            ours().with(1024, &[1]).with(SIZE - 33 * 512, &[1]),
            "no copy of its partition table can be read",
        ),
    ];
    for (name, disk, expected) in cases {
        // As required but for this, and laid out by another spec.
        for version in [1, 2] {
            for policy in [CREATE, "refuse-only", "wipe"] {
                let spec = roomy(version, policy);
                let text = refusal(&disk, &spec);
                assert!(text.contains(expected), "{name}, {policy}: {text}");
                assert_eq!(text.contains("nobody consented"), policy == "wipe", "{name}, {policy}: {text}");
            }
        }
    }
}

#[test]
fn what_we_made_is_ours_whatever_became_of_it() {
    let extra = |verdict: &Verdict| matches!(verdict, Verdict::Recreate { why, .. } if why.iter().any(|why| matches!(why, Mismatch::Extra(label) if label == "nb-swap")));
    let without_swap = &partitions().replace("\"weight\":3", "\"max-mib\":100");
    let without_swap = &without_swap[..without_swap.rfind(",\n").unwrap()];
    let dropped = ours().plan(&spec(2, CREATE, without_swap), None);
    assert!(extra(&dropped), "a label since dropped: {dropped:?}");

    let cases = [
        ("another type", edited(ours(), Copies::Both, |e| e[2].type_guid = BASIC_DATA)),
        ("one deleted", edited(ours(), Copies::Both, |e| drop(e.remove(3)))),
        ("no first sector", ours().with(0, &[0; 512])),
        ("backup table alone", ours().with(512, &[0; 512])),
        ("primary table alone", ours().with(SIZE - 512, &[0; 512])),
        ("one array", ours().with(1024, &[1])),
    ];
    for (name, disk) in cases {
        let verdict = disk.plan(&roomy(1, CREATE), None);
        assert!(matches!(verdict, Verdict::Recreate { .. }), "{name}: {verdict:?}");
    }
}

#[test]
fn a_place_in_the_array_is_not_a_count() {
    let disk = edited(ours(), Copies::Both, |entries| entries[3].number = 9);
    let Verdict::Match(layout) = disk.plan(&roomy(1, CREATE), None) else { panic!() };
    assert_eq!(layout.partitions.iter().map(|p| p.number).collect::<Vec<_>>(), [1, 2, 3, 9]);
}

#[test]
fn policy_and_consent_give_a_shared_disk_away() {
    let consent = consent("S1", 7);
    let Verdict::Refuse(reasons) = with_windows().plan(&roomy(1, CREATE), Some(&consent)) else { panic!() };
    assert!(matches!(reasons[..], [Reason::NotOurPartition { .. }, Reason::NotWipe]), "{reasons:?}");

    let wipe = roomy(1, "wipe");
    let mut disk = with_windows();
    disk.apply(&wipe, Some(&consent), |_, _| {});
    assert!(matches!(disk.plan(&wipe, Some(&consent)), Verdict::Match(_)));
}

/// The claim of a laying out that was interrupted says nothing of a partition that came later.
#[test]
fn a_claim_left_behind_covers_no_later_partition() {
    let spec = roomy(2, CREATE);
    let mut interrupted = None;
    ours().apply(&spec, None, |disk, place| {
        if place.contains("after mkfs") {
            interrupted.get_or_insert_with(|| disk.clone());
        }
    });
    let interrupted = interrupted.unwrap();
    assert!(matches!(interrupted.plan(&spec, None), Verdict::Recreate { .. }));
    for copies in [Copies::Both, Copies::Primary, Copies::Backup] {
        let later = edited(interrupted.clone(), copies, |entries| entries.push(stranger(7, "data")));
        assert!(refusal(&later, &spec).contains("partition 7 (\"data\""), "{copies:?}: {:?}", later.plan(&spec, None));
    }
}

#[test]
fn a_shared_disk_is_still_the_one_that_is_meant() {
    let spec = roomy(1, CREATE);
    let larger = DiskFacts { name: "sdb".to_owned(), ..Disk::blank(900, 512).facts() };
    let md09 = SIZE - (64 << 10);
    let cases = [
        ("a partition of somebody's", with_windows()),
        ("a hybrid MBR", ours().with(0, &hybrid())),
        ("a signature of the whole disk", ours().with(md09, &[0xfc, 0x4e, 0x2b, 0xa9])),
        ("a file system over the first table", ours().with(0, &[0; 1024]).with(3, b"NTFS    ")),
    ];
    for (name, disk) in cases {
        assert!(matches!(disk.plan(&spec, None), Verdict::Refuse(_)), "{name}");
        assert_eq!(choose(&spec, &[larger.clone(), disk.facts()]).disk, Ok(1), "{name}");
    }
}

#[test]
fn a_disk_that_power_left_half_laid_out_is_the_one_that_is_meant() {
    let spec = roomy(1, CREATE);
    let larger = DiskFacts { name: "sdb".to_owned(), ..Disk::blank(900, 512).facts() };
    Disk::blank(256, 512).apply(&spec, None, |disk, place| {
        let disk = disk.cut(|_| true);
        assert_eq!(choose(&spec, &[larger.clone(), disk.facts()]).disk, Ok(1), "{place}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever somebody did to our table: without consent nothing is written as long as one entry of it is not provably ours, and
    /// a table of ours alone is laid out by the new spec.
    #[test]
    fn without_consent_only_our_own_partitions_are_written_over(
        edits in prop::collection::vec((0..5_u8, any::<prop::sample::Index>(), 5..=128_u32), 0..4),
        copies in prop_oneof![Just(Copies::Both), Just(Copies::Primary), Just(Copies::Backup)],
        policy in prop_oneof![Just(CREATE), Just("wipe")],
        lost in prop::option::of(prop_oneof![Just(0_u64), Just(512), Just(SIZE - 512)]),
    ) {
        let guid = roomy(1, CREATE).disk_guid();
        let mut strangers = 0;
        let disk = edited(ours(), copies, |entries| {
            for (edit, index, number) in edits {
                let at = index.index(entries.len());
                match edit {
                    0 if entries.iter().all(|entry| entry.number != number) => entries.push(stranger(number, "data")),
                    1 => entries[at].name.push('x'),
                    2 => entries[at].unique_guid = Uuid::from_u128(number.into()),
                    3 => entries[at].type_guid = BASIC_DATA,
                    4 if entries.len() > 1 => drop(entries.remove(at)),
                    _ => {}
                }
            }
            strangers = entries.iter().filter(|e| e.unique_guid != Uuid::new_v5(&guid, e.name.as_bytes())).count();
        });
        let disk = match lost {
            // The copy that is as we wrote it must not speak for the one that somebody edited.
            Some(at) if copies == Copies::Both || at == 0 => disk.with(at, &[0; 512]),
            _ => disk,
        };
        let spec = roomy(2, policy);
        let facts = disk.facts();
        let verdict = disk_layout::plan(&spec, &facts, None);
        prop_assert_eq!(disk_layout::steps(&spec, &facts, &verdict).is_empty(), strangers > 0, "{:?}", verdict);
    }
}
