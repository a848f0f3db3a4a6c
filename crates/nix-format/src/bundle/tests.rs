use boot_model::{StoreHash, StorePath};
use proptest::prelude::*;

use super::*;
use crate::renames::Renames;

const OLD: &str = "00000000000000000000000000000000-hello-1";
const NEW: &str = "11111111111111111111111111111111-hello-2";
const LIB: &str = "22222222222222222222222222222222-lib-1";

fn path(base_name: &str) -> StorePath {
    StorePath::from_base_name(base_name).unwrap()
}

fn hash(base_name: &str) -> StoreHash {
    path(base_name).hash()
}

fn renames() -> Renames {
    Renames::new([(hash(OLD), hash(NEW))]).unwrap()
}

fn raw(records: &[Record]) -> Result<Vec<u8>, BundleError> {
    let mut writer = IndexWriter::new(renames());
    writer.path(&path(NEW), Some(&path(OLD)), records.iter().copied())?;
    writer.finish()
}

fn parse(raw: Vec<u8>) -> Result<Index, BundleError> {
    Index::parse(&Head::new(raw.len(), 10)?, raw, Limits::NONE)
}

/// One directory with one file.
fn file(source: Source) -> [Record; 4] {
    [Record::Directory, Record::Entry(b"f"), Record::File { executable: false, source }, Record::EndOfDirectory]
}

#[test]
fn the_bytes_of_an_index() {
    let library = path(LIB);
    let base = Base::Other { path: &library, name: b"lib/b" };
    let records = [
        Record::Directory,
        Record::Entry(b"a"),
        Record::File { executable: true, source: Source::Copy { base: Base::Same } },
        Record::Entry(b"b"),
        Record::File { executable: false, source: Source::Patch { base, size: 300, frame: 5 } },
        Record::Entry(b"c"),
        Record::Symlink(b"a"),
        Record::Entry(b"d"),
        Record::File { executable: false, source: Source::Data { size: 1, frame: 10 } },
        Record::EndOfDirectory,
    ];
    let raw = raw(&records).unwrap();
    let expected = [
        b"\x01" as &[u8],
        &OLD.as_bytes()[..32],
        &NEW.as_bytes()[..32],
        b"\x02\x28",
        OLD.as_bytes(),
        b"\x26",
        LIB.as_bytes(),
        b"\x28",
        NEW.as_bytes(),
        b"\x01\x00\x01a\x03\x01b\x08\x01\x05lib/b\xac\x02\x05\x01c\x01\x01a\x01d\x0a\x01\x0a\x00",
    ]
    .concat();
    assert_eq!(raw.escape_ascii().to_string(), expected.escape_ascii().to_string());

    let index = parse(raw).unwrap();
    assert_eq!(*index.renames(), renames());
    let paths: Vec<_> = index.paths().collect();
    assert_eq!((paths.len(), paths[0].store_path(), paths[0].base()), (1, &path(NEW), Some(&path(OLD))));
    assert_eq!(paths[0].records().collect::<Vec<_>>(), records);
    assert_eq!(paths[0].frames(), 34..49);
    assert_eq!(index.bundle_size(), 49);
}

#[test]
fn the_bytes_of_a_head() {
    let head = Head::new(0x102, 0x20).unwrap();
    assert_eq!(&head.bytes(), b"rookery-bundle-1\x02\x01\0\0\x20\0\0\0");
    assert_eq!(Head::parse(&head.bytes()), Ok(head));
    assert_eq!((head.index_size(), head.index_frame(), head.frames_begin()), (0x102, 0x20, 24 + 0x20));

    assert_eq!(Head::parse(b"rookery-bundle-2\x02\x01\0\0\x20\0\0\0"), Err(BundleError::Magic));
    assert_eq!(Head::parse(&[0; 24]), Err(BundleError::Magic));
    let most = MAX_INDEX as usize;
    assert!(Head::new(most, most).is_ok());
    for (index, frame) in [(most + 1, 1), (usize::MAX, 1), (100, 2000), (0, usize::MAX)] {
        assert!(matches!(Head::new(index, frame), Err(BundleError::IndexSize { .. })), "{index} {frame}");
    }
}

#[test]
fn a_path_may_be_a_file_or_link_itself() {
    let library = path(LIB);
    let base = Base::Other { path: &library, name: b"" };
    for record in [Record::Symlink(b"/etc"), Record::File { executable: false, source: Source::Copy { base } }] {
        let index = parse(raw(&[record]).unwrap()).unwrap();
        assert_eq!(index.paths().next().unwrap().records().collect::<Vec<_>>(), [record]);
    }
}

