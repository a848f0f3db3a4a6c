//! The one program that builds everything else: Debian's static busybox.

use std::fs;
use std::path::PathBuf;

use super::Work;
use super::newer::unpack_deb;
use super::packages::Tools;
use crate::{Error, Result};

/// A directory with the program under the name `busybox`, by which it knows itself. Every store
/// path depends on it, so another busybox would make another of every path.
pub(super) fn obtain(work: &Work, tools: &Tools) -> Result<PathBuf> {
    let directory = work.path("bootstrap");
    let target = directory.join("busybox");
    if target.exists() {
        return Ok(directory);
    }
    let root = work.path("bootstrap-package");
    for path in [&directory, &root] {
        fs::create_dir_all(path).map_err(Error::io(format!("making {}", path.display())))?;
    }
    let Some(package) = tools.file("busybox-static") else {
        return Err(Error::Wrong("packages.txt, section tools, has no busybox-static".into()));
    };
    unpack_deb(package, &root)?;
    fs::rename(root.join("bin/busybox"), target).map_err(Error::io("taking busybox out of its package"))?;
    Ok(directory)
}
