//! One served file, opened: what HEAD, Range and ETag are made of.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use boot_model::event::Content;
use generations::Served;
use hyper::body::Bytes;
use service::confined::{OpenError, Root};

use crate::refusal::Refusal;
use crate::span::Span;

/// A file that stays what it is until the response ends: files in the state directory are replaced by rename, never written over.
#[derive(Debug)]
pub(crate) struct Blob {
    file: File,
    /// Where it lies, beneath the state directory.
    pub(crate) path: PathBuf,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Its strong validator.
    pub(crate) etag: ETag,
}

/// A strong entity tag with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ETag(String);

/// What a response carries of a file.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Few bytes, in memory.
    Bytes(Bytes),
    /// Many, which the kernel takes from the file itself.
    Span(Span),
}

impl Blob {
    /// Opens the first of the candidates that exists.
    pub(crate) fn open(root: &Root, served: &Served) -> Result<Self, Refusal> {
        for path in &served.candidates {
            match root.open(path) {
                Ok((file, len)) => {
                    let metadata = file.metadata().map_err(|source| OpenError::Io { path: path.clone(), source })?;
                    let etag = ETag::of(path, served.content, &metadata);
                    return Ok(Self { file, path: path.clone(), len, etag });
                }
                Err(OpenError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Missing(served.candidates.clone()))
    }

    /// This range of it, which must lie within its length, ready to be sent. It blocks.
    pub(crate) fn payload(self, range: Range<u64>) -> io::Result<Payload> {
        let len = range.end - range.start;
        if len <= IN_MEMORY {
            let mut bytes = vec![0; len as usize];
            // A file that is shorter than it was is an error, never an end: a client must not take half a menu for a whole one.
            self.file.read_exact_at(&mut bytes, range.start)?;
            return Ok(Payload::Bytes(bytes.into()));
        }
        Span::new(self.file, range).warm().map(Payload::Span)
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Payload {
    /// Its bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Span(span) => span.left(),
        }
    }
}

impl ETag {
    /// Packs, kernels and initrds are named by what is in them, so the name is the tag and the same on every server.
    /// A narinfo may get one more signature, or be packed anew after its closure was collected: it goes by the file, as do menus;
    /// as do generations, written anew where a damaged one is published again; and as do bundles, of which another server, or the
    /// next version of the publisher, may make another that serves as well.
    pub(crate) fn of(path: &Path, content: Content, metadata: &Metadata) -> Self {
        match content {
            Content::Nar | Content::Boot => Self::of_name(&path.file_name().unwrap_or_default().to_string_lossy()),
            Content::Menu
            | Content::Loader
            | Content::Generation
            | Content::Narinfo
            | Content::Bundle
            | Content::Error => {
                let (inode, seconds, nanoseconds, len) =
                    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
                Self(format!("\"{inode:x}-{seconds:x}.{nanoseconds:x}-{len:x}\""))
            }
        }
    }

    pub(crate) fn of_name(name: &str) -> Self {
        Self(format!("\"{name}\""))
    }

    /// Whether a tag of If-Range is this one (strong comparison).
    pub(crate) fn is(&self, tag: &str) -> bool {
        tag == self.0
    }

    /// Whether a tag of If-None-Match means this one (weak comparison), or any.
    pub(crate) fn matches_weakly(&self, tag: &str) -> bool {
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Up to here one read and one packet or a few are cheaper than a place of its own on the connection. The manifest of a small
/// closure still fits.
const IN_MEMORY: u64 = 64 * 1024;
