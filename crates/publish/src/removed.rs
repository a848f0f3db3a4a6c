//! What is removed leaves its closure manifests behind, until they are collected: the packs that they name stay as long.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use boot_model::{GenerationRef, Timestamp};
use generations::{Layout, Removed};

use crate::durable::{self, StagedDirectory, WriteError};
use crate::publisher::Event;

/// Takes a generation, or a role with all of them, out of sight by one rename, which is also the record of when that was; then
/// drops all of it but the manifests.
pub(crate) fn set_aside(
    layout: &Layout,
    directory: &Path,
    name: &str,
    report: &dyn Fn(Event<'_>),
) -> Result<(), WriteError> {
    durable::make_directories(&layout.removed())?;
    let aside = layout.removed().join(Removed::name(now(), name));
    durable::rename(directory, &aside)?;
    report(Event::Persisted(directory));
    strip(&aside)?;
    report(Event::Persisted(&aside));
    Ok(())
}

/// A generation that is replaced under its own name (damaged, and published again): clients may be fetching by the manifest that
/// it had.
pub(crate) fn remember(layout: &Layout, generation: &GenerationRef, manifest: &str) -> Result<(), WriteError> {
    let path = layout.generation(generation).join(Layout::CLOSURE_NAME);
    let Some(old) = fs::read(path).ok().filter(|old| old != manifest.as_bytes()) else { return Ok(()) };
    durable::make_directories(&layout.removed())?;
    let name = Removed::name(now(), &generation_name(generation));
    let staged = StagedDirectory::create(&layout.generations(), &name)?;
    durable::write_file(&staged.path().join(Layout::CLOSURE_NAME), &old)?;
    staged.place(&layout.removed().join(name))
}

/// What a removed generation is called.
pub(crate) fn generation_name(generation: &GenerationRef) -> String {
    format!("{}-{}", generation.role, generation.id)
}

/// Removes everything below `directory` but closure manifests.
pub(crate) fn strip(directory: &Path) -> Result<(), WriteError> {
    let failed = |error| WriteError::new("empty", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            strip(&path)?;
            // Not empty: a manifest is in it.
            let _ = fs::remove_dir(&path);
        } else if entry.file_name() != OsStr::new(Layout::CLOSURE_NAME) {
            durable::remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
