//! Packed paths enter the cache in batches: one sync of the file system for all that became ready during the one before.
//!
//! A sync for each of a path's three files would take a disk longer than the processors need to pack most paths.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::Receiver;

use nix_format::narinfo::NarInfo;

use crate::cache::Cache;
use crate::durable::{FileSystem, StagedFile, WriteError};

/// How many packed paths may wait for a sync; each is an open file.
pub(crate) const WAITING: usize = 64;

/// A path that is packed, and not yet in the cache.
pub(crate) struct Packed {
    pub(crate) info: NarInfo,
    pub(crate) pack: StagedFile,
    /// The content of its `.ls` file.
    pub(crate) listing: Option<String>,
}

/// Puts packed paths into the cache.
pub(crate) struct Committer<'a> {
    cache: &'a Cache,
    file_system: FileSystem,
}

impl<'a> Committer<'a> {
    /// To be called before the first path is packed, see [`FileSystem::of`].
    pub(crate) fn new(cache: &'a Cache) -> Result<Self, WriteError> {
        Ok(Self { cache, file_system: FileSystem::of(cache.root())? })
    }

    /// Takes what is packed until nobody packs any more, and returns the narinfos of all. `placed` hears of each that has its names.
    pub(crate) fn run(&self, packed: Receiver<Packed>, placed: impl Fn(&NarInfo)) -> Result<Vec<NarInfo>, WriteError> {
        let mut infos = Vec::new();
        while let Ok(first) = packed.recv() {
            let batch = [first].into_iter().chain(packed.try_iter()).map(|path| self.stage(path));
            let batch = batch.collect::<Result<Vec<_>, _>>()?;
            self.file_system.sync()?;
            for staged in batch {
                let info = self.place(staged)?;
                placed(&info);
                infos.push(info);
            }
        }
        Ok(infos)
    }

    fn stage(&self, Packed { info, pack, listing }: Packed) -> Result<Staged, WriteError> {
        let hash = info.store_path.hash();
        let listing = listing.map(|text| stage_text(self.cache.root(), &format!("{hash}.ls"), &text)).transpose()?;
        let narinfo = stage_text(self.cache.root(), &format!("{hash}.narinfo"), &info.to_string())?;
        Ok(Staged { info, pack, listing, narinfo })
    }

    fn place(&self, Staged { info, pack, listing, narinfo }: Staged) -> Result<NarInfo, WriteError> {
        pack.place_synced(&self.cache.packed(&info))?;
        if let Some(listing) = listing {
            listing.place_synced(&self.cache.listing(&info.store_path))?;
        }
        // Last, for it says that the others are there.
        narinfo.place_synced(&self.cache.narinfo(&info.store_path))?;
        Ok(info)
    }
}

/// A path's files, not in their places yet.
struct Staged {
    info: NarInfo,
    pack: StagedFile,
    listing: Option<StagedFile>,
    narinfo: StagedFile,
}

fn stage_text(directory: &Path, name: &str, text: &str) -> Result<StagedFile, WriteError> {
    let staged = StagedFile::create(directory, name)?;
    staged.file().write_all(text.as_bytes()).map_err(|error| WriteError::new("write", staged.path(), error))?;
    Ok(staged)
}
