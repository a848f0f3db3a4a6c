//! The binary cache: `cache/`, in the layout of `nix copy --to file://`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boot_model::{Sha256Digest, StorePath};
use generations::Layout;
use nix_format::base32;
use nix_format::narinfo::NarInfo;
use nix_format::signature::{PublicKeys, SecretKey};

use crate::durable::{self, WriteError};
use crate::store::PathInfo;

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

    /// What the cache has of `path`, if it is whole: a narinfo that may be believed and a packed file of the right length.
    /// Anything less counts as absent and is packed again.
    ///
    /// A narinfo is believed if it says what the store's database says, or if one of `keys` has signed it: a path that was built
    /// again may differ from what was packed, and a damaged narinfo must not be signed. The packed file's bytes are not read:
    /// that would be the whole cache for each publishing. Clients refuse wrong ones, and `rookery verify` finds them.
    pub(crate) fn find(&self, path: &PathInfo, keys: &PublicKeys) -> Option<NarInfo> {
        let info: NarInfo = self.read(&path.path).ok()?.parse().ok()?;
        let facts = (info.nar_hash, info.nar_size, &info.references);
        let believed = facts == (path.nar_hash, path.nar_size, &path.references) || info.verify(keys).is_some();
        let named = info.store_path == path.path && info.url == Self::url(&info.file_hash);
        (named && believed && self.has_packed(&info)).then_some(info)
    }

    /// Whether a path of a published closure can be had from here, as far as names and lengths tell.
    pub(crate) fn offers(&self, published: &NarInfo) -> bool {
        let read = self.read(&published.store_path).ok().and_then(|text| text.parse::<NarInfo>().ok());
        read.is_some_and(|info| info.url == published.url) && self.has_packed(published)
    }

    /// Whether there is a packed file of the right length.
    fn has_packed(&self, info: &NarInfo) -> bool {
        fs::metadata(self.packed(info)).is_ok_and(|metadata| metadata.len() == info.file_size)
    }

    /// The name of a packed file, as a narinfo gives it: files with the same name are the same.
    pub(crate) fn url(file_hash: &Sha256Digest) -> String {
        format!("{}/{}.nar.zst", Layout::NAR_NAME, base32::encode(file_hash.bytes()))
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

    /// The narinfo as it is now.
    pub(crate) fn read(&self, path: &StorePath) -> io::Result<String> {
        fs::read_to_string(self.narinfo(path))
    }
}
