//! The client's store as a place on disk: what Nix does not do for us, or does wrong for a store that is not mounted at `/`.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use boot_model::{GenerationRef, generation::Generation};

use crate::{Failure, console, machine::failed};

/// The store below a mounted root.
pub(super) struct Store {
    root: PathBuf,
}

/// The mark lies in the database's own directory, so that it goes aside with it.
const MADE: &str = "rookery-made";
/// So does this one, which holds the digest of what was registered.
const REGISTERED: &str = "rookery-registered";

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

    /// The directory of the paths themselves.
    pub(super) fn paths(&self) -> PathBuf {
        self.root.join("nix/store")
    }

    /// Where paths are made, on the same file system as the store. What is in it is not whole and not missed.
    pub(super) fn staging(&self) -> PathBuf {
        self.paths().join(".rookery-staging")
    }

    /// The directory of what Rookery knows of this disk.
    pub(super) fn records(&self) -> PathBuf {
        self.state().join("rookery")
    }

    /// Makes sure that there is a database which Nix can work with; `make` lets Nix make a new one.
    ///
    /// Nix makes its database in many steps, and a power cut between two of them leaves files that look right and lack tables, or
    /// an empty `schema`: every Nix fails on those for ever, and a retry does not heal them. So a database counts only once it
    /// was made, synced and marked.
    pub(super) fn ensure_database(&self, make: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let database = self.database();
        let mark = database.join(MADE);
        if mark.exists() && self.database_looks_right() {
            return Ok(());
        }
        if database.exists() {
            self.set_database_aside()?;
        }
        make()?;
        self.sync()?;
        let marked = File::create(&mark).and_then(|mark| mark.sync_all());
        let marked = marked.and_then(|()| File::open(&database)?.sync_all());
        marked.map_err(|error| failed("marking", &database, &error, "check the disk"))
    }

    /// Whether its two files are what they should be at first sight.
    fn database_looks_right(&self) -> bool {
        let schema = fs::read_to_string(self.database().join("schema")).unwrap_or_default();
        schema.trim().parse::<u32>().is_ok() && is_sqlite(&self.database().join("db.sqlite"))
    }

    /// Moves the database out of the way. The files of the store stay. For the new one Nix fetches all paths again, or in stage 2 is
    /// told of those that have receipts.
    pub(super) fn set_database_aside(&self) -> Result<(), Failure> {
        let (database, aside) = (self.database(), self.state().join("nix/db.broken"));
        console::say("rookery: the store's database is damaged; it is set aside, and a new one is made");
        let moved = remove_directory(&aside).and_then(|()| fs::rename(&database, &aside));
        moved.map_err(|error| failed("setting aside", &database, &error, "check the disk"))
    }

    /// The file that says what Nix was told of in stage 2.
    pub(super) fn registered(&self) -> PathBuf {
        self.database().join(REGISTERED)
    }

    /// Nix is told of everything again. For what comes now may have been registered once, and Nix' garbage collector took it from the
    /// database, too. Returns when that is on the medium.
    pub(super) fn forget_registered(&self) -> Result<(), Failure> {
        let mark = self.registered();
        let forgotten = match fs::remove_file(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| File::open(self.database())?.sync_all()),
        };
        forgotten.map_err(|error| failed("removing", &mark, &error, "check the disk"))
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

    /// A generation is no root for the garbage collector any more.
    pub(super) fn remove_profile(&self, generation: &GenerationRef) -> io::Result<()> {
        let link = self.below_root(PROFILES).join(format!("system-{}-link", generation.id.number()));
        let is_its = fs::read_link(&link).is_ok_and(|target| {
            let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(generation.id.short_hash())
        });
        if is_its { fs::remove_file(&link) } else { Ok(()) }
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

    /// The directory of Nix's database.
    pub(super) fn database(&self) -> PathBuf {
        self.state().join("nix/db")
    }
}

fn is_sqlite(file: &Path) -> bool {
    let mut magic = [0; 16];
    File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"SQLite format 3\0"
}

/// Removes a directory with all that is in it; none is fine.
pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
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

    const GOOD: &[u8] = b"SQLite format 3\0 and so on";

    fn fill(store: &Store, schema: &str, database: &[u8]) {
        fs::create_dir_all(store.root().join("nix/store")).unwrap();
        fs::create_dir_all(store.database()).unwrap();
        fs::write(store.database().join("schema"), schema).unwrap();
        fs::write(store.database().join("db.sqlite"), database).unwrap();
    }

    #[test]
    fn a_database_counts_once_it_is_made_and_marked() {
        let table: [(&str, &[u8], bool, bool); 6] = [
            ("10", GOOD, true, true),
            ("10\n", GOOD, true, true),
            ("10", GOOD, false, false),
            ("", GOOD, true, false),
            ("1x", GOOD, true, false),
            ("10", b"", true, false),
        ];
        for (schema, database, marked, stays) in table {
            let root = tempfile::tempdir().unwrap();
            let store = Store::new(root.path().to_owned());
            fill(&store, schema, database);
            if marked {
                fs::write(store.database().join(MADE), "").unwrap();
            }
            let mut made = 0;
            for _ in 0..2 {
                let make = || {
                    made += 1;
                    fill(&store, "10", GOOD);
                    Ok(())
                };
                store.ensure_database(make).unwrap();
            }
            assert_eq!(made, u32::from(!stays), "{schema:?}");
            assert_eq!(store.state().join("nix/db.broken").exists(), !stays, "{schema:?}");
        }
    }

    #[test]
    fn a_new_disk_gets_a_database_and_nothing_is_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        store
            .ensure_database(|| {
                fill(&store, "10", GOOD);
                Ok(())
            })
            .unwrap();
        assert!(store.database().join(MADE).exists() && !store.state().join("nix/db.broken").exists());
    }
}
