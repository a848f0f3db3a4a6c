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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::support::TestStore;

    /// `nix-store --dump` is the oracle.
    #[test]
    fn the_same_bytes_as_nix() {
        let test = TestStore::new();
        let tree = test.file("tree");
        fs::create_dir_all(tree.join("a/empty")).unwrap();
        // Names whose order by bytes isn't the order of paths or of letters.
        for name in ["a.b", "a-b", "ab", "B", "zä", "a b", "~"] {
            fs::write(tree.join(name), name.repeat(name.len())).unwrap();
        }
        fs::write(tree.join(OsStr::from_bytes(b"not-utf-8-\xff")), "x").unwrap();
        fs::write(tree.join("a/none"), "").unwrap();
        fs::write(tree.join("large"), vec![7; 3 << 20]).unwrap();
        for (name, mode) in [("owner", 0o700), ("group", 0o610), ("all", 0o555)] {
            fs::write(tree.join(name), name).unwrap();
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/nowhere", tree.join("link")).unwrap();
        symlink("a", tree.join("directory-link")).unwrap();

        for path in [tree.clone(), tree.join("a/none"), tree.join("all"), tree.join("link")] {
            let mut nar = Vec::new();
            let listing = write_nar(&path, &mut nar).unwrap();
            let expected = test.nix("nix-store", &["--dump", path.to_str().unwrap()]).stdout;
            assert!(nar == expected, "{}", path.display());
            assert_eq!(listing.nar_size, nar.len() as u64);
        }
    }

    #[test]
    fn what_no_archive_can_hold() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(directory.path().join("socket")).unwrap();
        let refused = write_nar(directory.path(), io::sink()).unwrap_err().to_string();
        assert!(refused.ends_with("socket is neither a file nor a directory nor a symbolic link"), "{refused}");
    }
}
