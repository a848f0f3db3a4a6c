//! Sets of menus on disk. `current` names the set in force and is the only thing that readers follow: a set is complete and on the
//! disk before `current` names it, and stays for those who opened it until the one after the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use generations::Layout;
use nix::unistd::syncfs;
use thiserror::Error;

/// What became of a set that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is in force, as `menus/<name>`.
    New(String),
    /// The set in force has the same files already.
    Unchanged,
}

/// The menus could not be stored. Those in force stay.
#[derive(Debug, Error)]
#[error("cannot write menus ({action} {path}): {error}")]
pub struct SetError {
    action: &'static str,
    path: PathBuf,
    #[source]
    error: io::Error,
}

const PREFIX: &str = "set-";
const STAGED_LINK: &str = ".current";

/// Puts a set of menus into force: all of it, or nothing. Only one process may do so at a time (the folder has one owner).
///
/// # Errors
/// If the folder cannot be written. What was staged is swept up by the next set.
pub fn store(layout: &Layout, files: &BTreeMap<PathBuf, Arc<str>>) -> Result<Stored, SetError> {
    let menus = layout.menus();
    fs::create_dir_all(&menus).map_err(failed("making", &menus))?;
    let current = current(layout)?;
    if let Some(current) = &current
        && holds_exactly(&menus.join(current), files)
    {
        return Ok(Stored::Unchanged);
    }
    let sets = sets(&menus)?;
    let name = format!("{PREFIX}{}", sets.keys().next_back().map_or(1, |newest| newest + 1));
    stage(&menus.join(&name), current.as_ref().map(|current| menus.join(current)).as_deref(), files)?;
    switch(layout, &name)?;
    let kept = [Some(&name), current.as_ref()];
    for old in sets.into_values().filter(|set| !kept.contains(&Some(set))) {
        let path = menus.join(old);
        fs::remove_dir_all(&path).map_err(failed("removing the old set", &path))?;
    }
    Ok(Stored::New(name))
}

/// Writes a set that nobody reads yet. Each text is one file with as many names as it needs: some hundred hosts of a role cost some
/// hundred links, and a text that `previous` has is linked from there.
fn stage(set: &Path, previous: Option<&Path>, files: &BTreeMap<PathBuf, Arc<str>>) -> Result<(), SetError> {
    fs::create_dir(set).map_err(failed("making", set))?;
    let mut made = None;
    let mut placed: HashMap<*const str, PathBuf> = HashMap::new();
    for (name, text) in files {
        let path = set.join(name);
        let folder = path.parent().unwrap_or(set);
        if made.as_deref() != Some(folder) {
            fs::create_dir_all(folder).map_err(failed("making", folder))?;
            made = Some(folder.to_owned());
        }
        let kept = || previous.map(|previous| previous.join(name)).filter(|kept| holds(kept, text));
        let twin = placed.get(&Arc::as_ptr(text)).cloned().or_else(kept);
        // A file system may have no links, or no more for this file.
        if twin.is_none_or(|twin| fs::hard_link(&twin, &path).is_err()) {
            fs::write(&path, &**text).map_err(failed("writing", &path))?;
        }
        placed.entry(Arc::as_ptr(text)).or_insert(path);
    }
    // One call for the whole file system: the folders, their names and the files reach the disk in one transaction of its journal.
    let directory = File::open(set).map_err(failed("opening", set))?;
    syncfs(&directory).map_err(|errno| failed("syncing", set)(errno.into()))
}

/// Makes `current` name the set, durably.
fn switch(layout: &Layout, name: &str) -> Result<(), SetError> {
    let (menus, link) = (layout.menus(), layout.current_menus());
    let staged = menus.join(STAGED_LINK);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing", &staged)(error)),
        _ => {}
    }
    symlink(name, &staged).map_err(failed("making", &staged))?;
    fs::rename(&staged, &link).map_err(failed("replacing", &link))?;
    File::open(&menus).and_then(|folder| folder.sync_all()).map_err(failed("syncing", &menus))
}

/// The set in force, if there is one.
fn current(layout: &Layout) -> Result<Option<String>, SetError> {
    let link = layout.current_menus();
    match fs::read_link(&link) {
        Ok(target) => Ok(target.to_str().filter(|name| number(name).is_some()).map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", &link)(error)),
    }
}

/// Every set that lies there, complete or not, by number.
fn sets(menus: &Path) -> Result<BTreeMap<u64, String>, SetError> {
    let entries = fs::read_dir(menus).map_err(failed("listing", menus))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| Some((number(&name)?, name))).collect())
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn holds(path: &Path, text: &str) -> bool {
    let same_size = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == text.len() as u64);
    same_size && fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
}

fn holds_exactly(set: &Path, files: &BTreeMap<PathBuf, Arc<str>>) -> bool {
    // Names of one file are read once.
    let mut compared: HashSet<(u64, *const str)> = HashSet::new();
    let mut holds = |(name, text): (&PathBuf, &Arc<str>)| {
        let path = set.join(name);
        let Ok(metadata) = fs::metadata(&path) else { return false };
        let known = (metadata.ino(), Arc::as_ptr(text));
        compared.contains(&known) || (holds(&path, text) && compared.insert(known))
    };
    count_files(set).is_ok_and(|count| count == files.len()) && files.iter().all(&mut holds)
}

fn count_files(directory: &Path) -> io::Result<usize> {
    fs::read_dir(directory)?.try_fold(0, |count, entry| {
        let entry = entry?;
        Ok(count + if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 })
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetError {
    let path = path.to_owned();
    move |error| SetError { action, path, error }
}
