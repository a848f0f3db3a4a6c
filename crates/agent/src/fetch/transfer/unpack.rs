//! A NAR that comes in pieces becomes a tree in the staging place, hashed on the way.
//!
//! Every file is made relative to the open directory that it lies in, must not be there before, and no symbolic link is followed:
//! whatever the archive says, nothing outside the staging place is touched. Modes, owner and times are those that Nix gives a
//! valid path (canonicalisePathMetaData): 0444 or 0555, time 1, owner the one who runs this, root.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use boot_model::Sha256Digest;
use nix::{
    fcntl::{OFlag, openat},
    sys::{
        stat::{Mode, UtimensatFlags, fchmod, futimens, mkdirat, utimensat},
        time::TimeSpec,
    },
    unistd::symlinkat,
};
use nix_format::nar::{Event, NarReader, ReadError};
use sha2::{Digest as _, Sha256};

/// Why a NAR was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(in crate::fetch) enum UnpackError {
    /// The bytes are no NAR.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// There are more bytes than the narinfo says.
    #[error("it is longer than the {0} bytes that its narinfo says")]
    TooLong(u64),
    /// The disk does not take it.
    #[error("writing {name}: {source}")]
    Write { name: String, source: io::Error },
}

/// A tree that is being made.
pub(super) struct Unpacker<'a> {
    nar: NarReader,
    tree: Tree<'a>,
    hash: Sha256,
    taken: u64,
    nar_size: u64,
}

/// What is open, and where the next node goes.
pub(super) struct Tree<'a> {
    staging: BorrowedFd<'a>,
    /// The name of the next node, in the innermost open directory.
    name: Vec<u8>,
    directories: Vec<OwnedFd>,
    file: Option<File>,
}

/// Nix gives every file of its store this time.
const TIME: TimeSpec = TimeSpec::new(1, 0);
const READ_ONLY: Mode = Mode::from_bits_truncate(0o444);
const EXECUTABLE: Mode = Mode::from_bits_truncate(0o555);

impl<'a> Unpacker<'a> {
    /// Unpacks to `name` in the directory `staging`, where it must not be yet; takes `nar_size` bytes at most.
    pub(super) fn new(staging: BorrowedFd<'a>, name: &str, nar_size: u64) -> Self {
        let tree = Tree::new(staging, name);
        Self { nar: NarReader::new(), tree, hash: Sha256::new(), taken: 0, nar_size }
    }

    /// Takes the next bytes of the NAR.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        if self.taken > self.nar_size {
            return Err(UnpackError::TooLong(self.nar_size));
        }
        self.hash.update(bytes);
        while let Some(event) = self.nar.next(&mut bytes)? {
            self.tree.event(event).map_err(|source| UnpackError::Write { name: self.tree.name(), source })?;
        }
        Ok(())
    }

    /// The hash of the whole NAR.
    pub(super) fn finish(self) -> Result<Sha256Digest, UnpackError> {
        self.nar.finish()?;
        Ok(Sha256Digest::new(self.hash.finalize().into()))
    }
}

impl<'a> Tree<'a> {
    /// A tree whose root will be `name` in the directory `staging`.
    pub(super) fn new(staging: BorrowedFd<'a>, name: &str) -> Self {
        Self { staging, name: name.into(), directories: Vec::new(), file: None }
    }

    /// Does on the disk what the archive says next.
    pub(super) fn event(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Entry(name) => {
                self.name.clear();
                self.name.extend_from_slice(name);
            }
            Event::Directory => {
                // Must be writable until its entries are made.
                mkdirat(self.place(), self.name.as_slice(), Mode::S_IRWXU)?;
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let directory = openat(self.place(), self.name.as_slice(), flags, Mode::empty())?;
                self.directories.push(directory);
            }
            Event::EndOfDirectory => {
                let directory = self.directories.pop().ok_or(io::ErrorKind::InvalidData)?;
                fchmod(&directory, EXECUTABLE)?;
                futimens(&directory, &TIME, &TIME)?;
            }
            Event::File { executable, .. } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mode = if executable { EXECUTABLE } else { READ_ONLY };
                self.file = Some(openat(self.place(), self.name.as_slice(), flags, mode)?.into());
            }
            Event::Contents(bytes) => self.file.as_mut().ok_or(io::ErrorKind::InvalidData)?.write_all(bytes)?,
            Event::EndOfFile => {
                let file = self.file.take().ok_or(io::ErrorKind::InvalidData)?;
                futimens(&file, &TIME, &TIME)?;
            }
            Event::Symlink(target) => {
                symlinkat(target, self.place(), self.name.as_slice())?;
                let flags = UtimensatFlags::NoFollowSymlink;
                utimensat(self.place(), self.name.as_slice(), &TIME, &TIME, flags)?;
            }
        }
        Ok(())
    }

    fn place(&self) -> BorrowedFd<'_> {
        self.directories.last().map_or(self.staging, |directory| directory.as_fd())
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}
