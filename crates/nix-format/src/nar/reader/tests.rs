use proptest::prelude::*;

use super::*;
use crate::nar::{self, NarError, NodeWriter, Written};

/// An archive of these words: `_` stands for the empty one.
fn words(text: &str) -> Vec<u8> {
    let word = |word: &str| string(if word == "_" { b"" } else { word.as_bytes() });
    text.split_whitespace().flat_map(word).collect()
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Reads pieces of the archive; contents that come in pieces are joined.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, ReadError> {
    let mut reader = NarReader::new();
    let mut events: Vec<String> = Vec::new();
    for mut piece in pieces {
        while let Some(event) = reader.next(&mut piece)? {
            let text = match event {
                Event::Entry(name) => format!("entry {}", name.escape_ascii()),
                Event::Symlink(target) => format!("symlink {}", target.escape_ascii()),
                Event::File { executable, size } => format!("file {size}{}", if executable { " x" } else { "" }),
                Event::Contents(contents) => match events.last_mut() {
                    Some(last) if last.starts_with("contents") => {
                        last.push_str(&contents.escape_ascii().to_string());
                        continue;
                    }
                    _ => format!("contents {}", contents.escape_ascii()),
                },
                other => format!("{other:?}"),
            };
            events.push(text);
        }
        assert_eq!(piece, b"", "`None` means that everything was taken");
    }
    reader.finish()?;
    Ok(events)
}

const TREE: &str = "nix-archive-1 ( type directory
    entry ( name bin node ( type directory
        entry ( name hello node ( type regular executable _ contents #!/bin/sh-and-more ) ) ) )
    entry ( name empty node ( type regular contents _ ) )
    entry ( name sh node ( type symlink target ../bin/hello ) ) )";

#[test]
fn a_tree_comes_out_as_events() {
    let archive = words(TREE);
    let events = read([&archive[..]]).unwrap();
    let expected = [
        "Directory",
        "entry bin",
        "Directory",
        "entry hello",
        "file 18 x",
        "contents #!/bin/sh-and-more",
        "EndOfFile",
        "EndOfDirectory",
        "entry empty",
        "file 0",
        "EndOfFile",
        "entry sh",
        "symlink ../bin/hello",
        "EndOfDirectory",
    ];
    assert_eq!(events, expected);
    for size in 1..archive.len() {
        assert_eq!(read(archive.chunks(size)).unwrap(), expected, "in pieces of {size} bytes");
    }
}

#[test]
fn a_root_need_not_be_a_directory() {
    assert_eq!(read([&words("nix-archive-1 ( type symlink target / )")[..]]).unwrap(), ["symlink /"]);
    let file = words("nix-archive-1 ( type regular contents abc )");
    assert_eq!(read([&file[..]]).unwrap(), ["file 3", "contents abc", "EndOfFile"]);
}

#[test]
fn a_cut_archive_is_noticed_at_every_byte() {
    let archive = words(TREE);
    for cut in 0..archive.len() {
        assert_eq!(read([&archive[..cut]]), Err(ReadError::Truncated { offset: cut as u64 }));
    }
}

#[test]
fn nothing_may_follow() {
    let mut archive = words(TREE);
    let end = archive.len() as u64;
    archive.push(0);
    assert_eq!(read([&archive[..]]), Err(ReadError::Trailing { offset: end }));
    assert_eq!(read(archive.chunks(1)), Err(ReadError::Trailing { offset: end }));
}

#[test]
fn an_archive_that_was_refused_stays_refused() {
    let mut reader = NarReader::new();
    assert!(reader.next(&mut &words("nix-archive-2")[..]).is_err());
    assert!(reader.next(&mut &words(TREE)[..]).is_err());
    assert!(reader.finish().is_err());
}

#[test]
fn other_words_than_the_grammar_has() {
    let refusals = [
        ("nix-archive-2", "at byte 0 of the archive stands \"nix-archive-2\" instead of `nix-archive-1`"),
        ("nix-archive-1 )", "at byte 24 of the archive stands \")\" instead of `(`"),
        ("nix-archive-1 ( kind", "at byte 40 of the archive stands \"kind\" instead of `type`"),
        ("nix-archive-1 ( type fifo", "stands \"fifo\" instead of `regular`, `symlink` or `directory`"),
        ("nix-archive-1 ( type regular )", "stands \")\" instead of `executable` or `contents`"),
        ("nix-archive-1 ( type regular executable x", "stands \"x\" instead of ``"),
        ("nix-archive-1 ( type regular executable _ executable _", "instead of `contents`"),
        ("nix-archive-1 ( type regular contents x contents y )", "stands \"contents\" instead of `)`"),
        ("nix-archive-1 ( type symlink )", "stands \")\" instead of `target`"),
        ("nix-archive-1 ( type symlink target x target y )", "stands \"target\" instead of `)`"),
        ("nix-archive-1 ( type directory contents", "stands \"contents\" instead of `entry` or `)`"),
        ("nix-archive-1 ( type directory entry )", "stands \")\" instead of `(`"),
        ("nix-archive-1 ( type directory entry ( node", "stands \"node\" instead of `name`"),
        ("nix-archive-1 ( type directory entry ( name a )", "stands \")\" instead of `node`"),
        ("nix-archive-1 ( type directory entry ( name a node ( type symlink target x ) entry", "instead of `)`"),
    ];
    for (archive, message) in refusals {
        let error = read([&words(archive)[..]]).unwrap_err().to_string();
        assert!(error.contains(message), "{archive}: {error}");
    }
}

#[test]
fn names_that_would_lead_out_of_the_directory() {
    let long = "n".repeat(MAX_NAME);
    let named = |name: &[u8]| {
        let mut archive = words("nix-archive-1 ( type directory entry ( name");
        archive.extend(string(name));
        archive.extend(words("node ( type symlink target x ) ) )"));
        read([&archive[..]])
    };
    assert!(named(long.as_bytes()).is_ok());
    assert!(named(b"...").is_ok());
    for name in [&b""[..], b".", b"..", b"/", b"/etc", b"a/b", b"../x", b"a/", b"a\0", b"\0"] {
        assert_eq!(named(name), Err(ReadError::Name(lossy(name))));
    }
    let too_long = named(format!("{long}n").as_bytes()).unwrap_err();
    assert!(matches!(too_long, ReadError::TooLong { length: 256, longest: 255, .. }), "{too_long}");
}

#[test]
fn entries_twice_or_out_of_order() {
    for (first, second) in [("a", "a"), ("b", "a"), ("a", "B"), ("ab", "a")] {
        let entry = |name| format!("entry ( name {name} node ( type directory ) )");
        let archive = words(&format!("nix-archive-1 ( type directory {} {} )", entry(first), entry(second)));
        let order = ReadError::Order { name: second.to_owned(), after: first.to_owned() };
        assert_eq!(read([&archive[..]]), Err(order));
    }
}

#[test]
fn targets_that_no_link_can_have() {
    let to = |target: &[u8]| {
        let mut archive = words("nix-archive-1 ( type symlink target");
        archive.extend(string(target));
        archive.extend(words(")"));
        read([&archive[..]])
    };
    assert!(to(&[b'x'; MAX_TARGET]).is_ok());
    assert!(to(b"../../../../etc/passwd").is_ok(), "a link may point anywhere; whoever unpacks must not follow it");
    for target in [&b""[..], b"a\0b"] {
        assert_eq!(to(target), Err(ReadError::Target(lossy(target))));
    }
    assert!(matches!(to(&[b'x'; MAX_TARGET + 1]), Err(ReadError::TooLong { longest: 4095, .. })));
}

#[test]
fn lengths_beyond_reason_are_refused_before_a_byte_of_the_string_comes() {
    for (words_before, longest) in [
        ("", 13),
        ("nix-archive-1 ( type", 13),
        ("nix-archive-1 ( type symlink target", 4095),
        ("nix-archive-1 ( type directory entry ( name", 255),
        ("nix-archive-1 ( type regular contents", MAX_FILE),
    ] {
        for length in [longest + 1, u64::MAX - 7, u64::MAX] {
            let mut archive = words(words_before);
            let offset = archive.len() as u64;
            archive.extend(length.to_le_bytes());
            assert_eq!(read([&archive[..]]), Err(ReadError::TooLong { offset, length, longest }));
        }
    }
}

#[test]
fn padding_must_be_zero() {
    let archive = words(TREE);
    let read = |at: usize, byte: u8| {
        let mut archive = archive.clone();
        archive[at] = byte;
        read([&archive[..]])
    };
    let end_of_magic = 8 + MAGIC.len();
    assert_eq!(read(end_of_magic, 1), Err(ReadError::Padding { offset: end_of_magic as u64 }));
    let contents = archive.windows(18).position(|window| window == b"#!/bin/sh-and-more").unwrap();
    for at in contents + 18..contents + 24 {
        assert_eq!(read(at, 1), Err(ReadError::Padding { offset: at as u64 }));
    }
}

#[test]
fn depth_has_an_end() {
    let nested = |levels: usize| {
        let open = "( type directory entry ( name d node ".repeat(levels);
        let archive = words(&format!("nix-archive-1 {open} ( type symlink target x ) {}", ") ) ".repeat(levels)));
        read([&archive[..]])
    };
    assert!(nested(MAX_DEPTH).is_ok());
    assert!(matches!(nested(MAX_DEPTH + 1), Err(ReadError::Depth { .. })));
    assert!(matches!(nested(100_000), Err(ReadError::Depth { .. })));
}

#[derive(Debug, Clone)]
enum Tree {
    File { executable: bool, contents: Vec<u8> },
    Symlink(Vec<u8>),
    Directory(std::collections::BTreeMap<Vec<u8>, Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(executable, contents)| Tree::File { executable, contents }),
        proptest::collection::vec(1..=255_u8, 1..20).prop_map(Tree::Symlink),
    ];
    let names = || "[a-z]{1,9}".prop_map(String::into_bytes);
    leaf.prop_recursive(5, 40, 6, move |inner| {
        proptest::collection::btree_map(names(), inner, 0..6).prop_map(Tree::Directory)
    })
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

fn events(tree: &Tree, out: &mut Vec<String>) {
    match tree {
        Tree::File { executable, contents } => {
            out.push(format!("file {}{}", contents.len(), if *executable { " x" } else { "" }));
            if !contents.is_empty() {
                out.push(format!("contents {}", contents.escape_ascii()));
            }
            out.push("EndOfFile".to_owned());
        }
        Tree::Symlink(target) => out.push(format!("symlink {}", target.escape_ascii())),
        Tree::Directory(entries) => {
            out.push("Directory".to_owned());
            for (name, tree) in entries {
                out.push(format!("entry {}", name.escape_ascii()));
                events(tree, out);
            }
            out.push("EndOfDirectory".to_owned());
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(tree in trees(), cuts in proptest::collection::vec(1..50_usize, 1..20)) {
        let mut archive = Vec::new();
        nar::write(&mut archive, |node| write(node, &tree)).unwrap();
        let mut expected = Vec::new();
        events(&tree, &mut expected);

        let mut rest = &archive[..];
        let pieces = cuts.iter().cycle().map_while(|&size| {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(read(pieces).unwrap(), expected);
    }
}
