//! The one program that builds everything else: Debian's static busybox.

use std::fs;
use std::path::PathBuf;

use super::Work;
use super::apt::{Apt, Source};
use super::newer::unpack_deb;
use crate::{Error, Result};

/// A directory with the program under the name `busybox`, by which it knows itself. Always the released one, for both generations:
/// every store path depends on it, so another busybox would make another of every path.
pub(super) fn obtain(work: &Work) -> Result<PathBuf> {
    let directory = work.path("bootstrap");
    let target = directory.join("busybox");
    if target.exists() {
        return Ok(directory);
    }
    let root = work.path("bootstrap-package");
    for path in [&directory, &root] {
        fs::create_dir_all(path).map_err(Error::io(format!("making {}", path.display())))?;
    }
    let apt = Apt::create(work)?;
    for stanza in apt.closure(Source::Released, &["busybox-static".to_owned()])? {
        unpack_deb(&apt.file(&stanza), &root)?;
    }
    fs::rename(root.join("bin/busybox"), target).map_err(Error::io("taking busybox out of its package"))?;
    Ok(directory)
}
