//! The client's store as a place on disk: what Nix does not do for us, or does wrong for a store that is not mounted at `/`.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use boot_model::generation::Generation;

use crate::{Failure, console, machine::failed};

/// The store below a mounted root.
pub(super) struct Store {
    root: PathBuf,
}

/// What Nix names in `gcroots`, as the running system will see it.
const PROFILES: &str = "/nix/var/nix/profiles";

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the client's root is mounted.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A store path, or another absolute path of the client, as it is reached now.
    pub(super) fn below_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The directory of Nix's and our own state.
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("nix/var")
    }

    /// Sets a database aside that no Nix will ever open again. Power cuts leave such ones behind (client-side `schema` of length
    /// zero: every Nix says "schema is corrupt" for ever), and a retry does not heal them.
    pub(super) fn heal(&self) -> Result<(), Failure> {
        let database = self.database();
        let schema = database.join("schema");
        let Ok(text) = fs::read_to_string(&schema) else {
            // Never made, or made halfway: Nix writes the schema last.
            return Ok(());
        };
        let well_formed = text.trim().parse::<u32>().is_ok() && is_sqlite(&database.join("db.sqlite"));
        if well_formed { Ok(()) } else { self.set_database_aside() }
    }

    /// Moves the database out of the way. The files of the store stay until Nix replaces them; everything is fetched again.
    pub(super) fn set_database_aside(&self) -> Result<(), Failure> {
        let (database, aside) = (self.database(), self.state().join("nix/db.broken"));
        console::say("rookery: the store's database is damaged; it is set aside and everything is fetched again");
        let moved = remove_directory(&aside).and_then(|()| fs::rename(&database, &aside));
        moved.map_err(|error| failed("setting aside", &database, &error, "check the disk"))
    }

    /// Makes the generation's system the client's: `system-<n>-link`, and `system` leading to it. Both are replaced
    /// atomically, and both are roots for the garbage collector.
    pub(super) fn set_profile(&self, generation: &Generation) -> Result<(), Failure> {
        let profiles = self.below_root(PROFILES);
        let link = format!("system-{}-link", generation.id.number());
        let set = || -> io::Result<()> {
            fs::create_dir_all(&profiles)?;
            replace_link(&profiles.join(&link), generation.system().toplevel.as_str())?;
            replace_link(&profiles.join("system"), &link)?;
            // Nix makes this link with the path as mounted now, which dangles once the client runs; then its garbage
            // collector would take every generation away.
            let roots = self.state().join("nix/gcroots");
            fs::create_dir_all(&roots)?;
            replace_link(&roots.join("profiles"), PROFILES)
        };
        set().map_err(|error| failed("setting the system profile in", &profiles, &error, "check the disk"))
    }

    /// Returns when everything written so far is on the medium.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        // Store and state may be two file systems.
        for directory in [self.root.join("nix/store"), self.state()] {
            let synced = File::open(&directory).and_then(|file| nix::unistd::syncfs(&file).map_err(io::Error::from));
            synced.map_err(|error| failed("syncing", &directory, &error, "check the disk"))?;
        }
        Ok(())
    }

    fn database(&self) -> PathBuf {
        self.state().join("nix/db")
    }
}

fn is_sqlite(file: &Path) -> bool {
    let mut magic = [0; 16];
    File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"SQLite format 3\0"
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A symbolic link that is the old one or the new one at every instant.
fn replace_link(link: &Path, target: &str) -> io::Result<()> {
    let mut staged = link.as_os_str().to_owned();
    staged.push(".rookery-tmp");
    let staged = PathBuf::from(staged);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &staged)?;
    fs::rename(&staged, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_with(schema: &str, database: &[u8]) -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        fs::create_dir_all(store.database()).unwrap();
        fs::write(store.database().join("schema"), schema).unwrap();
        fs::write(store.database().join("db.sqlite"), database).unwrap();
        (root, store)
    }

    #[test]
    fn a_database_that_nothing_can_open_is_set_aside() {
        let good = b"SQLite format 3\0 and so on";
        let table: [(&str, &[u8], bool); 5] =
            [("10", good, true), ("10\n", good, true), ("", good, false), ("1x", good, false), ("10", b"", false)];
        for (schema, database, stays) in table {
            let (_root, store) = store_with(schema, database);
            store.heal().unwrap();
            store.heal().unwrap();
            assert_eq!(store.database().exists(), stays, "{schema:?}");
            assert_eq!(store.state().join("nix/db.broken").exists(), !stays, "{schema:?}");
        }
    }
}
