use boot_model::StorePath;
use thiserror::Error;

use super::{MAX_INDEX, MAX_PATCHED};
use crate::renames::Ambiguous;

/// Why bytes are no bundle, or paths can't be put into one. Offsets count from the first byte of the uncompressed index.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleError {
    /// The file begins with something else.
    #[error("the file does not begin as a bundle of version 1 does; was it written by another version?")]
    Magic,
    /// An index can't have this length.
    #[error("an index of {index} bytes in a frame of {frame}; at most {MAX_INDEX} bytes are allowed")]
    IndexSize {
        /// Bytes uncompressed.
        index: u64,
        /// Bytes of its frame.
        frame: u64,
    },
    /// The index has another length than the head says.
    #[error("the index has {found} bytes where the head says {expected}")]
    IndexLength {
        /// By the head.
        expected: u32,
        /// There are.
        found: usize,
    },
    /// Something is cut off, or malformed.
    #[error("at byte {offset} of the index: {problem}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// There is more in it than a bundle between its two generations can need.
    #[error("the index has more than {most} {what}, and so more than its two generations")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As many are allowed.
        most: usize,
    },
    /// Two renames contradict each other.
    #[error(transparent)]
    Renames(#[from] Ambiguous),
    /// A path's records make no tree.
    #[error("{path}: {problem}")]
    Tree {
        /// The path.
        path: StorePath,
        /// What is wrong with it.
        problem: TreeError,
    },
    /// A path comes a second time.
    #[error("{0} stands there twice")]
    Twice(StorePath),
}

/// Why records make no tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TreeError {
    /// A record stands where none of its kind may.
    #[error("a record stands where none of its kind can")]
    Misplaced,
    /// The records end before the tree does.
    #[error("its records end too early")]
    Unfinished,
    /// A name, target or name of a base that no file can have.
    #[error("{0:?} is no name or target a file can have here")]
    Name(String),
    /// Entries must come in ascending order of their bytes, each once.
    #[error("the entry {name:?} stands after {after:?}, out of order")]
    Order {
        /// The entry.
        name: String,
        /// The one before.
        after: String,
    },
    /// Directories are nested too deeply.
    #[error("directories are nested too deeply")]
    Depth,
    /// A file is based on its path's pair, but there is none.
    #[error("a file is based on the path it is paired with, but it is paired with none")]
    Unpaired,
    /// A patched file is too large.
    #[error("a patched file has {0} bytes; at most {MAX_PATCHED} are allowed")]
    Patched(u64),
    /// A frame can't have this length for its file.
    #[error("a frame of {frame} bytes for a file of {size}")]
    Frame {
        /// Bytes of the frame.
        frame: u64,
        /// Bytes of the file.
        size: u64,
    },
}
