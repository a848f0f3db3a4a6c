//! Frames that wait on disk until the index, which stands before them, is known.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use crate::durable::{StagedFile, WriteError};

/// One worker's frames. What is written is pending until it is settled.
pub(super) struct Spill {
    staged: StagedFile,
    settled: u64,
    written: u64,
}

impl Spill {
    /// An empty one; it is gone when it is dropped.
    pub(super) fn create(directory: &Path, worker: usize) -> Result<Mutex<Self>, WriteError> {
        let staged = StagedFile::create(directory, &format!("frames-{worker}"))?;
        Ok(Mutex::new(Self { staged, settled: 0, written: 0 }))
    }

    /// Bytes that are pending.
    pub(super) fn pending(&self) -> u64 {
        self.written - self.settled
    }

    /// Keeps what is pending and says where it is, or drops it.
    pub(super) fn settle(&mut self, keep: bool) -> Option<Range<u64>> {
        let pending = self.settled..self.written;
        if keep {
            self.settled = self.written;
            return Some(pending);
        }
        self.written = self.settled;
        None
    }

    /// What was kept.
    pub(super) fn read(&self, range: &Range<u64>) -> Part<'_> {
        Part::of(self.staged.file(), range.clone())
    }
}

impl Write for Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.staged.file().write_at(bytes, self.written)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Some bytes of a file.
pub(super) struct Part<'a> {
    file: &'a File,
    range: Range<u64>,
}

impl<'a> Part<'a> {
    pub(super) fn of(file: &'a File, range: Range<u64>) -> Self {
        Self { file, range }
    }
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX).min(out.len());
        let read = self.file.read_at(&mut out[..left], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}
