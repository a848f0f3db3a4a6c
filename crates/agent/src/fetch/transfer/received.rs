//! The log of received paths: a path that stands in it was complete on the medium, under its own name, with the content whose hash
//! stands beside it, and still is if its root is the one that stands there too ([`Root`]). A line is written only after the file
//! system was synced, and is synced itself.
//!
//! A line is `<checksum> 2 <NarHash, base16> <inode> <seconds> <nanoseconds> <base name>`, the checksum being the first 8 bytes of the
//! SHA-256 of the rest, and the time that of the inode's last change. The first version, `<checksum> <NarHash> <base name>`, says
//! nothing about the root. A line that is torn or changed is not believed. Without a receipt that is believed a path is hashed
//! again, or fetched again.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use boot_model::{Sha256Digest, StorePath};
use nix_format::narinfo::NarInfo;
use sha2::{Digest as _, Sha256};

use crate::{
    Failure,
    fetch::{held::create_synced, store::Store},
    machine::failed,
};

/// See the module's description.
#[derive(Debug)]
pub(in crate::fetch) struct Received {
    path: PathBuf,
    log: File,
    paths: HashMap<StorePath, Receipt>,
}

/// What was received under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) struct Receipt {
    pub(in crate::fetch) nar_hash: Sha256Digest,
    /// `None` in a line of the first version.
    pub(in crate::fetch) root: Option<Root>,
}

/// What the root of a path has in common with nothing that was put in its place, and not with itself when somebody has begun to
/// delete it: that takes a chmod of a directory first, and so another time of change, as rename, link and the owner do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) struct Root {
    inode: u64,
    changed: (i64, i64),
}

impl Root {
    /// What lies at `path` now; no link is followed.
    pub(in crate::fetch) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
    }
}

impl Received {
    /// Reads the log, and writes it anew if any of its lines cannot be believed, or most are outdated by others.
    pub(in crate::fetch) fn open(store: &Store) -> Result<Self, Failure> {
        let path = store.records().join("received");
        Self::open_file(&path).map_err(|error| failed("reading the log", &path, &error, "check the disk"))
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        // The end of a line that was torn would be the beginning of the next one.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let lines = text.lines().count();
        let believed: Vec<_> = text.lines().filter_map(parse).collect();
        let damaged = believed.len() < lines;
        let paths: HashMap<_, _> = believed.into_iter().collect();
        if whole < bytes.len() {
            append_to(path)?.set_len(whole as u64)?;
        }
        if !path.exists() {
            rewrite(path, &paths)?;
        } else if damaged || lines > 2 * paths.len() {
            // What is not believed now will not be later: the log can stay as it is on a disk that has no room for another.
            let _ = rewrite(path, &paths);
        }
        Ok(Self { path: path.to_owned(), log: append_to(path)?, paths })
    }

    /// The root that this path was received with, with this content.
    pub(in crate::fetch) fn root(&self, info: &NarInfo) -> Option<Root> {
        self.paths.get(&info.store_path).filter(|receipt| receipt.nar_hash == info.nar_hash)?.root
    }

