//! A packed store path whose files can be had in any order.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix_format::nar::{Event, NarReader};
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_frame_content_size};

use crate::frames::FRAME_SIZE;

/// One pack. It was written in independent frames, so a file costs the frames that it lies in; one unpacked frame is kept.
pub(super) struct Unpacked {
    file: File,
    frames: Vec<Frame>,
    steps: Vec<Step>,
    /// A frame's number and contents.
    kept: Option<(usize, Vec<u8>)>,
}

/// What its tree has next, in the order of the NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Directory,
    Entry(Vec<u8>),
    File(FileAt),
    Symlink(Vec<u8>),
    EndOfDirectory,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileAt {
    /// Its name within the path, components and slashes; empty if the path is itself the file.
    pub(super) name: Vec<u8>,
    pub(super) executable: bool,
    pub(super) size: u64,
    /// Where its contents begin in the NAR; 0 if it is empty.
    offset: u64,
}

/// Where a frame lies in the pack, and its contents in the NAR.
struct Frame {
    packed: u64,
    packed_size: usize,
    content: u64,
    content_size: usize,
}

impl Unpacked {
    /// Opens a pack and reads its tree, which unpacks all of it once.
    ///
    /// # Errors
    /// If it can't be read, or is not in the frames that the publisher writes.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut unpacked = Self { file, frames: Vec::new(), steps: Vec::new(), kept: None };
        let mut tree = TreeReader::default();
        let (mut packed, mut content) = (0, 0);
        while packed < size {
            let frame = unpacked.find_frame(packed, size, content)?;
            packed += frame.packed_size as u64;
            content += frame.content_size as u64;
            unpacked.frames.push(frame);
            let at = unpacked.frames.len() - 1;
            unpacked.keep(at)?;
            tree.read(unpacked.kept.as_ref().map_or(&[], |(_, bytes)| bytes))?;
        }
        unpacked.steps = tree.finish()?;
        Ok(unpacked)
    }

    /// Its tree.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Its regular files.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileAt> {
        self.steps.iter().filter_map(|step| match step {
            Step::File(file) => Some(file),
            _ => None,
        })
    }

    /// A file's contents, which the caller knows to be small enough.
    pub(super) fn contents(&mut self, file: &FileAt) -> io::Result<Vec<u8>> {
        let mut contents = Vec::with_capacity(usize::try_from(file.size).unwrap_or_default());
        self.reader(file).read_to_end(&mut contents)?;
        Ok(contents)
    }

    /// A file's contents as they come.
    pub(super) fn reader(&mut self, file: &FileAt) -> impl Read {
        Contents { at: file.offset, end: file.offset + file.size, unpacked: self }
    }

    fn find_frame(&self, packed: u64, size: u64, content: u64) -> io::Result<Frame> {
        let most = compress_bound(FRAME_SIZE) as u64;
        let mut bytes = vec![0; usize::try_from(most.min(size - packed)).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, packed)?;
        let packed_size = find_frame_compressed_size(&bytes).map_err(|_| odd())?;
        let content_size = get_frame_content_size(&bytes).ok().flatten().and_then(|size| usize::try_from(size).ok());
        let content_size = content_size.filter(|size| *size <= FRAME_SIZE).ok_or_else(odd)?;
        Ok(Frame { packed, packed_size, content, content_size })
    }

    /// Unpacks a frame, unless it is the one that is kept.
    fn keep(&mut self, number: usize) -> io::Result<()> {
        let mut bytes = match self.kept.take() {
            Some((kept, bytes)) if kept == number => {
                self.kept = Some((kept, bytes));
                return Ok(());
            }
            Some((_, bytes)) => bytes,
            None => Vec::new(),
        };
        let frame = &self.frames[number];
        let mut packed = vec![0; frame.packed_size];
        self.file.read_exact_at(&mut packed, frame.packed)?;
        bytes.resize(frame.content_size, 0);
        let written = zstd::bulk::decompress_to_buffer(&packed, &mut bytes)?;
        if written != frame.content_size {
            return Err(odd());
        }
        self.kept = Some((number, bytes));
        Ok(())
    }
}

struct Contents<'a> {
    unpacked: &'a mut Unpacked,
    at: u64,
    end: u64,
}

impl Read for Contents<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            return Ok(0);
        }
        let number = self.unpacked.frames.partition_point(|frame| frame.content <= self.at) - 1;
        self.unpacked.keep(number)?;
        let begin = usize::try_from(self.at - self.unpacked.frames[number].content).map_err(io::Error::other)?;
        let kept = self.unpacked.kept.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let taken = left.min(out.len()).min(kept.len() - begin);
        out[..taken].copy_from_slice(&kept[begin..begin + taken]);
        self.at += taken as u64;
        Ok(taken)
    }
}

/// Reads a tree out of a NAR that comes in pieces.
#[derive(Default)]
struct TreeReader {
    nar: NarReader,
    offset: u64,
    /// The components of the name that is next, for each open directory one.
    name: Vec<Vec<u8>>,
    steps: Vec<Step>,
}

impl TreeReader {
    fn read(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut input = piece;
        while let Some(event) = self.nar.next(&mut input).map_err(io::Error::other)? {
            match event {
                Event::Directory => {
                    self.name.push(Vec::new());
                    self.steps.push(Step::Directory);
                }
                Event::Entry(name) => {
                    if let Some(last) = self.name.last_mut() {
                        name.clone_into(last);
                    }
                    self.steps.push(Step::Entry(name.to_owned()));
                }
                Event::File { executable, size } => {
                    let name = self.name.join(&b'/');
                    self.steps.push(Step::File(FileAt { name, executable, size, offset: 0 }));
                }
                Event::Contents(contents) => {
                    let begin = self.offset + (piece.len() - input.len() - contents.len()) as u64;
                    // No contents begin at 0, where the archive itself does.
                    if let Some(Step::File(file @ FileAt { offset: 0, .. })) = self.steps.last_mut() {
                        file.offset = begin;
                    }
                }
                Event::EndOfFile => {}
                Event::Symlink(target) => self.steps.push(Step::Symlink(target.to_owned())),
                Event::EndOfDirectory => {
                    self.name.pop();
                    self.steps.push(Step::EndOfDirectory);
                }
            }
        }
        self.offset += piece.len() as u64;
        Ok(())
    }

    fn finish(self) -> io::Result<Vec<Step>> {
        self.nar.finish().map_err(io::Error::other)?;
        Ok(self.steps)
    }
}

fn odd() -> io::Error {
    io::Error::other("it is not in frames as the publisher writes them")
}
