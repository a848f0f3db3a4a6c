//! The Nix store that is published from: where its files are, and what its database says.

mod command;
mod database;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use boot_model::{STORE_DIR, Sha256Digest, StorePath};
use nix_format::signature::Signature;
use thiserror::Error;

/// How many symbolic links one path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// A Nix store: the system's own, or a diverted one whose `/nix/store` lies below another root.
#[derive(Debug, Clone, Default)]
pub struct Store {
    root: Option<PathBuf>,
}

/// What the store's database says of one valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathInfo {
    pub(crate) path: StorePath,
    pub(crate) nar_hash: Sha256Digest,
    pub(crate) nar_size: u64,
    /// Sorted.
    pub(crate) references: Vec<StorePath>,
    pub(crate) deriver: Option<StorePath>,
    pub(crate) signatures: Vec<Signature>,
    pub(crate) content_address: Option<String>,
}

/// Why something could not be had from the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// What was given as a system is none.
    #[error("{} is no path in the Nix store and no link to one; give a toplevel, such as ./result", .0.display())]
    NotInStore(PathBuf),
    /// The store doesn't know the path.
    #[error(
        "{0} is not valid in this Nix store; build it or copy it here (`nix copy`), or name the right store with --store"
    )]
    NotValid(StorePath),
    /// The database knows the path and the disk doesn't have it.
    #[error(
        "{0} is missing on disk although the store's database lists it; `nix-store --repair-path {0}` brings it back"
    )]
    Missing(StorePath),
    /// A link leads out of the store, or in circles.
    #[error("{} does not lead to a file in the store", .0.display())]
    Astray(PathBuf),
    /// A file of the store can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file, as the store names it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither the database nor Nix itself answered.
    #[error("the store's database {} cannot be read ({database}), and `nix path-info` does not help: {command}", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// Why it can't be read.
        database: String,
        /// What Nix said.
        command: String,
    },
    /// The database says what no store should.
    #[error("the store's database is odd about {path}: {problem}")]
    Odd {
        /// The path in question.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl Store {
    /// The system's store.
    pub fn system() -> Self {
        Self::default()
    }

    /// The store below `root`, as `nix --store local?root=<root>` makes it: `<root>/nix/store`, `<root>/nix/var/nix/db`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: Some(root.into()) }
    }

    /// The store path that `given` is, or that it leads to by links (`./result`, a profile).
    ///
    /// # Errors
    /// [`StoreError::NotInStore`].
    pub fn path(&self, given: &Path) -> Result<StorePath, StoreError> {
        let mut path = given.to_owned();
        for _ in 0..MAX_LINKS {
            let logical =
                self.root.as_ref().and_then(|root| path.strip_prefix(root).ok()).map(|rest| Path::new("/").join(rest));
            let text = logical.as_deref().unwrap_or(&path).to_str().unwrap_or_default();
            if let Ok(store_path) = text.trim_end_matches('/').parse() {
                return Ok(store_path);
            }
            let Ok(target) = fs::read_link(&path) else { break };
            path = path.parent().unwrap_or(Path::new("/")).join(target);
        }
        Err(StoreError::NotInStore(given.to_owned()))
    }

    /// Where a path that the store names lies on this machine.
    pub(crate) fn on_disk(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Follows all links in `path`, within the store: in a diverted one the kernel would follow them out of it. The result is
    /// the name that the store has for it.
    pub(crate) fn resolve(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let mut rest: Vec<PathBuf> = components(path);
        let mut resolved = PathBuf::from("/");
        let mut links = 0;
        while let Some(component) = rest.pop() {
            if component == Path::new("..") {
                resolved.pop();
                continue;
            }
            let next = resolved.join(&component);
            // Above the store directory nothing is looked at: a diverted store has no links there, and the system's own may
            // be a mount point that is reached in many ways.
            if Path::new(STORE_DIR).starts_with(&next) {
                resolved = next;
                continue;
            }
            if !next.starts_with(STORE_DIR) {
                return Err(StoreError::Astray(path.to_owned()));
            }
            let read = |source| StoreError::Read { path: next.clone(), source };
            let on_disk = self.on_disk(&next);
            if !fs::symlink_metadata(&on_disk).map_err(read)?.is_symlink() {
                resolved = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(StoreError::Astray(path.to_owned()));
            }
            let target = fs::read_link(&on_disk).map_err(read)?;
            if target.is_absolute() {
                resolved = PathBuf::from("/");
            }
            rest.extend(components(&target));
        }
        Ok(resolved)
    }

    /// Reads a file of the store.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let resolved = self.resolve(path)?;
        fs::read(self.on_disk(&resolved)).map_err(|source| StoreError::Read { path: path.to_owned(), source })
    }

    /// The store path that holds a resolved file.
    pub(crate) fn holder(&self, resolved: &Path) -> Result<StorePath, StoreError> {
        let base = resolved.strip_prefix(STORE_DIR).ok().and_then(|inside| inside.components().next());
        base.and_then(|base| StorePath::from_base_name(base.as_os_str().to_str()?).ok())
            .ok_or_else(|| StoreError::Astray(resolved.to_owned()))
    }

    /// All paths that `roots` need, themselves included, by path; each is there on disk.
    pub(crate) fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        let database_path = self.on_disk(Path::new("/nix/var/nix/db/db.sqlite"));
        let mut closure = match database::closure(&database_path, roots) {
            Ok(closure) => closure?,
            // A cleanly closed WAL database refuses a reader who may not write beside it: then Nix is asked, whose daemon may.
            Err(database) => command::closure(self.root.as_deref(), roots).map_err(|command| {
                StoreError::Unreadable { path: database_path, database: database.to_string(), command }
            })?,
        };
        closure.sort_by(|a, b| a.path.cmp(&b.path));
        for root in roots {
            if closure.binary_search_by(|info| info.path.cmp(root)).is_err() {
                return Err(StoreError::NotValid(root.clone()));
            }
        }
        for info in &closure {
            if fs::symlink_metadata(self.on_disk(Path::new(info.path.as_str()))).is_err() {
                return Err(StoreError::Missing(info.path.clone()));
            }
        }
        Ok(closure)
    }
}

