use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boot_model::Timestamp;

use crate::Layout;

/// What was removed and is not collected yet: a generation, or a role with all its generations. Only the closure manifests are left
/// of it, so that clients in mid-fetch still get the packs that they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The directory that holds what is left.
    pub path: PathBuf,
    /// When it was removed.
    pub at: Timestamp,
}

impl Removed {
    /// All that is there, in no order. Names that say no moment are passed over.
    ///
    /// # Errors
    /// If the directory is there and cannot be listed.
    pub fn list(layout: &Layout) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(layout.removed()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut removed = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let moment = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
            removed.extend(moment.map(|at| Self { path: entry.path(), at: Timestamp::from_unix_millis(at) }));
        }
        Ok(removed)
    }

    /// The name of what is removed at this moment and was called `name`.
    pub fn name(at: Timestamp, name: &str) -> String {
        format!("{}-{name}", at.unix_millis())
    }

    /// The closure manifests that are left: the generation's own, or those of the role's generations.
    pub fn closures(&self) -> Vec<PathBuf> {
        let manifest = |directory: &Path| Some(directory.join(Layout::CLOSURE_NAME)).filter(|path| path.is_file());
        let below = fs::read_dir(&self.path).into_iter().flatten().flatten();
        manifest(&self.path).into_iter().chain(below.filter_map(|entry| manifest(&entry.path()))).collect()
    }
}
