//! Files and directories that appear whole or not at all.
//!
//! Written under a hidden name beside the target, synced, renamed. What is dropped before it is placed is removed; what a
//! killed process leaves is found by its prefix and removed by the next run, which holds the lock.

use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::sys::stat::fstat;
use nix::unistd::{Uid, fchownat, syncfs};
use thiserror::Error;

/// What all unfinished files and directories of the publisher begin with.
const PREFIX: &str = ".staging-";

/// A step of writing failed.
#[derive(Debug, Error)]
#[error("cannot {doing} {}: {source}{}", path.display(), advice(source))]
pub struct WriteError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source }
    }
}

/// A file that is not in its place yet.
pub(crate) struct StagedFile {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl StagedFile {
    /// Creates a hidden file in `directory`; `name` keeps the files of several threads apart.
    pub(crate) fn create(directory: &Path, name: &str) -> Result<Self, WriteError> {
        let path = directory.join(format!("{PREFIX}{name}"));
        let opened = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = opened.map_err(|error| WriteError::new("create", &path, error))?;
        let staged = Self { path, file, placed: false };
        // Services of other users read it, whatever the umask of the shell that publishes.
        let readable = staged.file.set_permissions(Permissions::from_mode(0o644));
        readable.map_err(|error| WriteError::new("make readable", &staged.path, error))?;
        Ok(staged)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and gives it its name. The name itself lasts only after [`sync_directory`].
    pub(crate) fn place(self, target: &Path) -> Result<(), WriteError> {
        self.file.sync_all().map_err(|error| WriteError::new("sync", &self.path, error))?;
        self.place_synced(target)
    }

    /// As [`StagedFile::place`], for one that was synced with others ([`FileSystem::sync`]).
    pub(crate) fn place_synced(mut self, target: &Path) -> Result<(), WriteError> {
        fs::rename(&self.path, target).map_err(|error| WriteError::new("rename a finished file to", target, error))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.placed {
            // If even this fails, the next run removes it by its prefix.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file system, to sync many files of it at once.
pub(crate) struct FileSystem {
    path: PathBuf,
    directory: File,
}

impl FileSystem {
    /// The one that this directory is in. To be called before the first file is written: failures to write are told to those
    /// who had opened something of the file system by then (syncfs(2)).
    pub(crate) fn of(directory: &Path) -> Result<Self, WriteError> {
        let path = directory.to_owned();
        let directory = File::open(&path).map_err(|error| WriteError::new("open", &path, error))?;
        Ok(Self { path, directory })
    }

    /// Makes everything last that was written to it.
    pub(crate) fn sync(&self) -> Result<(), WriteError> {
        syncfs(&self.directory).map_err(|errno| WriteError::new("sync the file system of", &self.path, errno.into()))
    }
}

/// A directory that is not in its place yet.
pub(crate) struct StagedDirectory {
    path: PathBuf,
    placed: bool,
}

impl StagedDirectory {
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Self, WriteError> {
        let path = parent.join(format!("{PREFIX}{name}"));
        make_directory(&path)?;
        Ok(Self { path, placed: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory its name and makes that last. Everything in it must have been synced.
    ///
    /// A directory that has the name already (a damaged one that is published again) changes places with this one in one
    /// step, so that no reader ever finds neither.
    pub(crate) fn place(mut self, target: &Path) -> Result<(), WriteError> {
        sync_directory(&self.path)?;
        if !(target.exists() && self.exchange(target)?) {
            fs::rename(&self.path, target)
                .map_err(|error| WriteError::new("rename a finished directory to", target, error))?;
            self.placed = true;
        }
        sync_parent(target)
    }

    /// Afterwards the old directory has the staged name, and goes with it. False: the file system can't do that (ZFS before
    /// 2.2), and the old directory was removed.
    fn exchange(&self, target: &Path) -> Result<bool, WriteError> {
        match renameat2(AT_FDCWD, &self.path, AT_FDCWD, target, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::EINVAL) => remove_directory(target).map(|()| false),
            Err(errno) => Err(WriteError::new("replace the directory", target, errno.into())),
        }
    }
}

impl Drop for StagedDirectory {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Writes a file in one step and makes it last; readable by everybody, whatever the umask.
///
/// # Errors
/// [`WriteError`]; nothing has the name then, or what had it before.
pub fn write_file(target: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let (Some(parent), Some(name)) = (parent(target), target.file_name()) else {
        return Err(WriteError::new("write", target, io::ErrorKind::InvalidFilename.into()));
    };
    let staged = StagedFile::create(parent, &name.to_string_lossy())?;
    staged.file().write_all(bytes).map_err(|error| WriteError::new("write", staged.path(), error))?;
    staged.place(target)?;
    sync_directory(parent)
}

/// Points the symbolic link `link` to `text` in one step and makes that last.
pub(crate) fn write_link(link: &Path, text: &str) -> Result<(), WriteError> {
    let staged = link.with_file_name(format!("{PREFIX}link"));
    remove_if_there(&staged)?;
    std::os::unix::fs::symlink(text, &staged).map_err(|error| WriteError::new("create the link", &staged, error))?;
    fs::rename(&staged, link).map_err(|error| WriteError::new("move the link", link, error))?;
    sync_parent(link)
}

/// Makes a directory and its parents, each synced into its own parent; readable by everybody, whatever the umask: services of
/// other users read it.
///
/// # Errors
/// [`WriteError`].
pub fn make_directories(path: &Path) -> Result<(), WriteError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = parent(path) {
        make_directories(parent)?;
    }
    make_directory(path)?;
    sync_parent(path)
}

/// Takes a directory out of sight in one step, then removes it.
fn remove_directory(path: &Path) -> Result<(), WriteError> {
    let Some(name) = path.file_name() else {
        return Err(WriteError::new("remove", path, io::ErrorKind::InvalidFilename.into()));
    };
    let aside = path.with_file_name(format!("{PREFIX}removed-{}", name.to_string_lossy()));
    rename(path, &aside)?;
    fs::remove_dir_all(&aside).map_err(|error| WriteError::new("remove", &aside, error))
}

/// Gives a directory another name, and makes that last.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), WriteError> {
    fs::rename(from, to).map_err(|error| WriteError::new("move", from, error))?;
    sync_parent(to)?;
    sync_parent(from)
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), WriteError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// What a killed run left in `directory`, which need not be there.
pub(crate) fn leftovers(directory: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let mut entries = list(directory)?;
    entries.retain(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    Ok(entries.iter().map(DirEntry::path).collect())
}

/// Removes what a killed run left in `directory`. Only while holding the lock.
pub(crate) fn remove_leftovers(directory: &Path) -> Result<(), WriteError> {
    leftovers(directory)?.iter().try_for_each(|path| remove_whatever(path))
}

/// Removes a file, or a directory with all that is in it.
pub(crate) fn remove_whatever(path: &Path) -> Result<(), WriteError> {
    let removed = match path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(|error| WriteError::new("remove", path, error))
}

/// The entries of a directory; none if it is not there.
pub(crate) fn list(directory: &Path) -> Result<Vec<DirEntry>, WriteError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect),
    };
    entries.map_err(|error| WriteError::new("list", directory, error))
}

/// Makes the names in a directory last.
pub(crate) fn sync_directory(path: &Path) -> Result<(), WriteError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| WriteError::new("sync the directory", path, error))
}

fn sync_parent(path: &Path) -> Result<(), WriteError> {
    parent(path).map_or(Ok(()), sync_directory)
}

/// The directory that holds `path`, for a relative one with a single component too.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn make_directory(path: &Path) -> Result<(), WriteError> {
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
            .and_then(|()| if Uid::effective().is_root() { give_to_owner_of_parent(path) } else { Ok(()) }),
    };
    made.map_err(|error| WriteError::new("create the directory", path, error))
}

