//! Nix's file formats: bytes in, bytes out.
//!
//! What `nix copy --to file://` writes and stock Nix reads (NAR, `.ls`, narinfo, signatures) and the three documents of our
//! own that use the same words: the detached signature of `generation.json`, the closure manifest, and the update bundle.
//!
//! The crate deliberately does no I/O: it opens no file, asks no clock and draws no randomness. A caller walks a store
//! path and feeds the NAR encoder; a caller brings the seed of a new key. It knows nothing of compression either: frames
//! of zstd are opaque bytes to it.

pub mod base32;
pub mod bundle;
pub mod closure;
pub mod detached;
pub mod hash;
pub mod listing;
pub mod nar;
pub mod narinfo;
pub mod renames;
pub mod signature;
