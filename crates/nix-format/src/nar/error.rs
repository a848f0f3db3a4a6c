//! Why bytes are refused.

use std::fmt;

use thiserror::Error;

use super::MAX_DEPTH;

/// Why bytes are no NAR, or not the one NAR of their tree. Offsets count from the archive's first byte.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The grammar wants another word here.
    #[error("at byte {offset} of the archive stands {found:?} instead of {expected}")]
    Unexpected {
        /// Where the string begins.
        offset: u64,
        /// What the grammar allows.
        expected: Expected,
        /// What stands there.
        found: String,
    },
    /// A string is longer than anything that may stand here.
    #[error("at byte {offset} of the archive begins a string of {length} bytes where at most {longest} are allowed")]
    TooLong {
        /// Where its length stands.
        offset: u64,
        /// Bytes it claims to have.
        length: u64,
        /// Bytes that are allowed.
        longest: u64,
    },
    /// A string is followed by other bytes than zeros.
    #[error("at byte {offset} of the archive stands padding that is not zero")]
    Padding {
        /// Where that byte stands.
        offset: u64,
    },
    /// An entry's name is empty, `.`, `..`, or has a slash or a NUL.
    #[error("no directory can have an entry {0:?}")]
    Name(String),
    /// Entries must come in ascending order of their bytes, each once.
    #[error("the entry {name:?} stands after {after:?}, out of order")]
    Order {
        /// The entry.
        name: String,
        /// The one before.
        after: String,
    },
    /// A symbolic link points to nothing, or has a NUL in its target.
    #[error("no symbolic link can point to {0:?}")]
    Target(String),
    /// Directories are nested too deeply.
    #[error("directories are nested more than {MAX_DEPTH} deep at byte {offset} of the archive")]
    Depth {
        /// Where the one too many begins.
        offset: u64,
    },
    /// Something follows the archive.
    #[error("the archive ends at byte {offset}, but more bytes follow")]
    Trailing {
        /// Bytes of the archive.
        offset: u64,
    },
    /// The archive is cut off.
    #[error("the archive is cut off after {offset} bytes")]
    Truncated {
        /// Bytes there were.
        offset: u64,
    },
}

/// What the grammar allows at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// One word.
    Word(&'static [u8]),
    /// What a node is.
    Kind,
    /// What a regular file begins with.
    FileHead,
    /// How a directory goes on.
    EntryOrEnd,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{}`", word.escape_ascii()),
            Self::Kind => f.write_str("`regular`, `symlink` or `directory`"),
            Self::FileHead => f.write_str("`executable` or `contents`"),
            Self::EntryOrEnd => f.write_str("`entry` or `)`"),
        }
    }
}
