//! Writing: a caller walks a tree and says what it finds; the types make it impossible to write anything but one
//! well-formed archive.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use thiserror::Error;

use super::{MAGIC, MAX_DEPTH, is_entry_name, padding};
use crate::listing::{Listing, Node};

/// Writes one NAR to `out`; `root` is called once and says what the archive holds. Returns what was written.
///
/// `out` gets many small writes and should be buffered.
///
/// # Errors
/// Those of `root`, of `out`, and [`NarError`] for a tree that no NAR can hold.
pub fn write<W, E, F>(out: W, root: F) -> Result<Listing, E>
where
    W: Write,
    E: From<NarError>,
    F: FnOnce(NodeWriter<'_, W>) -> Result<Written, E>,
{
    let mut sink = Sink { out, offset: 0, buffer: Vec::new() };
    sink.string(MAGIC)?;
    let Written(node) = root(NodeWriter { sink: &mut sink, depth: 0 })?;
    Ok(Listing { root: node, nar_size: sink.offset })
}

/// The place of one file, symbolic link or directory; writing it uses it up.
pub struct NodeWriter<'a, W> {
    sink: &'a mut Sink<W>,
    depth: usize,
}

/// Proof that a node was written, with what it was.
pub struct Written(Node);

impl<'a, W: Write> NodeWriter<'a, W> {
    /// Writes a regular file of `size` bytes, which `contents` must yield exactly.
    ///
    /// # Errors
    /// [`NarError::Size`] if the file grew or shrank meanwhile; errors of reading and writing.
    pub fn regular(self, executable: bool, size: u64, contents: impl Read) -> Result<Written, NarError> {
        let sink = self.sink;
        sink.strings(&[b"(", b"type", b"regular"])?;
        if executable {
            sink.strings(&[b"executable", b""])?;
        }
        sink.string(b"contents")?;
        sink.bytes(&size.to_le_bytes())?;
        let nar_offset = sink.offset;
        let copied = sink.copy(contents.take(size.saturating_add(1)))?;
        if copied != size {
            return Err(NarError::Size { expected: size });
        }
        sink.pad(size)?;
        sink.string(b")")?;
        Ok(Written(Node::Regular { executable, size, nar_offset }))
    }

    /// Writes a symbolic link.
    ///
    /// # Errors
    /// Those of writing.
    pub fn symlink(self, target: &[u8]) -> Result<Written, NarError> {
        self.sink.strings(&[b"(", b"type", b"symlink", b"target", target, b")"])?;
        Ok(Written(Node::Symlink { target: target.to_vec() }))
    }

    /// Writes a directory; `fill` names its entries in ascending order of their bytes.
    ///
    /// # Errors
    /// [`NarError::Depth`], those of `fill` and of writing.
    pub fn directory<E, F>(self, fill: F) -> Result<Written, E>
    where
        E: From<NarError>,
        F: FnOnce(&mut DirectoryWriter<'a, W>) -> Result<(), E>,
    {
        if self.depth >= MAX_DEPTH {
            return Err(NarError::Depth.into());
        }
        self.sink.strings(&[b"(", b"type", b"directory"])?;
        let mut directory = DirectoryWriter { sink: self.sink, depth: self.depth + 1, entries: BTreeMap::new() };
        fill(&mut directory)?;
        directory.sink.string(b")")?;
        Ok(Written(Node::Directory { entries: directory.entries }))
    }
}

/// A directory that is being written.
pub struct DirectoryWriter<'a, W> {
    sink: &'a mut Sink<W>,
    depth: usize,
    entries: BTreeMap<Vec<u8>, Node>,
}

impl<W: Write> DirectoryWriter<'_, W> {
    /// Writes the next entry; `node` says what it is.
    ///
    /// # Errors
    /// [`NarError::Name`] for a name that Nix refuses or that isn't greater than the one before; those of `node`.
    pub fn entry<E, F>(&mut self, name: &[u8], node: F) -> Result<(), E>
    where
        E: From<NarError>,
        F: FnOnce(NodeWriter<'_, W>) -> Result<Written, E>,
    {
        let in_order = self.entries.last_key_value().is_none_or(|(last, _)| last.as_slice() < name);
        if !in_order || !is_entry_name(name) {
            return Err(NarError::Name(String::from_utf8_lossy(name).into_owned()).into());
        }
        self.sink.strings(&[b"entry", b"(", b"name", name, b"node"])?;
        let Written(written) = node(NodeWriter { sink: self.sink, depth: self.depth })?;
        self.sink.string(b")")?;
        self.entries.insert(name.to_vec(), written);
        Ok(())
    }
}

