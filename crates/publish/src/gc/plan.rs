//! What goes and what stays.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boot_model::{GenerationId, RoleName, StoreHash, Timestamp};
use generations::{Layout, Removed};
use nix_format::base32;
use nix_format::closure::Closure;
use nix_format::narinfo::NarInfo;

use super::{CollectError, Collected, Collection, Tally};
use crate::durable::{self, WriteError};
use crate::role;
use crate::verify::{all_generations, read_closure};

/// Everything that goes, by the order in which it must.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) leftovers: Vec<PathBuf>,
    pub(super) bundles: Doomed,
    pub(super) narinfos: Doomed,
    pub(super) packs: Doomed,
    /// What is left of generations that were removed long enough ago.
    pub(super) removed: Vec<PathBuf>,
    /// Likewise of those whose time has not come.
    pub(super) remembered: Vec<PathBuf>,
    leftover_bytes: u64,
    waiting: Tally,
}

/// Files of one kind.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    pub(super) paths: Vec<PathBuf>,
    bytes: u64,
}

/// What manifests name.
#[derive(Debug, Default)]
struct Needed {
    paths: HashSet<StoreHash>,
    packs: HashSet<String>,
}

/// What becomes of a file.
enum Fate {
    Needed,
    Waits,
    Goes,
}

impl Plan {
    pub(super) fn make(layout: &Layout, collection: &Collection) -> Result<Self, CollectError> {
        let mut plan = Self::default();
        plan.find_leftovers(layout)?;
        let published = Needed::by_published(layout)?;
        let mut in_grace = Needed::default();
        let removed =
            Removed::list(layout).map_err(|source| CollectError::Removed { path: layout.removed(), source })?;
        for Removed { path, at } in removed {
            if collection.is_over(at) {
                plan.removed.push(path);
                continue;
            }
            // A manifest that can't be read has nobody fetching by it.
            let closures = Removed { path: path.clone(), at }.closures();
            closures.iter().filter_map(|manifest| read_closure(manifest.parent()?).ok()).for_each(|c| in_grace.add(&c));
            plan.remembered.push(path);
        }
        plan.find_in_cache(layout, collection, published, in_grace)?;
        plan.find_bundles(layout)?;
        Ok(plan)
    }

    pub(super) fn collected(&self) -> Collected {
        Collected {
            packs: self.packs.tally(),
            narinfos: self.narinfos.tally(),
            bundles: self.bundles.tally(),
            leftovers: Tally { files: self.leftovers.len() as u64, bytes: self.leftover_bytes },
            waiting: self.waiting,
        }
    }

    fn find_leftovers(&mut self, layout: &Layout) -> Result<(), CollectError> {
        let cache = layout.cache();
        let mut directories = vec![layout.generations(), cache.join(Layout::NAR_NAME), cache, layout.bundles()];
        directories.extend(role::roles(layout)?.iter().map(|role| layout.role(role)));
        directories
            .extend(durable::list(&layout.bundles())?.iter().filter(|entry| is_directory(entry)).map(DirEntry::path));
        for directory in directories {
            self.leftovers.extend(durable::leftovers(&directory)?);
        }
        let files = self.leftovers.iter().filter_map(|path| path.symlink_metadata().ok()).filter(fs::Metadata::is_file);
        self.leftover_bytes = files.map(|metadata| metadata.len()).sum();
        Ok(())
    }

