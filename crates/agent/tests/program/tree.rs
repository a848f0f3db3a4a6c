//! File trees in memory, as store paths and as packed NARs.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use nix_format::nar::{self, NarError, NodeWriter, Written};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    File { executable: bool, content: Vec<u8> },
    Link(String),
    Directory(Vec<(String, Tree)>),
}

impl Tree {
    pub(crate) fn file(content: impl Into<Vec<u8>>) -> Self {
        Self::File { executable: false, content: content.into() }
    }

    pub(crate) fn program(content: impl Into<Vec<u8>>) -> Self {
        Self::File { executable: true, content: content.into() }
    }

    pub(crate) fn link(target: &str) -> Self {
        Self::Link(target.to_owned())
    }

    /// Entries must be given in order.
    pub(crate) fn directory<const N: usize>(entries: [(&str, Tree); N]) -> Self {
        Self::Directory(entries.into_iter().map(|(name, tree)| (name.to_owned(), tree)).collect())
    }

    pub(crate) fn nar(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        nar::write(&mut bytes, |node| self.write(node)).unwrap();
        bytes
    }

    fn write(&self, node: NodeWriter<'_, &mut Vec<u8>>) -> Result<Written, NarError> {
        match self {
            Self::File { executable, content } => node.regular(*executable, content.len() as u64, &content[..]),
            Self::Link(target) => node.symlink(target.as_bytes()),
            Self::Directory(entries) => node.directory(|directory| {
                entries.iter().try_for_each(|(name, tree)| directory.entry(name.as_bytes(), |node| tree.write(node)))
            }),
        }
    }

    /// What lies on the disk; everything must have the modes and times of a valid store path.
    pub(crate) fn read(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        assert_eq!(
            metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
            1,
            "{path:?}"
        );
        if metadata.is_symlink() {
            return Self::Link(String::from_utf8(fs::read_link(path).unwrap().as_os_str().as_bytes().into()).unwrap());
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            assert_eq!(mode, 0o555, "{path:?}");
            let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            entries.sort();
            let entries = entries.into_iter().map(|name| {
                let tree = Self::read(&path.join(&name));
                (name.into_string().unwrap(), tree)
            });
            return Self::Directory(entries.collect());
        }
        assert!(mode == 0o444 || mode == 0o555, "{path:?} has mode {mode:o}");
        let mut content = Vec::new();
        File::open(path).unwrap().read_to_end(&mut content).unwrap();
        Self::File { executable: mode == 0o555, content }
    }
}

/// Bytes that do not compress, other ones for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}