#[test]
fn records_that_make_no_tree() {
    let copy = Record::File { executable: false, source: Source::Copy { base: Base::Same } };
    let refused = |records: &[Record]| match raw(records) {
        Err(BundleError::Tree { path: named, problem }) if named == path(NEW) => problem,
        other => panic!("{records:?}: {other:?}"),
    };
    for records in [
        &[Record::Entry(b"a")][..],
        &[Record::EndOfDirectory],
        &[Record::Directory, copy],
        &[Record::Directory, Record::Entry(b"a"), Record::EndOfDirectory],
        &[Record::Directory, Record::Entry(b"a"), Record::Entry(b"b")],
        &[copy, copy],
        &[Record::Directory, Record::EndOfDirectory, Record::EndOfDirectory],
    ] {
        assert_eq!(refused(records), TreeError::Misplaced);
    }
    for records in [&[][..], &[Record::Directory], &[Record::Directory, Record::Entry(b"a")]] {
        assert_eq!(refused(records), TreeError::Unfinished);
    }
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'n'; 256]] {
        assert!(matches!(refused(&[Record::Directory, Record::Entry(name)]), TreeError::Name(_)));
    }
    for (first, second) in [(b"a", b"a"), (b"b", b"a")] {
        let entries = [Record::Directory, Record::Entry(first), copy, Record::Entry(second)];
        assert!(matches!(refused(&entries), TreeError::Order { .. }));
    }
    for target in [&b""[..], b"a\0", &[b't'; 4096]] {
        assert!(matches!(refused(&[Record::Symlink(target)]), TreeError::Name(_)));
    }
    let deep = [Record::Directory, Record::Entry(b"d")].repeat(65);
    assert_eq!(refused(&deep), TreeError::Depth);
}

#[test]
fn sources_that_no_file_can_have() {
    let refused = |source| match raw(&file(source)) {
        Err(BundleError::Tree { problem, .. }) => problem,
        other => panic!("{source:?}: {other:?}"),
    };
    let library = path(LIB);
    let long = b"a/".repeat(3000);
    for name in [&b"/etc/passwd"[..], b"..", b"a/../b", b"a//b", b"a/", b".", b"a\0b", &[b'n'; 256], &long] {
        let copy = Source::Copy { base: Base::Other { path: &library, name } };
        assert!(matches!(refused(copy), TreeError::Name(_)), "{}", name.escape_ascii());
    }
    let patch = |size, frame| Source::Patch { base: Base::Same, size, frame };
    assert_eq!(refused(patch(MAX_PATCHED + 1, 1)), TreeError::Patched(MAX_PATCHED + 1));
    for (size, frame) in [(100, 0), (100, 1125), (u64::MAX, 1)] {
        assert_eq!(refused(Source::Data { size, frame }), TreeError::Frame { frame, size });
    }
    assert!(raw(&file(patch(MAX_PATCHED, 1))).is_ok());
    assert!(raw(&file(Source::Data { size: 0, frame: 9 })).is_ok());

    let mut writer = IndexWriter::new(renames());
    let unpaired = writer.path(&path(NEW), None, file(Source::Copy { base: Base::Same }));
    assert_eq!(unpaired, Err(BundleError::Tree { path: path(NEW), problem: TreeError::Unpaired }));
    assert_eq!(writer.path(&path(NEW), None, [Record::Symlink(b"x")]), Ok(()), "what was refused left nothing behind");
    assert_eq!(writer.path(&path(NEW), None, [Record::Symlink(b"x")]), Err(BundleError::Twice(path(NEW))));
    assert_eq!(parse(writer.finish().unwrap()).unwrap().paths().len(), 1);
}