    fn find_in_cache(
        &mut self,
        layout: &Layout,
        collection: &Collection,
        mut published: Needed,
        mut in_grace: Needed,
    ) -> Result<(), WriteError> {
        for entry in durable::list(&layout.cache())? {
            let name = entry.file_name();
            let Some(hash) = name.to_str().and_then(path_hash) else { continue };
            let fate = match (published.paths.contains(&hash), in_grace.paths.contains(&hash)) {
                (true, _) => Fate::Needed,
                (false, true) => Fate::Waits,
                (false, false) => collection.fate_of_unnamed(&entry),
            };
            // A path may be packed once more since a manifest was written: then the narinfo that stays names another pack.
            match fate {
                Fate::Needed => published.packs.extend(offered_pack(&entry.path())),
                Fate::Waits => in_grace.packs.extend(offered_pack(&entry.path())),
                Fate::Goes => {}
            }
            self.settle(fate, &entry, |plan| &mut plan.narinfos);
        }
        for entry in durable::list(&layout.cache().join(Layout::NAR_NAME))? {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_pack(name)) else { continue };
            let fate = match (published.packs.contains(name), in_grace.packs.contains(name)) {
                (true, _) => Fate::Needed,
                (false, true) => Fate::Waits,
                (false, false) => collection.fate_of_unnamed(&entry),
            };
            self.settle(fate, &entry, |plan| &mut plan.packs);
        }
        Ok(())
    }

    /// A bundle serves whoever goes to its new generation; whether the old one is still published is nothing to them.
    fn find_bundles(&mut self, layout: &Layout) -> Result<(), CollectError> {
        for entry in durable::list(&layout.bundles())?.iter().filter(|entry| is_directory(entry)) {
            let name = entry.file_name();
            let Some(role) = name.to_str().and_then(|name| name.parse::<RoleName>().ok()) else { continue };
            let published: HashSet<GenerationId> = role::published_ids(layout, &role)?.into_iter().collect();
            for entry in durable::list(&entry.path())? {
                let name = entry.file_name();
                let Some((_, new)) = name.to_str().and_then(Layout::parse_bundle_name) else { continue };
                let fate = if published.contains(&new) { Fate::Needed } else { Fate::Goes };
                self.settle(fate, &entry, |plan| &mut plan.bundles);
            }
        }
        Ok(())
    }

    fn settle(&mut self, fate: Fate, entry: &DirEntry, kind: impl FnOnce(&mut Self) -> &mut Doomed) {
        // A file that vanished by itself has no size.
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        match fate {
            Fate::Needed => {}
            Fate::Waits => {
                self.waiting.files += 1;
                self.waiting.bytes += bytes;
            }
            Fate::Goes => {
                let doomed = kind(self);
                doomed.paths.push(entry.path());
                doomed.bytes += bytes;
            }
        }
    }
}

impl Doomed {
    fn tally(&self) -> Tally {
        Tally { files: self.paths.len() as u64, bytes: self.bytes }
    }
}

impl Needed {
    fn by_published(layout: &Layout) -> Result<Self, CollectError> {
        let mut needed = Self::default();
        for generation in all_generations(layout, None)? {
            match read_closure(&layout.generation(&generation)) {
                Ok(closure) => needed.add(&closure),
                Err(problem) => return Err(CollectError::Manifest { generation, problem }),
            }
        }
        Ok(needed)
    }

    fn add(&mut self, closure: &Closure) {
        for info in closure.paths() {
            self.paths.insert(info.store_path.hash());
            self.packs.extend(pack_name(info));
        }
    }
}

impl Collection {
    /// Whether the grace time since then is over.
    fn is_over(&self, since: Timestamp) -> bool {
        let elapsed = self.now.unix_millis().checked_sub(since.unix_millis());
        self.grace.is_zero() || elapsed.is_some_and(|elapsed| Duration::from_millis(elapsed) >= self.grace)
    }

    /// By the time of its last change of any kind, its arrival under this name among them.
    fn fate_of_unnamed(&self, entry: &DirEntry) -> Fate {
        let Ok(metadata) = entry.metadata() else { return Fate::Waits };
        let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
        let changed = Timestamp::from_unix_millis(seconds.saturating_mul(1000));
        if self.is_over(changed) { Fate::Goes } else { Fate::Waits }
    }
}

/// The hash of a narinfo's or listing's path; nothing for other names, which are none of ours.
fn path_hash(name: &str) -> Option<StoreHash> {
    let hash = name.strip_suffix(".narinfo").or_else(|| name.strip_suffix(".ls"))?;
    hash.parse().ok()
}

/// Whether it is a pack as the publisher names them. Others in that folder are none of ours.
fn is_pack(name: &str) -> bool {
    name.strip_suffix(".nar.zst").is_some_and(|hash| base32::decode::<32>(hash).is_ok())
}

fn pack_name(info: &NarInfo) -> Option<String> {
    info.url.strip_prefix(Layout::NAR_NAME)?.strip_prefix('/').map(str::to_owned)
}

fn offered_pack(narinfo: &Path) -> Option<String> {
    let info: NarInfo = fs::read_to_string(narinfo).ok()?.parse().ok()?;
    pack_name(&info)
}

fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}
