//! The binary cache: `cache/`, in the layout of `nix copy --to file://`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boot_model::StorePath;
use generations::Layout;
use nix_format::narinfo::NarInfo;
use nix_format::signature::SecretKey;

use crate::durable::{self, WriteError};

/// `WantMassQuery` lets Nix ask for many paths at once; 30 comes before cache.nixos.org's 40, for this cache is nearer.
const CACHE_INFO: &str = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n";

/// Where the cache's files are.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { root: layout.cache() }
    }

    /// Makes the directories and the file that says what this is, and removes what a killed run left.
    pub(crate) fn prepare(&self) -> Result<(), WriteError> {
        durable::make_directories(&self.nars())?;
        durable::remove_leftovers(&self.root)?;
        durable::remove_leftovers(&self.nars())?;
        let info = self.root.join(Layout::CACHE_INFO_NAME);
        match fs::read(&info) {
            Ok(bytes) if bytes == CACHE_INFO.as_bytes() => Ok(()),
            _ => durable::write_file(&info, CACHE_INFO.as_bytes()),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn nars(&self) -> PathBuf {
        self.root.join(Layout::NAR_NAME)
    }

    pub(crate) fn narinfo(&self, path: &StorePath) -> PathBuf {
        self.root.join(Layout::narinfo_name(path.hash()))
    }

    pub(crate) fn listing(&self, path: &StorePath) -> PathBuf {
        self.root.join(Layout::listing_name(path.hash()))
    }

    /// The packed file that a narinfo names. Its URL was checked to stay within the cache when it was parsed.
    pub(crate) fn packed(&self, info: &NarInfo) -> PathBuf {
        self.root.join(&info.url)
    }

    /// What the cache has of `path`, if it is whole: a readable narinfo and a packed file of the right length. Anything less
    /// counts as absent and is packed again.
    pub(crate) fn find(&self, path: &StorePath) -> Option<NarInfo> {
        let info: NarInfo = fs::read_to_string(self.narinfo(path)).ok()?.parse().ok()?;
        let length = fs::metadata(self.packed(&info)).ok()?.len();
        (info.store_path == *path && length == info.file_size).then_some(info)
    }

    /// Adds signatures by those of `keys` that haven't signed yet: a reader who trusts only the site's new key must be able
    /// to use what was packed under the old one. Nothing else of a narinfo ever changes.
    pub(crate) fn sign(&self, info: &mut NarInfo, keys: &[SecretKey]) -> Result<(), WriteError> {
        let before = info.signatures.len();
        keys.iter().for_each(|key| info.sign(key));
        if info.signatures.len() == before {
            return Ok(());
        }
        durable::write_file(&self.narinfo(&info.store_path), info.to_string().as_bytes())
    }

    /// Makes all names in the cache last.
    pub(crate) fn sync(&self) -> Result<(), WriteError> {
        durable::sync_directory(&self.nars())?;
        durable::sync_directory(&self.root)
    }

    /// Reads the narinfo as it is now, for a check.
    pub(crate) fn read(&self, path: &StorePath) -> io::Result<String> {
        fs::read_to_string(self.narinfo(path))
    }
}
