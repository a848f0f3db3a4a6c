//! What this disk holds of a generation: its signed description and its closure manifest, so that everything can be checked and
//! booted without the server. The folder of a generation appears by rename, after every path of its closure was received: that it
//! is there says that the generation was complete on the disk. What Nix' garbage collector has taken since, receipts and names tell.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use boot_model::{GenerationId, GenerationRef, RoleName, generation::CLOSURE_FILE};

use super::store::{Store, remove_directory};
use crate::{Failure, machine::failed};

/// See the module's description. Nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// `generation.json`, byte for byte.
    pub(super) json: String,
    /// `generation.json.sig`.
    pub(super) signature: String,
    /// The closure manifest.
    pub(super) closure: String,
}

const DESCRIPTION: &str = "generation.json";
const SIGNATURE: &str = "generation.json.sig";
/// What a killed run left begins with this, which no role and no id does.
const STAGED: &str = ".staging-";

impl Held {
    /// What is held of a generation; `None` if it was never complete here.
    pub(super) fn read(store: &Store, generation: &GenerationRef) -> Option<Self> {
        let folder = folder(store, generation);
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        Some(Self { json: text(DESCRIPTION)?, signature: text(SIGNATURE)?, closure: text(CLOSURE_FILE)? })
    }

    /// Says that a generation is complete. Only for what has been received before.
    pub(super) fn write(&self, store: &Store, generation: &GenerationRef) -> Result<(), Failure> {
        let folder = folder(store, generation);
        self.persist(&folder).map_err(|error| failed("recording the generation in", &folder, &error, "check the disk"))
    }

    fn persist(&self, folder: &Path) -> io::Result<()> {
        let (Some(role), Some(id)) = (folder.parent(), folder.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        create_synced(role)?;
        let staged = role.join(format!("{STAGED}{}", id.to_string_lossy()));
        remove_directory(&staged)?;
        fs::create_dir(&staged)?;
        for (name, text) in [(DESCRIPTION, &self.json), (SIGNATURE, &self.signature), (CLOSURE_FILE, &self.closure)] {
            let mut file = File::create(staged.join(name))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        File::open(&staged)?.sync_all()?;
        // The same generation cannot have other content; but the disk may have spoiled what was there.
        remove_directory(folder)?;
        fs::rename(&staged, folder)?;
        File::open(role)?.sync_all()
    }

    /// Every generation that is held, in no order.
    pub(super) fn all(store: &Store) -> Vec<GenerationRef> {
        let mut found = Vec::new();
        for (role_name, role_folder) in named(&root(store)) {
            let Ok(role) = role_name.parse::<RoleName>() else { continue };
            let ids = named(&role_folder).into_iter().filter_map(|(id, _)| id.parse::<GenerationId>().ok());
            found.extend(ids.map(|id| GenerationRef { role: role.clone(), id }));
        }
        found
    }

    /// A generation is not complete any more; returns when that is on the medium.
    pub(super) fn remove(store: &Store, generation: &GenerationRef) -> io::Result<()> {
        let folder = folder(store, generation);
        remove_directory(&folder)?;
        folder.parent().map_or(Ok(()), |role| File::open(role)?.sync_all())
    }
}

/// Records that a generation came up and ran; the mark of its role that was there before goes.
pub(super) fn mark_good(store: &Store, generation: &GenerationRef) -> io::Result<()> {
    let (file, id) = (good_file(store, &generation.role), generation.id.to_string());
    if fs::read_to_string(&file).is_ok_and(|found| found == id) {
        return Ok(());
    }
    let directory = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_synced(directory)?;
    let staged = directory.join(format!("{STAGED}{}", generation.role));
    let mut out = File::create(&staged)?;
    out.write_all(id.as_bytes())?;
    out.sync_all()?;
    fs::rename(&staged, &file)?;
    File::open(directory)?.sync_all()
}

/// The generation of the role that last came up and ran.
pub(super) fn last_good(store: &Store, role: &RoleName) -> Option<GenerationRef> {
    let id = fs::read_to_string(good_file(store, role)).ok()?.parse().ok()?;
    Some(GenerationRef { role: role.clone(), id })
}

fn good_file(store: &Store, role: &RoleName) -> PathBuf {
    store.records().join("good").join(role.as_str())
}

fn root(store: &Store) -> PathBuf {
    store.records().join("generations")
}

fn folder(store: &Store, generation: &GenerationRef) -> PathBuf {
    root(store).join(generation.role.as_str()).join(generation.id.to_string())
}

/// Makes a directory and those above it, each entry synced into the one above.
pub(super) fn create_synced(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_synced(parent)?;
        fs::create_dir(directory)?;
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn named(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_listed_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let generation: GenerationRef = "lab/42-9f3k2xq1".parse().unwrap();
        assert_eq!(Held::read(&store, &generation), None);
        let held = Held { json: "{}".to_owned(), signature: "s".to_owned(), closure: "c".to_owned() };
        for _ in 0..2 {
            held.write(&store, &generation).unwrap();
            assert_eq!(Held::read(&store, &generation), Some(held.clone()));
        }
        fs::create_dir(folder(&store, &generation).with_file_name(".staging-43-9f3k2xq1")).unwrap();
        assert_eq!(Held::all(&store), std::slice::from_ref(&generation));
        Held::remove(&store, &generation).unwrap();
        assert_eq!(Held::all(&store), []);
    }
}
