//! Reading a bundle as a client does, to see that it gives what it promises.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

use boot_model::Sha256Digest;
use nix_format::bundle::{Base, BundledPath, Head, Index, Limits, MAX_INDEX, Record, Records, Source};
use nix_format::nar::{self, DirectoryWriter, NarError, NodeWriter, Written};
use nix_format::renames::Renames;
use sha2::{Digest as _, Sha256};

use super::patch;
use super::spill::Part;
use super::unpacked::{FileAt, Unpacked};

/// Reads the index of a bundle, which may hold so much.
pub(super) fn read_index(bundle: &File, limits: Limits) -> io::Result<Index> {
    let mut head = [0; Head::SIZE];
    bundle.read_exact_at(&mut head, 0)?;
    let head = Head::parse(&head).map_err(io::Error::other)?;
    let mut frame = vec![0; head.index_frame() as usize];
    bundle.read_exact_at(&mut frame, Head::SIZE as u64)?;
    let raw = zstd::bulk::decompress(&frame, head.index_size().min(MAX_INDEX) as usize)?;
    Index::parse(&head, raw, limits).map_err(io::Error::other)
}

/// The NarHash of a path as the bundle makes it of the old path that it is paired with.
pub(super) fn nar_hash(
    bundle: &File,
    renames: &Renames,
    path: BundledPath<'_>,
    old: &mut Unpacked,
) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    let files = old.files().map(|file| (file.name.clone(), file.clone())).collect();
    let (records, frame) = (path.records(), path.frames().start);
    let mut apply = Apply { bundle, renames, records, frame, old, files, name: Vec::new() };
    let buffered = io::BufWriter::with_capacity(1 << 16, Hasher(&mut hasher));
    nar::write(buffered, |node| apply.node(node)).map_err(io::Error::other)?;
    Ok(Sha256Digest::new(hasher.finalize().into()))
}

struct Apply<'a> {
    bundle: &'a File,
    renames: &'a Renames,
    records: Records<'a>,
    /// Where the next frame begins.
    frame: u64,
    old: &'a mut Unpacked,
    files: HashMap<Vec<u8>, FileAt>,
    /// The components of the name of the node that is made.
    name: Vec<Vec<u8>>,
}

impl Apply<'_> {
    fn node<W: Write>(&mut self, node: NodeWriter<'_, W>) -> Result<Written, NarError> {
        match self.records.next() {
            Some(Record::Directory) => node.directory(|directory| self.entries(directory)),
            Some(Record::Symlink(target)) => node.symlink(target),
            Some(Record::File { executable, source }) => self.file(node, executable, source),
            _ => Err(NarError::Io(io::Error::other("its records make no tree"))),
        }
    }

    fn entries<W: Write>(&mut self, directory: &mut DirectoryWriter<'_, W>) -> Result<(), NarError> {
        while let Some(Record::Entry(name)) = self.records.next() {
            self.name.push(name.to_vec());
            directory.entry(name, |node| self.node(node))?;
            self.name.pop();
        }
        Ok(())
    }

    fn file<W: Write>(
        &mut self,
        node: NodeWriter<'_, W>,
        executable: bool,
        source: Source<'_>,
    ) -> Result<Written, NarError> {
        match source {
            Source::Copy { base } => {
                let base = self.base(base)?;
                node.regular(executable, base.size, self.renames.reading(self.old.reader(&base)))
            }
            Source::Patch { base, size, frame } => {
                let base = self.base(base)?;
                let mut prefix = self.old.contents(&base)?;
                self.renames.apply(&mut prefix);
                let mut packed = Vec::new();
                self.frame(frame).read_to_end(&mut packed)?;
                let contents = patch::unpatch(&prefix, &packed, usize::try_from(size).map_err(io::Error::other)?)?;
                node.regular(executable, size, &contents[..])
            }
            Source::Data { size, frame } => {
                let frame = self.frame(frame);
                node.regular(executable, size, zstd::Decoder::new(frame)?)
            }
        }
    }

    fn base(&self, base: Base<'_>) -> io::Result<FileAt> {
        let name = match base {
            Base::Same => self.name.join(&b'/'),
            Base::Other { name, .. } => name.to_vec(),
        };
        let found = self.files.get(&name).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "a base is not in the path that it should be in"))
    }

    fn frame(&mut self, size: u64) -> Part<'_> {
        let begin = self.frame;
        self.frame += size;
        Part::of(self.bundle, begin..self.frame)
    }
}

struct Hasher<'a>(&'a mut Sha256);

impl Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
