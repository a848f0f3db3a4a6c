//! The log of received paths: a path that stands in it is complete on the medium, under its own name, with the content whose hash
//! stands beside it. A line is written only after the file system was synced, and is synced itself.
//!
//! A line is `<checksum> <NarHash, base16> <base name>`, the checksum being the first 8 bytes of the SHA-256 of the rest. A line
//! that is torn or changed is not believed; the path is then hashed again, or fetched again.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
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
    paths: HashMap<StorePath, Sha256Digest>,
}

impl Received {
    /// Reads the log, and writes it anew if any of its lines cannot be believed.
    pub(in crate::fetch) fn open(store: &Store) -> Result<Self, Failure> {
        let path = store.records().join("received");
        Self::open_file(&path).map_err(|error| failed("reading the log", &path, &error, "check the disk"))
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.is_empty() || text.ends_with('\n');
        let lines = text.lines().count();
        let believed: Vec<_> = text.lines().filter_map(parse).collect();
        let damaged = !whole || believed.len() < lines;
        let paths: HashMap<_, _> = believed.into_iter().collect();
        if damaged || !path.exists() {
            rewrite(path, &paths)?;
        }
        Ok(Self { path: path.to_owned(), log: append_to(path)?, paths })
    }

    /// Is this path here, with this content?
    pub(in crate::fetch) fn has(&self, info: &NarInfo) -> bool {
        self.paths.get(&info.store_path) == Some(&info.nar_hash)
    }

    /// Everything that was received.
    pub(in crate::fetch) fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.paths.keys()
    }

    /// Writes and syncs receipts. Only for paths whose files and names are on the medium.
    pub(in crate::fetch) fn append(&mut self, paths: Vec<(StorePath, Sha256Digest)>) -> io::Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let text: String = paths.iter().map(|(path, hash)| line(path, hash)).collect();
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

fn rewrite(path: &Path, paths: &HashMap<StorePath, Sha256Digest>) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_synced(directory)?;
    let staged = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&staged)?;
    let text: String = paths.iter().map(|(path, hash)| line(path, hash)).collect();
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(directory)?.sync_all()
}

fn line(path: &StorePath, hash: &Sha256Digest) -> String {
    let content = format!("{hash} {}", path.base_name());
    format!("{} {content}\n", checksum(&content))
}

fn parse(line: &str) -> Option<(StorePath, Sha256Digest)> {
    let (sum, content) = line.split_once(' ')?;
    if sum != checksum(content) {
        return None;
    }
    let (hash, name) = content.split_once(' ')?;
    Some((StorePath::from_base_name(name).ok()?, hash.parse().ok()?))
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

    fn receipt(number: u32) -> (StorePath, Sha256Digest) {
        (path(number), Sha256Digest::new([number as u8; 32]))
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