/// What root publishes by hand, the publisher's own user must be able to collect: only a directory's owner removes what is in it.
///
/// The directory is named within its parent's descriptor, so that root gives away nothing but what is in the owner's directory already.
fn give_to_owner_of_parent(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (parent(path), path.file_name()) else { return Ok(()) };
    let parent = File::open(parent)?;
    let owner = Uid::from_raw(fstat(&parent)?.st_uid);
    Ok(fchownat(&parent, name, Some(owner), None, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; nothing was published: free space there, or remove old generations (`rookery remove`, then `rookery gc --grace 0`), \
             and run it again"
        }
        io::ErrorKind::PermissionDenied => "; run it as the user who owns the state directory",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_placed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(StagedFile::create(directory.path(), "file").unwrap());
        drop(StagedDirectory::create(directory.path(), "directory").unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_takes_the_place_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        for text in ["one", "two"] {
            let staged = StagedDirectory::create(directory.path(), "new").unwrap();
            write_file(&staged.path().join("text"), text.as_bytes()).unwrap();
            staged.place(&target).unwrap();
            assert_eq!(fs::read_to_string(target.join("text")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_place() {
        use std::os::unix::fs::{MetadataExt as _, chown};
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().metadata().unwrap().uid();
        let owner = if own == 0 { 65_534 } else { own };
        chown(directory.path(), Some(owner), None).unwrap();
        make_directories(&directory.path().join("role/1-x")).unwrap();
        for made in ["role", "role/1-x"] {
            assert_eq!(directory.path().join(made).metadata().unwrap().uid(), owner);
        }
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join(".staging-x/boot")).unwrap();
        fs::write(directory.path().join(".staging-y"), "").unwrap();
        fs::write(directory.path().join(".lock"), "").unwrap();
        remove_leftovers(directory.path()).unwrap();
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [".lock"]);
    }
}