#[test]
fn an_index_that_was_tampered_with() {
    let raw = raw(&file(Source::Data { size: 1000, frame: 100 })).unwrap();
    for cut in 1..raw.len() {
        let cut_off = parse(raw[..cut].to_vec());
        let at_the_table = cut_off.as_ref().is_ok_and(|index| index.paths().len() == 0);
        assert!(at_the_table || cut_off.is_err(), "{cut}: {cut_off:?}");
    }
    let replaced = |from: &[u8], to: &[u8]| {
        let at = raw.windows(from.len()).position(|window| window == from).expect("it stands there");
        parse([&raw[..at], to, &raw[at + from.len()..]].concat()).unwrap_err().to_string()
    };
    for (from, to, message) in [
        (&b"\x010000"[..], &b"\x02000000"[..], "no hash of a store path"),
        (b"\x01f\x0a", b"\x01f\x0c", "unknown kind"),
        (b"\x01f\x0a", b"\x01f\x05", "a base is not in the table"),
        (b"\x01f\x0a", b"\x81\x00f\x0a", "a number has leading zeros"),
        (b"\x01f\x0a", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a number is too large"),
        (b"\x01f\x0a", b"\xff\x03f\x0a", "a text is too long"),
        (b"hello-2\x01", b"hello-2\x02", "paired with none of the table"),
        (b"\x2811111", b"\x28e1111", "no store path"),
        (b"\xe8\x07\x64", b"\xe8\x07\x00", "a frame of 0 bytes for a file of 1000"),
    ] {
        let error = replaced(from, to);
        assert!(error.contains(message), "{error}");
    }
    let begin = raw.windows(6).position(|window| window == b"\x2811111").expect("the path begins with its text");
    let twice = [&raw[..], &raw[begin..]].concat();
    assert!(matches!(parse(twice), Err(BundleError::Twice(_))));
    let other_length = Index::parse(&Head::new(raw.len() + 1, 1).unwrap(), raw.clone(), Limits::NONE);
    assert!(matches!(other_length, Err(BundleError::IndexLength { .. })));
}

/// With what a bundle between generations of so many paths may hold.
fn parse_between(old: usize, new: usize, raw: &[u8]) -> Result<Index, BundleError> {
    Index::parse(&Head::new(raw.len(), 10)?, raw.to_vec(), Limits::between(old, new))
}

#[test]
fn an_index_with_more_than_its_generations_can_need() {
    let raw = raw(&file(Source::Data { size: 1000, frame: 100 })).unwrap();
    assert!(parse_between(1, 1, &raw).is_ok());
    assert_eq!(parse_between(1, 0, &raw).unwrap_err(), BundleError::TooMany { what: "paths", most: 0 });
    // Said before the first of them is looked at: no memory is taken for so many, and nothing of them need be there.
    let mut renames = Vec::new();
    wire::put_number(&mut renames, 1 << 40);
    assert_eq!(parse_between(3, 4, &renames).unwrap_err(), BundleError::TooMany { what: "renames", most: 7 });
    let bases = [b"\0", &renames[..]].concat();
    assert_eq!(parse_between(3, 4, &bases).unwrap_err(), BundleError::TooMany { what: "bases", most: 7 });
    let error = parse_between(3, 4, &bases).unwrap_err().to_string();
    assert_eq!(error, "the index has more than 7 bases, and so more than its two generations");
}

#[test]
fn frames_that_would_end_beyond_any_file() {
    let data = Source::Data { size: 1 << 62, frame: 1 << 62 };
    let entries = ["a", "b", "c", "d"]
        .map(|name| [Record::Entry(name.as_bytes()), Record::File { executable: false, source: data }]);
    let records = [&[Record::Directory], entries.as_flattened(), &[Record::EndOfDirectory]].concat();
    let error = parse(raw(&records).unwrap()).unwrap_err();
    assert!(error.to_string().contains("longer than any file"), "{error}");
}

fn sources() -> impl Strategy<Value = (bool, u8, u64, u64)> {
    (any::<bool>(), 0..5_u8, 0..MAX_PATCHED, 1..1000_u64)
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        files in proptest::collection::btree_map("[a-z]{1,9}", sources(), 0..20), other in "[a-z]{1,5}(/[a-z]{1,5}){0,3}",
    ) {
        let library = path(LIB);
        let mut records = vec![Record::Directory];
        for (name, &(executable, kind, size, frame)) in &files {
            let base = Base::Other { path: &library, name: other.as_bytes() };
            let source = match kind {
                0 => Source::Copy { base: Base::Same },
                1 => Source::Copy { base },
                2 => Source::Patch { base: Base::Same, size, frame },
                3 => Source::Patch { base, size, frame },
                _ => Source::Data { size, frame },
            };
            records.extend([Record::Entry(name.as_bytes()), Record::File { executable, source }]);
        }
        records.push(Record::EndOfDirectory);
        let index = parse(raw(&records).unwrap()).unwrap();
        let read = index.paths().next().unwrap();
        prop_assert_eq!(read.records().collect::<Vec<_>>(), &records[..]);
        prop_assert_eq!(read.frames(), 34..34 + records.iter().map(Record::frame).sum::<u64>());
    }
}
