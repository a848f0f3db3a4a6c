//! The NAR format (Nix manual, "Nix Archive"): a file tree as one deterministic stream of bytes.
//!
//! A string is its length as 64-bit little endian, its bytes, and zeros up to a multiple of 8. There is one archive for
//! each tree: [`write()`] makes it, and [`NarReader`] takes nothing else.

mod error;
mod reader;
mod writer;

pub use error::{Expected, ReadError};
pub use reader::{Event, NarReader};
pub use writer::{DirectoryWriter, NarError, NodeWriter, Written, write};

/// How many directories may lie within each other: Nix refuses to unpack more.
pub const MAX_DEPTH: usize = 64;

/// Bytes of an entry's name, at most: no Linux file system holds longer ones.
pub const MAX_NAME: usize = 255;

/// Bytes of a symbolic link's target, at most: Linux' `PATH_MAX` without its NUL.
pub const MAX_TARGET: usize = 4095;

/// Bytes of a file, at most: what a file offset can say.
pub const MAX_FILE: u64 = i64::MAX as u64;

const MAGIC: &[u8] = b"nix-archive-1";

/// Whether a directory can have an entry of this name.
pub(crate) fn is_entry_name(name: &[u8]) -> bool {
    let one_component =
        !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|b| matches!(b, b'/' | 0));
    one_component && name.len() <= MAX_NAME
}

/// Zeros after a string of `length` bytes.
fn padding(length: u64) -> usize {
    (length.wrapping_neg() % 8) as usize
}
