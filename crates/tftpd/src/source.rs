//! Where the bytes of a transfer come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tftp_engine::{Mode, netascii};

/// The bytes of one transfer, fixed from its first packet to its last: files are only ever replaced by rename.
#[derive(Debug)]
pub(crate) enum Source {
    File { file: File, size: u64 },
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
                Ok(Self::File { file, size })
            }
            Mode::Netascii if size > LONGEST_TEXT => Err(io::ErrorKind::FileTooLarge.into()),
            Mode::Netascii => {
                let mut text = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                file.read_exact_at(&mut text, 0)?;
                Ok(Self::Text(netascii::encode(&text)))
            }
        }
    }

    /// How many bytes will be sent.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Text(text) => text.len() as u64,
        }
    }

    /// Fills `buffer` from `offset` on. The read is done in place: from the page cache it takes microseconds, and what a
    /// room boots is read from disk once (the kernel reads ahead); a slow disk delays one worker thread. Too few bytes are an error, never an end: a client must not take half a kernel
    /// for a whole one.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.read_exact_at(buffer, offset),
            Self::Text(text) => {
                let from = usize::try_from(offset).map_err(io::Error::other)?;
                let part = text.get(from..).and_then(|rest| rest.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// Text is translated in memory. A person looks at a menu this way; nobody boots by it.
const LONGEST_TEXT: u64 = 1 << 20;
