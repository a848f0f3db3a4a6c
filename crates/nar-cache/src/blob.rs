//! One served file, opened: what HEAD, Range and ETag are made of.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boot_model::event::Content;
use generations::Served;
use hyper::body::Bytes;
use service::confined::{OpenError, Root};

use crate::refusal::Refusal;

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

/// The bytes of a range of a file, in chunks. It reads the file's own position, so it is the file's only user.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    left: u64,
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

    /// Reads this range of it, which must lie within its length.
    pub(crate) fn read(mut self, range: Range<u64>) -> io::Result<Reader> {
        if range.start > 0 {
            self.file.seek(SeekFrom::Start(range.start))?;
        }
        Ok(Reader { file: self.file, left: range.end - range.start })
    }
}

impl ETag {
    /// Packs, kernels, initrds and generations never change under their name, so the name is the tag and the same on every server.
    /// A narinfo may get one more signature, or be packed anew after its closure was collected: it goes by the file, as do menus;
    /// and as do bundles, of which another server, or the next version of the publisher, may make another that serves as well.
    fn of(path: &Path, content: Content, metadata: &Metadata) -> Self {
        match content {
            Content::Nar | Content::Boot => Self::of_name(&path.file_name().unwrap_or_default().to_string_lossy()),
            Content::Generation => Self::of_name(&path.to_string_lossy()),
            Content::Menu | Content::Loader | Content::Narinfo | Content::Bundle | Content::Error => {
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

impl Reader {
    /// Bytes that are still to be read.
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, at most [`CHUNK`]; empty at the end. A file that is shorter than it was is an error, never an end: a client
    /// must not take half a kernel for a whole one. It blocks.
    pub(crate) fn chunk(&mut self) -> io::Result<Bytes> {
        let wanted = self.left.min(CHUNK);
        let mut bytes = Vec::with_capacity(wanted as usize);
        if (&self.file).take(wanted).read_to_end(&mut bytes)? as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= wanted;
        Ok(bytes.into())
    }
}

/// Large enough that the hop to a blocking thread costs little beside the copy, small enough that a room of stuck clients
/// holds `max-connections` times this in memory and no more.
const CHUNK: u64 = 256 * 1024;
