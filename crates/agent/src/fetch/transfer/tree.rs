//! A tree that lies on the disk already, as a NAR: to see whether it is what was signed.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use boot_model::Sha256Digest;
use nix_format::nar::{self, NarError, NodeWriter, Written};
use sha2::{Digest as _, Sha256};

/// The hash of the NAR of what lies at `path`.
///
/// # Errors
/// What cannot be read, and what no NAR can hold.
pub(super) fn hash(path: &Path) -> Result<Sha256Digest, NarError> {
    let mut hasher = Hasher::default();
    let mut out = BufWriter::with_capacity(64 << 10, &mut hasher);
    nar::write(&mut out, |node| write_node(node, path))?;
    out.flush()?;
    drop(out);
    Ok(hasher.digest())
}

fn write_node<W: Write>(node: NodeWriter<'_, W>, path: &Path) -> Result<Written, NarError> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return node.symlink(fs::read_link(path)?.as_os_str().as_bytes());
    }
    if metadata.is_file() {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        return node.regular(executable, metadata.len(), File::open(path)?);
    }
    if !metadata.is_dir() {
        return Err(io::Error::other("neither a file nor a directory nor a symbolic link").into());
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    node.directory(|directory| {
        names.iter().try_for_each(|name| directory.entry(name.as_bytes(), |node| write_node(node, &path.join(name))))
    })
}

/// Hashes what is written to it.
#[derive(Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    /// The hash of all of it.
    pub(super) fn digest(self) -> Sha256Digest {
        Sha256Digest::new(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