/// The components that must still be walked, last first, so that they can be popped.
fn components(path: &Path) -> Vec<PathBuf> {
    let walked = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    walked.map(|c| PathBuf::from(c.as_os_str())).collect::<Vec<_>>().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const A: &str = "/nix/store/00000000000000000000000000000001-a";
    const B: &str = "/nix/store/00000000000000000000000000000002-b";

    fn diverted() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path());
        fs::create_dir_all(store.on_disk(Path::new(A)).join("boot")).unwrap();
        fs::create_dir_all(store.on_disk(Path::new(B))).unwrap();
        fs::write(store.on_disk(Path::new(A)).join("boot/kernel"), "k").unwrap();
        (root, store)
    }

    #[test]
    fn links_are_followed_within_the_diverted_store() {
        let (_root, store) = diverted();
        let b = store.on_disk(Path::new(B));
        symlink(format!("{A}/boot"), b.join("boot")).unwrap();
        symlink("boot/../boot/kernel", b.join("kernel")).unwrap();
        symlink("/etc/passwd", b.join("out")).unwrap();
        symlink("loop", b.join("loop")).unwrap();
        symlink("../../../../../../etc/passwd", b.join("up")).unwrap();

        let resolved = store.resolve(&Path::new(B).join("kernel")).unwrap();
        assert_eq!(resolved, Path::new(A).join("boot/kernel"));
        assert_eq!(store.holder(&resolved).unwrap().as_str(), A);
        assert_eq!(store.read(&Path::new(B).join("kernel")).unwrap(), b"k");
        for astray in ["out", "loop", "up"] {
            assert!(matches!(store.resolve(&Path::new(B).join(astray)), Err(StoreError::Astray(_))), "{astray}");
        }
        assert!(matches!(store.resolve(&Path::new(B).join("none")), Err(StoreError::Read { .. })));
    }

    #[test]
    fn a_system_is_given_by_its_path_or_by_a_link() {
        let (root, store) = diverted();
        let link = root.path().join("result");
        symlink(A, root.path().join("lab-1-link")).unwrap();
        symlink("lab-1-link", &link).unwrap();
        for given in [PathBuf::from(A), format!("{A}/").into(), link, store.on_disk(Path::new(A))] {
            assert_eq!(store.path(&given).unwrap().as_str(), A, "{given:?}");
        }
        assert!(matches!(store.path(root.path()), Err(StoreError::NotInStore(_))));
        assert!(matches!(store.path(&Path::new(A).join("boot")), Err(StoreError::NotInStore(_))));
    }

    #[test]
    fn the_database_and_the_command_line_agree() {
        let test = crate::support::TestStore::new();
        let roots = [test.system("one"), test.system("two")];
        let database = database::closure(&test.root().join("nix/var/nix/db/db.sqlite"), &roots);
        let mut database = database.unwrap().unwrap();
        let mut command = command::closure(Some(&test.root()), &roots).unwrap();
        for closure in [&mut database, &mut command] {
            closure.sort_by(|a, b| a.path.cmp(&b.path));
        }
        assert_eq!(database, command);
        assert_eq!(database.len(), 6, "kernel and initrd are shared");
        let missing = command::closure(Some(&test.root()), &[crate::support::store_path("none")]).unwrap_err();
        assert!(missing.contains("is not valid"), "{missing}");
    }

    #[test]
    fn without_a_database_and_without_help_both_reasons_are_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("nix"), "not a directory").unwrap();
        let path = crate::support::store_path("none");
        let refused = Store::at(directory.path()).closure(&[path]).unwrap_err().to_string();
        assert!(refused.contains("cannot be read (unable to open") && refused.contains("does not help: "), "{refused}");
    }
}