    /// Everything that was received.
    pub(in crate::fetch) fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.paths.keys()
    }

    /// Writes and syncs receipts. Only for paths whose files and names are on the medium.
    pub(in crate::fetch) fn append(&mut self, paths: Vec<(StorePath, Receipt)>) -> io::Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let text: String = paths.iter().map(|(path, receipt)| line(path, receipt)).collect();
        self.log.write_all(text.as_bytes())?;
        self.log.sync_data()?;
        self.paths.extend(paths);
        Ok(())
    }

    /// Takes receipts back; returns when that is on the medium.
    pub(in crate::fetch) fn forget(&mut self, paths: &HashSet<StorePath>) -> io::Result<()> {
        self.paths.retain(|path, _| !paths.contains(path));
        rewrite(&self.path, &self.paths)?;
        self.log = append_to(&self.path)?;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

fn rewrite(path: &Path, paths: &HashMap<StorePath, Receipt>) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_synced(directory)?;
    let staged = path.with_extension("new");
    let text: String = paths.iter().map(|(path, receipt)| line(path, receipt)).collect();
    // Half of it would only take the disk's last room.
    write_synced(&staged, &text).inspect_err(|_| drop(fs::remove_file(&staged)))?;
    fs::rename(&staged, path)?;
    File::open(directory)?.sync_all()
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn line(path: &StorePath, receipt: &Receipt) -> String {
    let (hash, name) = (&receipt.nar_hash, path.base_name());
    let content = match receipt.root {
        Some(Root { inode, changed: (seconds, nanoseconds) }) => {
            format!("2 {hash} {inode} {seconds} {nanoseconds} {name}")
        }
        None => format!("{hash} {name}"),
    };
    format!("{} {content}\n", checksum(&content))
}

fn parse(line: &str) -> Option<(StorePath, Receipt)> {
    let (sum, content) = line.split_once(' ')?;
    if sum != checksum(content) {
        return None;
    }
    let words: Vec<&str> = content.split(' ').collect();
    let (hash, root, name) = match words[..] {
        ["2", hash, inode, seconds, nanoseconds, name] => {
            let changed = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
            (hash, Some(Root { inode: inode.parse().ok()?, changed }), name)
        }
        [hash, name] => (hash, None, name),
        _ => return None,
    };
    Some((StorePath::from_base_name(name).ok()?, Receipt { nar_hash: hash.parse().ok()?, root }))
}

fn checksum(content: &str) -> String {
    Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: u32) -> StorePath {
        format!("/nix/store/{number:032}-p").parse().unwrap()
    }

    fn receipt(number: u32) -> (StorePath, Receipt) {
        // One of the first version among those of the second.
        let root = Root { inode: u64::MAX - u64::from(number), changed: (-1, 999_999_999) };
        (path(number), Receipt { nar_hash: Sha256Digest::new([number as u8; 32]), root: (number != 2).then_some(root) })
    }

    fn numbers(log: &Received) -> Vec<u32> {
        (0..9).filter(|number| log.paths.get(&path(*number)) == Some(&receipt(*number).1)).collect()
    }

    #[test]
    fn receipts_last_until_they_are_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut log = Received::open(&store).unwrap();
        log.append(vec![receipt(1), receipt(2)]).unwrap();
        log.append(vec![receipt(3)]).unwrap();
        assert_eq!(numbers(&log), [1, 2, 3]);
        let mut log = Received::open(&store).unwrap();
        assert_eq!(numbers(&log), [1, 2, 3]);
        log.forget(&HashSet::from([path(2)])).unwrap();
        log.append(vec![receipt(4)]).unwrap();
        assert_eq!(numbers(&Received::open(&store).unwrap()), [1, 3, 4]);
    }

    #[test]
    fn a_log_of_outdated_lines_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut log = Received::open(&store).unwrap();
        for inode in 0..3 {
            let root = Root { inode, changed: (0, 0) };
            log.append(vec![(path(1), Receipt { root: Some(root), ..receipt(1).1 })]).unwrap();
        }
        log.append(vec![receipt(1)]).unwrap();
        assert_eq!(numbers(&Received::open(&store).unwrap()), [1]);
        assert_eq!(fs::read_to_string(&log.path).unwrap().lines().count(), 1);
    }

    /// What no other thing in a path's place has, and what of a path that stays never changes.
    #[test]
    fn roots_differ() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["1", "2"].map(|name| directory.path().join(name));
        fs::write(&first, "").unwrap();
        let before = Root::of(&first).unwrap();
        fs::read(&first).unwrap();
        assert_eq!(Root::of(&first).unwrap(), before);
        fs::write(&second, "").unwrap();
        assert_ne!(Root::of(&second).unwrap(), before);
        fs::rename(&second, &first).unwrap();
        assert_ne!(Root::of(&first).unwrap(), before);
    }

    /// Cut at every length, and with every byte changed: what is believed was written, and the log goes on.
    #[test]
    fn what_is_torn_or_changed_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut log = Received::open(&store).unwrap();
        log.append(vec![receipt(1), receipt(2)]).unwrap();
        let good = fs::read(&log.path).unwrap();
        let cut = (0..good.len()).map(|length| good[..length].to_vec());
        let changed = (0..good.len()).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        });
        for bytes in cut.chain(changed) {
            fs::write(&log.path, &bytes).unwrap();
            let mut damaged = Received::open(&store).unwrap();
            assert!(numbers(&damaged).len() < 2 || damaged.paths.len() == 2, "{}", String::from_utf8_lossy(&bytes));
            assert!(damaged.paths.iter().all(|(path, hash)| [receipt(1), receipt(2)].contains(&(path.clone(), *hash))));
            damaged.append(vec![receipt(3)]).unwrap();
            assert!(numbers(&Received::open(&store).unwrap()).contains(&3));
        }
    }
}
