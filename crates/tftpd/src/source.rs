//! Where the bytes of a transfer come from.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use tftp_engine::{Mode, netascii};
use tokio::sync::Semaphore;

/// The bytes of one transfer, fixed from its first packet to its last: files are only ever replaced by rename.
#[derive(Debug)]
pub(crate) enum Source {
    File {
        file: File,
        size: u64,
        /// Its file system can't tell what is in memory (tmpfs): all of it is.
        tells_not: AtomicBool,
    },
    Text(Vec<u8>),
}

impl Source {
    /// Reads the beginning, so that an unreadable file is found out before anything is promised.
    pub(crate) fn new(file: File, size: u64, mode: Mode) -> io::Result<Self> {
        match mode {
            Mode::Octet => {
                if size > 0 {
                    file.read_exact_at(&mut [0], 0)?;
                }
                Ok(Self::File { file, size, tells_not: AtomicBool::new(false) })
            }
            Mode::Netascii if size > LONGEST_TEXT => Err(io::ErrorKind::FileTooLarge.into()),
            Mode::Netascii => {
                let mut text = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                file.read_exact_at(&mut text, 0)?;
                Ok(Self::Text(netascii::encode(&text)))
            }
        }
    }

    /// As [`Source::new`], if it need not wait.
    ///
    /// # Errors
    /// `WouldBlock` if it would.
    pub(crate) fn cached(file: File, size: u64, mode: Mode) -> io::Result<Self> {
        if mode == Mode::Netascii {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let source = Self::File { file, size, tells_not: AtomicBool::new(false) };
        if size > 0 {
            source.read_cached(&mut [0], 0)?;
        }
        Ok(source)
    }

    /// How many bytes will be sent.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Text(text) => text.len() as u64,
        }
    }

    /// Fills `buffer` from `offset` on. Too few bytes are an error, never an end: a client must not take half a kernel
    /// for a whole one.
    ///
    /// # Errors
    /// `WouldBlock` if the bytes are not in the page cache: then they are for [`Source::warm`] to bring, outside of the
    /// threads that everybody's packets go through. From a file system that can't tell, they are read in place.
    pub(crate) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File { file, tells_not, .. } if tells_not.load(Ordering::Relaxed) => {
                file.read_exact_at(buffer, offset)
            }
            Self::File { file, tells_not, .. } => match read_cached(file, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    tells_not.store(true, Ordering::Relaxed);
                    file.read_exact_at(buffer, offset)
                }
                read => read,
            },
            Self::Text(text) => {
                let from = usize::try_from(offset).map_err(io::Error::other)?;
                let part = text.get(from..).and_then(|rest| rest.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// As [`Source::read_cached`], and waits for the disk in place. For what [`Source::warm`] has just brought.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.read_exact_at(buffer, offset),
            Self::Text(_) => self.read_cached(buffer, offset),
        }
    }

    /// Brings at least the `length` bytes from `offset` on into the page cache.
    pub(crate) async fn warm(&self, offset: u64, length: usize) -> io::Result<()> {
        let Self::File { file, size, .. } = self else { return Ok(()) };
        let file = file.try_clone()?;
        let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.max(AHEAD).min(rest);
        at_leisure(move || file.read_exact_at(&mut vec![0; length], offset)).await?
    }
}

/// Does what may wait for a disk, a few at a time, on threads of their own.
pub(crate) async fn at_leisure<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let permit = READERS.acquire().await.map_err(io::Error::other)?;
    let work = move || {
        // Held by the thread, not by who waits for it, who may be gone before.
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: `piece` is `buffer`, which nobody else has until the call returns.
    #[allow(unsafe_code)]
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const piece, 1, offset, libc::RWF_NOWAIT) };
    match Errno::result(read) {
        Ok(read) if usize::try_from(read) == Ok(buffer.len()) => Ok(()),
        Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// More at once gains nothing from a disk, and each holds a thread and a buffer.
static READERS: Semaphore = Semaphore::const_new(16);
/// What a cold read brings at least, in bytes: the next windows of the same transfer.
const AHEAD: usize = 256 << 10;
/// Text is translated in memory. A person looks at a menu this way; nobody boots by it.
const LONGEST_TEXT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_in_memory_is_brought_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 100_000]).unwrap();
        let source = Source::new(File::open(&path).unwrap(), 100_000, Mode::Octet).unwrap();
        source.warm(50_000, 1000).await.unwrap();
        let mut buffer = [0; 1000];
        source.read(&mut buffer, 50_000).unwrap();
        assert_eq!(buffer, [7; 1000]);
        source.read_cached(&mut buffer, 99_000).unwrap();
    }

    /// Somebody cut the file instead of replacing it: an error, and no end.
    #[tokio::test]
    async fn a_file_that_shrank_is_no_whole_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 3000]).unwrap();
        let source = Source::new(File::open(&path).unwrap(), 3000, Mode::Octet).unwrap();
        std::fs::write(&path, [7; 2000]).unwrap();
        assert_eq!(source.read_cached(&mut [0; 1468], 1468).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(source.warm(1468, 1468).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
