//! Packed paths enter the cache in batches: one sync of the file system for all that became ready during the one before.
//!
//! A sync for each of a path's three files would take a disk longer than the processors need to pack most paths.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::Receiver;

use nix_format::narinfo::NarInfo;

use crate::cache::Cache;
use crate::durable::{FileSystem, StagedFile, WriteError};

/// How many packed paths may wait for a sync, and how many one sync is for. Each of the former is an open file, each of the latter three,
/// and a process may commonly have 1024.
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
            // Bounded, for those who pack go on meanwhile.
            let others = packed.try_iter().take(WAITING - 1);
            let batch = [first].into_iter().chain(others).map(|path| self.stage(path));
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;

    use generations::Layout;

    use super::*;
    use crate::durable::leftovers;

    /// A system has a thousand tiny paths, which are packed faster than they are named.
    #[test]
    fn a_batch_is_bounded_however_many_paths_wait() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(&Layout::new(directory.path()));
        cache.prepare().unwrap();
        let committer = Committer::new(&cache).unwrap();
        let (packed, to_commit) = mpsc::channel();
        let count = 3 * WAITING;
        for number in 0..count {
            let pack = StagedFile::create(&cache.nars(), &number.to_string()).unwrap();
            packed.send(Packed { info: info(number), pack, listing: None }).unwrap();
        }
        drop(packed);
        let most_staged = Cell::new(0);
        let placed = |_: &NarInfo| {
            // One of them has its name already.
            most_staged.set(most_staged.get().max(leftovers(cache.root()).unwrap().len() + 1));
        };
        assert_eq!(committer.run(to_commit, placed).unwrap().len(), count);
        assert_eq!(most_staged.get(), WAITING);
    }

    fn info(number: usize) -> NarInfo {
        let digest = format!("sha256:{}", "0".repeat(52));
        let text = format!(
            "StorePath: /nix/store/{number:032}-path\nURL: nar/{number:052}.nar.zst\nCompression: zstd\nFileHash: sha256:{number:052}\n\
             FileSize: 1\nNarHash: {digest}\nNarSize: 1\nReferences: \n"
        );
        text.parse().unwrap()
    }
}
