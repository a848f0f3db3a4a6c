//! The update bundle: one file with what a client that has generation `old` of a role lacks of generation `new`.
//!
//! ```text
//! bundle = magic (16 bytes, `rookery-bundle-1`)
//!          bytes of the index, bytes of its frame (32-bit little endian each)
//!          the index as one zstd frame
//!          the records' frames, one after another in the order of their records
//! ```
//!
//! [`Head`] is the first 24 bytes, [`Index`] all that the uncompressed index says, [`IndexWriter`] makes one. A reader takes
//! head and index first; then every path's frames are one range of the file, so a path can be asked for alone, and a
//! transfer that broke off goes on at the path where it was. Compression is the caller's: to this module the index arrives
//! uncompressed and frames are opaque.
//!
//! ```text
//! index   = count { old hash, new hash }      the renames, ascending; 32 characters each
//!           count { text }                    store paths of `old` that files are based on, from the last component
//!           { path }                          to the end, references first
//! path    = text                              its store path, from the last component
//!           number                            0, or 1 + the place in the table of the path it is paired with
//!           node
//! node    = 0 { text node } 0                 a directory; a name is never empty
//!         | 1 text                            a symbolic link
//!         | 2 | 3                             copy:  of the same name in the paired path
//!         | 4 | 5 place text                  copy:  of a name in another path of the table
//!         | 6 | 7 size frame                  patch: base as in 2
//!         | 8 | 9 place text size frame       patch: base as in 4
//!         | 10 | 11 size frame                data
//! text    = number bytes
//! count, number, place, size, frame           LEB128, as short as it can be
//! ```
//!
//! Odd kinds of file are executable. `size` is the file's, `frame` its frame's, both in bytes. Entries ascend as in a NAR, and
//! names, targets and depth have the limits of [`crate::nar`]. The name of a file in a base path has slashes between its
//! components and is empty where the path is itself the file.
//!
//! **References are normalised.** Before a base file is copied or used as a prefix, [`Renames`](crate::renames::Renames) is
//! applied to it. A path that was rebuilt because something below it changed has the same files but for hashes: it is all
//! `copy`, and weighs what its names weigh in the compressed index.
//!
//! **Frames** are one standard zstd frame each, without dictionary id. A patch has the renamed base as its prefix (raw
//! content, zstd's `--patch-from`); both files have at most [`MAX_PATCHED`] bytes, so a client decodes it in one call from
//! memory to memory. A data frame's window is at most [`MAX_WINDOW_LOG`], so it can be decoded as it comes.
//!
//! **Nothing is trusted.** A bundle is not signed: the NAR of what comes out is compared with the signed narinfo. A path that is
//! missing here, has no base on the disk or comes out wrong is fetched as its plain pack. For a path without a good base the
//! pack is the smaller file too, so a bundle need not hold every path that the client lacks.
//!
//! Every length is bounded before anything is allocated for it: the index by [`MAX_INDEX`], what is read of it by [`Limits`], the rest
//! by the index.

mod error;
mod head;
mod index;
mod limits;
mod record;
mod wire;
mod writer;

pub use error::{BundleError, TreeError};
pub use head::Head;
pub use index::{BundledPath, Index, Records};
pub use limits::Limits;
pub use record::{Base, Record, Source};
pub use writer::IndexWriter;

/// Bytes of an index, uncompressed, at most: some 500,000 files.
pub const MAX_INDEX: u32 = 32 << 20;

/// Bytes of a file that is patched, and of its base, at most.
pub const MAX_PATCHED: u64 = 48 << 20;

/// The binary logarithm of a data frame's window, at most: what zstd decodes without being asked.
pub const MAX_WINDOW_LOG: u32 = 23;

/// Bytes of a frame with `size` bytes of content, at most. zstd's own bound is below it.
fn max_frame(size: u64) -> u64 {
    size.saturating_add(size / 128).saturating_add(1024)
}

#[cfg(test)]
mod tests;
