//! A store path on disk, as a NAR.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix_format::listing::Listing;
use nix_format::nar::{self, NarError, NodeWriter, Written};
use thiserror::Error;

/// A tree can't be read or can't be a NAR.
#[derive(Debug, Error)]
pub(crate) enum WalkError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is neither a file nor a directory nor a symbolic link", .0.display())]
    Kind(PathBuf),
    #[error(transparent)]
    Nar(#[from] NarError),
}

/// Writes the NAR of what lies at `path` to `out`.
pub(crate) fn write_nar(path: &Path, out: impl Write) -> Result<Listing, WalkError> {
    nar::write(out, |node| write_node(node, path))
}

fn write_node<W: Write>(node: NodeWriter<'_, W>, path: &Path) -> Result<Written, WalkError> {
    let read = |source| WalkError::Read { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(read)?;
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(read)?;
        return Ok(node.symlink(target.as_os_str().as_bytes())?);
    }
    if metadata.is_file() {
        let file = File::open(path).map_err(read)?;
        return Ok(node.regular(is_executable(&metadata), metadata.len(), file)?);
    }
    if !metadata.is_dir() {
        return Err(WalkError::Kind(path.to_owned()));
    }
    let entries = fs::read_dir(path).map_err(read)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = entries.collect::<Result<Vec<_>, _>>().map_err(read)?;
    names.sort_unstable();
    node.directory(|directory| {
        names.iter().try_for_each(|name| directory.entry(name.as_bytes(), |node| write_node(node, &path.join(name))))
    })
}

/// As Nix decides it: the owner's bit alone.
fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}
