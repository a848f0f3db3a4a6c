//! What is promised of any bytes at all. The tests of nix-format run it over the corpus and mutations of it, on stable; the
//! fuzz targets beside it run the same functions under libFuzzer.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use nix_format::bundle::{Head, Index, IndexWriter, Limits};
use nix_format::closure::Closure;
use nix_format::nar::{self, Event, NarError, NarReader, NodeWriter, ReadError, Written};
use nix_format::narinfo::NarInfo;

/// An archive is refused, or it is the one that its tree has; in how many pieces it comes makes no difference.
pub(crate) fn nar(bytes: &[u8]) {
    let whole = read([bytes]);
    let piece = 1 + usize::from(bytes.first().copied().unwrap_or_default()) % 61;
    assert_eq!(read(bytes.chunks(piece)), whole, "in pieces of {piece} bytes");
    let Ok(tree) = whole else { return };
    let mut again = Vec::new();
    nar::write(&mut again, |node| write(node, &tree)).expect("what could be read can be written");
    assert!(again == bytes, "another archive of the same tree was taken");
}

/// A text is refused, or what it says survives being written.
pub(crate) fn narinfo(bytes: &[u8]) {
    fixpoint::<NarInfo>(bytes);
}

/// As for [`narinfo`].
pub(crate) fn closure(bytes: &[u8]) {
    fixpoint::<Closure>(bytes);
}

/// A head and the uncompressed index are refused, or what they say survives being written. Frames are one range per path,
/// without gaps.
pub(crate) fn bundle(bytes: &[u8]) {
    let Some((start, raw)) = bytes.split_first_chunk() else { return };
    if let Ok(head) = Head::parse(start) {
        assert_eq!(head.bytes(), *start);
    }
    // A mutated index seldom has the length that its head says.
    let Ok(head) = Head::new(raw.len(), 0) else { return };
    let Ok(index) = Index::parse(&head, raw.to_vec(), Limits::NONE) else { return };
    let mut writer = IndexWriter::new(index.renames().clone());
    let mut end = head.frames_begin();
    for path in index.paths() {
        assert_eq!(path.frames().start, end);
        end += path.records().map(|record| record.frame()).sum::<u64>();
        assert_eq!(path.frames().end, end);
        writer.path(path.store_path(), path.base(), path.records()).expect("what could be read can be written");
    }
    assert_eq!(index.bundle_size(), end);
    let again = writer.finish().expect("it is no longer than before");
    let head = Head::new(again.len(), 0).expect("it is no longer");
    let again = Index::parse(&head, again, Limits::NONE).expect("it was just written");
    assert_eq!(again.renames(), index.renames());
    assert_eq!(again.paths().len(), index.paths().len());
    for (ours, theirs) in again.paths().zip(index.paths()) {
        assert_eq!((ours.store_path(), ours.base()), (theirs.store_path(), theirs.base()));
        assert!(ours.records().eq(theirs.records()));
    }
}

fn fixpoint<T: FromStr + Display>(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(parsed) = text.parse::<T>() else { return };
    let written = parsed.to_string();
    let Ok(again) = written.parse::<T>() else { panic!("refused what it wrote itself:\n{written}") };
    assert_eq!(again.to_string(), written);
}

#[derive(Debug, PartialEq)]
enum Tree {
    File { executable: bool, contents: Vec<u8> },
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

/// A directory that is being read, and the name of its entry that is.
#[derive(Default)]
struct Open {
    entries: BTreeMap<Vec<u8>, Tree>,
    entry: Vec<u8>,
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Tree, ReadError> {
    let mut reader = NarReader::new();
    let mut open: Vec<Open> = Vec::new();
    let (mut file, mut root) = (None, None);
    for mut piece in pieces {
        while let Some(event) = reader.next(&mut piece)? {
            let node = match event {
                Event::Directory => {
                    open.push(Open::default());
                    continue;
                }
                Event::Entry(name) => {
                    open.last_mut().expect("an entry is in a directory").entry = name.to_vec();
                    continue;
                }
                Event::File { executable, size } => {
                    file = Some((executable, size, Vec::new()));
                    continue;
                }
                Event::Contents(bytes) => {
                    assert!(!bytes.is_empty());
                    file.as_mut().expect("contents are in a file").2.extend_from_slice(bytes);
                    continue;
                }
                Event::EndOfFile => {
                    let (executable, size, contents) = file.take().expect("a file ends that began");
                    assert_eq!(size, contents.len() as u64);
                    Tree::File { executable, contents }
                }
                Event::Symlink(target) => Tree::Symlink(target.to_vec()),
                Event::EndOfDirectory => Tree::Directory(open.pop().expect("a directory ends that began").entries),
            };
            match open.last_mut() {
                Some(Open { entries, entry }) => assert_eq!(entries.insert(std::mem::take(entry), node), None),
                None => assert_eq!(root.replace(node), None),
            }
        }
        assert!(piece.is_empty());
    }
    reader.finish()?;
    Ok(root.expect("a whole archive has a root"))
}

fn write(node: NodeWriter<'_, &mut Vec<u8>>, tree: &Tree) -> Result<Written, NarError> {
    match tree {
        Tree::File { executable, contents } => node.regular(*executable, contents.len() as u64, &contents[..]),
        Tree::Symlink(target) => node.symlink(target),
        Tree::Directory(entries) => node.directory(|directory| {
            entries.iter().try_for_each(|(name, tree)| directory.entry(name, |node| write(node, tree)))
        }),
    }
}
