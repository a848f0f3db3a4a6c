//! Opening files beneath one directory, and nothing else: what a service that answers strangers may read.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// The directory that files are served from: the state directory.
#[derive(Debug)]
pub struct Root {
    /// Opened anew for each request, because the directory may be replaced while we run.
    path: PathBuf,
}

/// Why a path is not served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no file {}", .0.display())]
    NotFound(PathBuf),
    /// A directory, FIFO, device or socket.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// A link leads out of the root, or through `/proc`.
    #[error("{} leads out of the served directory", .0.display())]
    Escapes(PathBuf),
    /// The system refused.
    #[error("opening {}: {source}", path.display())]
    Io {
        /// The path beneath the root.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Root {
    /// Serves from `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Opens the regular file at `path` beneath the root. The kernel does the confining (`RESOLVE_BENEATH`, Linux 5.6),
    /// so no race and no spelling gets around it; links that stay beneath the root are followed.
    ///
    /// # Errors
    /// See [`OpenError`]. Never blocks on a FIFO and never takes over a terminal.
    pub fn open(&self, path: &Path) -> Result<(File, u64), OpenError> {
        self.open_by(path, ResolveFlag::empty())
    }

    /// As [`Root::open`], by what the kernel has in memory (`RESOLVE_CACHED`, Linux 5.12): for a thread that may not wait for a disk.
    ///
    /// # Errors
    /// As of [`Root::open`]; [`OpenError::Io`] with `WouldBlock` where memory does not tell.
    pub fn open_cached(&self, path: &Path) -> Result<(File, u64), OpenError> {
        self.open_by(path, ResolveFlag::from_bits_retain(nix::libc::RESOLVE_CACHED))
    }

    fn open_by(&self, path: &Path, by: ResolveFlag) -> Result<(File, u64), OpenError> {
        let file = self.open_beneath(path, by).map_err(|errno| match errno {
            // A kernel that does not know RESOLVE_CACHED.
            Errno::EINVAL if !by.is_empty() => {
                OpenError::Io { path: path.to_owned(), source: io::ErrorKind::WouldBlock.into() }
            }
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => OpenError::NotFound(path.to_owned()),
            Errno::EXDEV | Errno::ELOOP => OpenError::Escapes(path.to_owned()),
            // A socket file, or a device without a driver.
            Errno::ENXIO | Errno::ENODEV => OpenError::NotRegular(path.to_owned()),
            other => OpenError::Io { path: path.to_owned(), source: other.into() },
        })?;
        let metadata = file.metadata().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        if !metadata.is_file() {
            return Err(OpenError::NotRegular(path.to_owned()));
        }
        Ok((file, metadata.len()))
    }

    fn open_beneath(&self, path: &Path, by: ResolveFlag) -> Result<File, Errno> {
        let root = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
            .open(&self.path)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .mode(Mode::empty())
            .resolve(by | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&root, path, how).map(File::from)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn regular_files_beneath_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let state = tempfile::tempdir().unwrap();
        let at = |name: &str| state.path().join(name);
        std::fs::create_dir(at("loaders")).unwrap();
        std::fs::write(at("loaders/pxelinux.0"), "loader").unwrap();
        symlink("pxelinux.0", at("loaders/inside")).unwrap();
        symlink("../loaders/pxelinux.0", at("loaders/around")).unwrap();
        symlink(outside.path().join("secret"), at("loaders/absolute")).unwrap();
        symlink("../../../../../../etc/passwd", at("loaders/relative")).unwrap();
        symlink("/proc/self/root/etc/passwd", at("loaders/magic")).unwrap();
        symlink("loop", at("loaders/loop")).unwrap();
        mkfifo(&at("loaders/fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("loaders/socket")).unwrap();
        let root = Root::new(state.path());

        for name in ["loaders/pxelinux.0", "loaders/inside", "loaders/around"] {
            assert_eq!(root.open(Path::new(name)).unwrap().1, 6, "{name}");
            let cached = root.open_cached(Path::new(name)).map_or(6, |(_, size)| size); // what is evicted meanwhile is no failure
            assert_eq!(cached, 6, "{name}");
        }
        for name in ["loaders/none", "loaders/pxelinux.0/x", &format!("loaders/{}", "x".repeat(300))] {
            assert!(matches!(root.open(Path::new(name)), Err(OpenError::NotFound(_))), "{name}");
        }
        for name in ["loaders", "loaders/fifo", "loaders/socket", "."] {
            assert!(matches!(root.open(Path::new(name)), Err(OpenError::NotRegular(_))), "{name}");
        }
        for name in ["loaders/absolute", "loaders/relative", "loaders/magic", "loaders/loop", "../x", "/etc/passwd"] {
            assert!(matches!(root.open(Path::new(name)), Err(OpenError::Escapes(_))), "{name}");
            assert!(root.open_cached(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn the_root_may_appear_later_and_be_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let root = Root::new(&path);
        assert!(matches!(root.open(Path::new("f")), Err(OpenError::NotFound(_))));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), "1").unwrap();
        assert_eq!(root.open(Path::new("f")).unwrap().1, 1);
        std::fs::rename(&path, parent.path().join("old")).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), "22").unwrap();
        assert_eq!(root.open(Path::new("f")).unwrap().1, 2);
    }
}