/// Why a tree can't be written as a NAR.
#[derive(Debug, Error)]
pub enum NarError {
    /// The sink or a file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file gave more or fewer bytes than announced.
    #[error("the file changed while it was read: {expected} bytes were expected")]
    Size {
        /// Bytes announced.
        expected: u64,
    },
    /// An entry's name is empty, `.`, `..`, too long, has a slash or a NUL, or comes out of order.
    #[error("no archive can hold an entry {0:?} at this place")]
    Name(String),
    /// Directories are nested too deeply for Nix.
    #[error("directories are nested more than {MAX_DEPTH} deep")]
    Depth,
}

struct Sink<W> {
    out: W,
    offset: u64,
    /// Where files' contents pass through; of [`BUFFER_SIZE`] bytes from the first file on.
    buffer: Vec<u8>,
}

/// Bytes read of a file at a time: small enough to stay in the processor's cache until they are written.
const BUFFER_SIZE: usize = 128 << 10;

impl<W: Write> Sink<W> {
    fn strings(&mut self, strings: &[&[u8]]) -> Result<(), NarError> {
        strings.iter().try_for_each(|string| self.string(string))
    }

    fn string(&mut self, string: &[u8]) -> Result<(), NarError> {
        let length = string.len() as u64;
        self.bytes(&length.to_le_bytes())?;
        self.bytes(string)?;
        self.pad(length)
    }

    fn pad(&mut self, length: u64) -> Result<(), NarError> {
        self.bytes(&[0; 8][..padding(length)])
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), NarError> {
        self.out.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn copy(&mut self, mut contents: impl Read) -> Result<u64, NarError> {
        self.buffer.resize(BUFFER_SIZE, 0);
        let begun = self.offset;
        loop {
            match contents.read(&mut self.buffer) {
                Ok(0) => return Ok(self.offset - begun),
                Ok(read) => {
                    self.out.write_all(&self.buffer[..read])?;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_file(contents: &[u8], announced: u64) -> Result<(Vec<u8>, Listing), NarError> {
        let mut nar = Vec::new();
        let listing = write(&mut nar, |node| node.regular(false, announced, contents))?;
        Ok((nar, listing))
    }

    fn string(text: &[u8]) -> Vec<u8> {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn the_grammar_of_the_manual() {
        let mut nar = Vec::new();
        let listing = write::<_, NarError, _>(&mut nar, |node| {
            node.directory(|directory| {
                directory.entry(b"run", |node| node.regular(true, 3, &b"#!x"[..]))?;
                directory.entry(b"sh", |node| node.symlink(b"run"))
            })
        })
        .unwrap();
        let words = [
            "nix-archive-1",
            "(",
            "type",
            "directory",
            "entry",
            "(",
            "name",
            "run",
            "node",
            "(",
            "type",
            "regular",
            "executable",
            "",
            "contents",
            "#!x",
            ")",
            ")",
            "entry",
            "(",
            "name",
            "sh",
            "node",
            "(",
            "type",
            "symlink",
            "target",
            "run",
            ")",
            ")",
            ")",
        ];
        let expected: Vec<u8> = words.iter().flat_map(|word| string(word.as_bytes())).collect();
        assert_eq!(nar, expected);
        assert_eq!(listing.nar_size, nar.len() as u64);
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_noticed() {
        assert!(matches!(one_file(b"grown", 4), Err(NarError::Size { expected: 4 })));
        assert!(matches!(one_file(b"cut", 4), Err(NarError::Size { expected: 4 })));
    }

    #[test]
    fn names_that_nix_would_refuse() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", b"a", b"b"] {
            let refused = write::<_, NarError, _>(Vec::new(), |node| {
                node.directory(|directory| {
                    directory.entry(b"b", |node| node.symlink(b"x"))?;
                    directory.entry(name, |node| node.symlink(b"x"))
                })
            });
            assert!(matches!(refused, Err(NarError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        fn nest(node: NodeWriter<'_, Vec<u8>>, levels: usize) -> Result<Written, NarError> {
            node.directory(|directory| match levels {
                1 => Ok(()),
                _ => directory.entry(b"d", |node| nest(node, levels - 1)),
            })
        }
        assert!(write(Vec::new(), |node| nest(node, MAX_DEPTH)).is_ok());
        assert!(matches!(write(Vec::new(), |node| nest(node, MAX_DEPTH + 1)), Err(NarError::Depth)));
    }

    proptest! {
        #[test]
        fn size_and_offset_hold(contents: Vec<u8>) {
            let (nar, listing) = one_file(&contents, contents.len() as u64).unwrap();
            prop_assert_eq!(nar.len() as u64, listing.nar_size);
            prop_assert_eq!(nar.len() % 8, 0);
            let Node::Regular { nar_offset, .. } = listing.root else { panic!("a file was written") };
            prop_assert_eq!(&nar[nar_offset as usize..][..contents.len()], &contents[..]);
        }
    }
}
