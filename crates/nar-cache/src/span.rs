//! A range of a file that goes out by sendfile(2).

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

/// What of a range is still to be sent, and taken from it window by window.
#[derive(Debug)]
pub(crate) struct Span {
    file: Arc<File>,
    at: u64,
    end: u64,
}

/// A piece of a file, at most [`Span::WINDOW`] bytes.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    pub(crate) len: usize,
}

impl Span {
    /// The most that one window has: what a slow disk is made to read in one go, and what one connection may send before the
    /// others get their turn.
    pub(crate) const WINDOW: usize = 1024 * 1024;

    pub(crate) fn new(file: File, range: Range<u64>) -> Self {
        Self { file: Arc::new(file), at: range.start, end: range.end }
    }

    /// Bytes that are still to be sent.
    pub(crate) const fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Whether the next window is in memory, so that sendfile will not wait for the disk. (The kernel drops pages in the order
    /// in which it read them: with both ends there, what lies between is there but for a race that costs one disk access.)
    pub(crate) fn is_warm(&self) -> bool {
        let window = self.window();
        window == 0 || (is_resident(&self.file, self.at) && is_resident(&self.file, self.at + window as u64 - 1))
    }

    /// Reads the next window into memory if it is not there. It blocks, and is for a thread that may.
    pub(crate) fn warm(self) -> io::Result<Self> {
        if self.is_warm() {
            return Ok(self);
        }
        let mut scratch = vec![0; SCRATCH.min(self.window())];
        let (mut at, end) = (self.at, self.at + self.window() as u64);
        while at < end {
            let wanted = scratch.len().min((end - at) as usize);
            self.file.read_exact_at(&mut scratch[..wanted], at)?;
            at += wanted as u64;
        }
        Ok(self)
    }

    /// Takes the next window, of at most this length.
    pub(crate) fn take(&mut self, most: usize) -> Window {
        let window = Window { file: Arc::clone(&self.file), at: self.at, len: self.window().min(most) };
        self.at += window.len as u64;
        window
    }

    fn window(&self) -> usize {
        self.left().min(Self::WINDOW as u64) as usize
    }
}

/// Whether reading this byte would not wait. Where the file system can't say, it is memory (tmpfs) or taken for a disk.
fn is_resident(file: &File, at: u64) -> bool {
    let mut byte = [0];
    match read_nowait(file, &mut byte, at) {
        Ok(_) => true,
        Err(Errno::EOPNOTSUPP) => fstatfs(file).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC),
        Err(_) => false,
    }
}

/// preadv2(2), only from memory.
fn read_nowait(file: &File, bytes: &mut [u8], at: u64) -> Result<usize, Errno> {
    let slice = IoSliceMut::new(bytes);
    let at = libc::off_t::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: an IoSliceMut has the layout of an iovec and borrows `bytes`, which the call writes within its length.
    #[allow(unsafe_code)]
    let read = unsafe { libc::preadv2(file.as_raw_fd(), std::ptr::from_ref(&slice).cast(), 1, at, libc::RWF_NOWAIT) };
    Errno::result(read).map(isize::unsigned_abs)
}

/// Bytes of one read that warms.
const SCRATCH: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn windows_cover_the_range_once() {
        let file = tempfile::tempfile().unwrap();
        let range = 3..2 * Span::WINDOW as u64 + 8;
        file.set_len(range.end).unwrap();
        let mut span = Span::new(file, range.clone());
        let mut at = range.start;
        while span.left() > 0 {
            let window = span.take(Span::WINDOW);
            assert_eq!((window.at, window.len > 0), (at, true));
            at += window.len as u64;
        }
        assert_eq!(at, range.end);
    }

    #[test]
    fn a_file_that_was_just_written_is_warm_and_stays_what_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10]).unwrap();
        let span = Span::new(file, 0..10).warm().unwrap();
        assert_eq!(span.left(), 10);
    }

    #[test]
    fn a_file_that_is_too_short_is_found_out() {
        let file = tempfile::tempfile().unwrap();
        let at_the_end = Span::new(file, 0..10).warm();
        // Cold by what the kernel says, so it is read.
        assert!(at_the_end.is_err() || is_resident(&tempfile::tempfile().unwrap(), 9));
    }
}
