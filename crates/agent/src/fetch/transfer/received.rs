//! What was received: a path that stands in the log `received` was complete on the medium, under its own name, with the content whose
//! hash stands beside it, and still is if its root is the one that stands in the log `roots` ([`Root`]). A line is written only after the
//! file system was synced, and is synced itself.
//!
//! A line of `received` is `<checksum> <NarHash, base16> <base name>`, the checksum being the first 8 bytes of the SHA-256 of the rest;
//! a line of `roots` is `<checksum> <NarHash> <inode> <seconds> <nanoseconds> <base name>`, the time being that of the inode's last
//! change. There are two, so that agents which know nothing of roots, in the initrds of older generations, can read and write the first. A line that is
//! torn or changed is not believed; one that is struck out, by `-` in place of its first digit, was taken back, and names what may still
//! have to be removed. Without a receipt and a root that are believed a path is hashed again, or fetched again.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
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
    receipts: Log,
    roots: Log,
}

/// What was received under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) struct Receipt {
    pub(in crate::fetch) nar_hash: Sha256Digest,
    pub(in crate::fetch) root: Root,
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
    /// Reads the logs, and writes one anew if any of its lines cannot be believed, or most are outdated by others.
    pub(in crate::fetch) fn open(store: &Store) -> Result<Self, Failure> {
        let open = |name: &str, keep: &dyn Fn(&StorePath) -> bool| {
            let path = store.records().join(name);
            Log::open(&path, keep).map_err(|error| failed("reading the log", &path, &error, "check the disk"))
        };
        let receipts = open("received", &|_| true)?;
        let roots = open("roots", &|path| receipts.lines.contains_key(path))?;
        Ok(Self { receipts, roots })
    }

    /// The root that this path was received with, with this content.
    pub(in crate::fetch) fn root(&self, info: &NarInfo) -> Option<Root> {
        let [received, root] = [&self.receipts, &self.roots].map(|log| log.lines.get(&info.store_path));
        received.filter(|line| line.nar_hash == info.nar_hash)?;
        root.filter(|line| line.nar_hash == info.nar_hash)?.root
    }

    /// Everything that was received.
    pub(in crate::fetch) fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.receipts.lines.keys()
    }

    /// Writes and syncs receipts. Only for paths whose files and names are on the medium.
    pub(in crate::fetch) fn append(&mut self, paths: Vec<(StorePath, Receipt)>) -> io::Result<()> {
        let line = |root| move |(path, receipt): &(StorePath, Receipt)| (path.clone(), Line::of(receipt, root));
        self.receipts.append(paths.iter().map(line(false)))?;
        self.roots.append(paths.iter().map(line(true)))
    }

    /// Takes receipts back; returns when that is on the medium. Their roots say nothing without them. It needs no room on the disk.
    pub(in crate::fetch) fn forget(&mut self, paths: &HashSet<StorePath>) -> io::Result<()> {
        self.receipts.strike(paths)
    }

    /// Paths whose receipts were taken back, and of which something may be there still.
    pub(in crate::fetch) fn forgotten(&self) -> impl Iterator<Item = &StorePath> {
        self.receipts.struck.keys()
    }

    /// Nothing is there any more of these. Without room the log says longer that there may be.
    pub(in crate::fetch) fn removed(&mut self, paths: &HashSet<StorePath>) {
        self.receipts.struck.retain(|path, _| !paths.contains(path));
        let _ = self.receipts.tidy();
    }
}

/// One of the two files, and what it says of each path.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    lines: HashMap<StorePath, Line>,
    /// Lines that were struck out.
    struck: HashMap<StorePath, Line>,
}

/// What a line says of its path; a root only where the log is the one of roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    nar_hash: Sha256Digest,
    root: Option<Root>,
}

impl Line {
    fn of(receipt: &Receipt, with_root: bool) -> Self {
        Self { nar_hash: receipt.nar_hash, root: with_root.then_some(receipt.root) }
    }
}

impl Log {
    /// Reads the lines of the paths that are to be kept.
    fn open(path: &Path, keep: impl Fn(&StorePath) -> bool) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        // The end of a line that was torn would be the beginning of the next one.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let count = text.lines().count();
        let (believed, struck): (Vec<_>, Vec<_>) =
            [parse, parse_struck].map(|parse| text.lines().filter_map(parse).collect()).into();
        let damaged = believed.len() + struck.len() < count;
        let mut lines: HashMap<_, _> = believed.into_iter().collect();
        lines.retain(|path, _| keep(path));
        let mut struck: HashMap<_, _> = struck.into_iter().collect();
        // Received again since.
        struck.retain(|path, _| !lines.contains_key(path));
        if whole < bytes.len() {
            append_to(path)?.set_len(whole as u64)?;
        }
        if !path.exists() {
            rewrite(path, &lines, &struck)?;
        } else if damaged || count > 2 * (lines.len() + struck.len()) {
            // What is not believed now will not be later: the log can stay as it is on a disk that has no room for another.
            let _ = rewrite(path, &lines, &struck);
        }
        Ok(Self { path: path.to_owned(), file: append_to(path)?, lines, struck })
    }

    /// Writes and syncs those of the lines that are not in it.
    fn append(&mut self, lines: impl Iterator<Item = (StorePath, Line)>) -> io::Result<()> {
        let new: Vec<_> = lines.filter(|(path, line)| self.lines.get(path) != Some(line)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let text: String = new.iter().map(|(path, line)| write(path, line)).collect();
        let length = self.file.metadata()?.len();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        // Half of a line would be the beginning of the next one, which can be written once there is room.
        written.inspect_err(|_| drop(self.file.set_len(length)))?;
        self.lines.extend(new);
        Ok(())
    }

    /// Strikes lines out where they stand, for which a disk without room has enough; returns when that is on the medium.
    fn strike(&mut self, paths: &HashSet<StorePath>) -> io::Result<()> {
        let bytes = fs::read(&self.path)?;
        // Not the one that appends, which writes nowhere else.
        let file = OpenOptions::new().write(true).open(&self.path)?;
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let said = parse(String::from_utf8_lossy(line).trim_end());
            if said.is_some_and(|(path, _)| paths.contains(&path)) {
                file.write_all_at(STRUCK.as_bytes(), at)?;
            }
            at += line.len() as u64;
        }
        file.sync_data()?;
        self.struck.extend(paths.iter().filter_map(|path| self.lines.remove_entry(path)));
        Ok(())
    }

    /// Writes it without the lines that say nothing any more.
    fn tidy(&mut self) -> io::Result<()> {
        let written = rewrite(&self.path, &self.lines, &self.struck);
        // Whatever has its name now.
        self.file = append_to(&self.path)?;
        written
    }
}

/// Stands in place of the first digit of a line's checksum.
const STRUCK: &str = "-";

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

fn rewrite(path: &Path, lines: &HashMap<StorePath, Line>, struck: &HashMap<StorePath, Line>) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_synced(directory)?;
    let staged = path.with_extension("new");
    let struck = struck.iter().map(|(path, line)| format!("{STRUCK}{}", &write(path, line)[1..]));
    let text: String = lines.iter().map(|(path, line)| write(path, line)).chain(struck).collect();
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

fn write(path: &StorePath, line: &Line) -> String {
    let (hash, name) = (&line.nar_hash, path.base_name());
    let content = match line.root {
        Some(Root { inode, changed: (seconds, nanoseconds) }) => {
            format!("{hash} {inode} {seconds} {nanoseconds} {name}")
        }
        None => format!("{hash} {name}"),
    };
    format!("{} {content}\n", checksum(&content))
}

fn parse(line: &str) -> Option<(StorePath, Line)> {
    let (sum, content) = line.split_once(' ')?;
    if sum == checksum(content) { parse_content(content) } else { None }
}

fn parse_struck(line: &str) -> Option<(StorePath, Line)> {
    let (sum, content) = line.strip_prefix(STRUCK)?.split_once(' ')?;
    if sum == &checksum(content)[1..] { parse_content(content) } else { None }
}

fn parse_content(content: &str) -> Option<(StorePath, Line)> {
    let words: Vec<&str> = content.split(' ').collect();
    let (hash, root, name) = match words[..] {
        [hash, inode, seconds, nanoseconds, name] => {
            let changed = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
            (hash, Some(Root { inode: inode.parse().ok()?, changed }), name)
        }
        [hash, name] => (hash, None, name),
        _ => return None,
    };
    Some((StorePath::from_base_name(name).ok()?, Line { nar_hash: hash.parse().ok()?, root }))
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
        let root = Root { inode: u64::MAX - u64::from(number), changed: (-1, 999_999_999) };
        (path(number), Receipt { nar_hash: Sha256Digest::new([number as u8; 32]), root })
    }

    /// The paths with a receipt, and those that also have their root.
    fn numbers(received: &Received) -> [Vec<u32>; 2] {
        [(&received.receipts, false), (&received.roots, true)].map(|(log, with_root)| {
            let line = |number: &u32| Line::of(&receipt(*number).1, with_root);
            (0..9).filter(|number| log.lines.get(&path(*number)) == Some(&line(number))).collect()
        })
    }

    #[test]
    fn receipts_last_until_they_are_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut received = Received::open(&store).unwrap();
        received.append(vec![receipt(1), receipt(2)]).unwrap();
        received.append(vec![receipt(3)]).unwrap();
        assert_eq!(numbers(&received), [[1, 2, 3], [1, 2, 3]]);
        let mut received = Received::open(&store).unwrap();
        assert_eq!(numbers(&received), [[1, 2, 3], [1, 2, 3]]);
        received.forget(&HashSet::from([path(2)])).unwrap();
        received.append(vec![receipt(4)]).unwrap();
        assert_eq!(numbers(&Received::open(&store).unwrap()), [[1, 3, 4], [1, 3, 4]]);
    }

    /// Through every way in which the log is written anew.
    #[test]
    fn what_was_taken_back_is_named_until_it_is_gone_or_received_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut received = Received::open(&store).unwrap();
        received.append((1..6).map(receipt).collect()).unwrap();
        received.forget(&HashSet::from([path(1), path(2), path(3)])).unwrap();
        received.append(vec![receipt(3)]).unwrap();
        fs::write(&received.roots.path, "damaged\n").unwrap();
        let log = received.receipts.path.clone();
        fs::write(&log, fs::read_to_string(&log).unwrap() + "damaged\n").unwrap();
        for _ in 0..2 {
            let received = Received::open(&store).unwrap();
            assert_eq!(received.forgotten().cloned().collect::<HashSet<_>>(), HashSet::from([path(1), path(2)]));
            assert_eq!(numbers(&received)[0], [3, 4, 5]);
        }
        Received::open(&store).unwrap().removed(&HashSet::from([path(1)]));
        let received = Received::open(&store).unwrap();
        assert_eq!(received.forgotten().collect::<Vec<_>>(), [&path(2)]);
        assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 4);
    }

    #[test]
    fn a_log_of_outdated_lines_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut received = Received::open(&store).unwrap();
        for inode in 0..3 {
            let root = Root { inode, changed: (0, 0) };
            received.append(vec![(path(1), Receipt { root, ..receipt(1).1 })]).unwrap();
        }
        received.append(vec![receipt(1)]).unwrap();
        assert_eq!(numbers(&Received::open(&store).unwrap()), [[1], [1]]);
        for log in [&received.receipts, &received.roots] {
            assert_eq!(fs::read_to_string(&log.path).unwrap().lines().count(), 1);
        }
        // Without a receipt a root is outdated too.
        received.forget(&HashSet::from([path(1)])).unwrap();
        assert_eq!(numbers(&Received::open(&store).unwrap()), [[], []] as [[u32; 0]; 2]);
        assert_eq!(fs::read_to_string(&received.roots.path).unwrap(), "");
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

    /// Each log cut at every length, and with every byte changed: what is believed was written, and the log goes on.
    #[test]
    fn what_is_torn_or_changed_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let mut received = Received::open(&store).unwrap();
        received.append(vec![receipt(1), receipt(2)]).unwrap();
        let files = [received.receipts.path, received.roots.path];
        let good = files.each_ref().map(|file| fs::read(file).unwrap());
        for (at, good_log) in good.iter().enumerate() {
            let cut = (0..good_log.len()).map(|length| good_log[..length].to_vec());
            let changed = (0..good_log.len()).map(|at| {
                let mut bytes = good_log.clone();
                bytes[at] ^= 1;
                bytes
            });
            for bytes in cut.chain(changed) {
                files.iter().zip(&good).for_each(|(file, good)| fs::write(file, good).unwrap());
                fs::write(&files[at], &bytes).unwrap();
                let mut damaged = Received::open(&store).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                let believed = numbers(&damaged);
                assert!(believed[at].len() < 2, "{text}");
                assert_eq!(
                    [&damaged.receipts, &damaged.roots].map(|log| log.lines.len()),
                    believed.map(|paths| paths.len())
                );
                damaged.append(vec![receipt(3)]).unwrap();
                assert!(numbers(&Received::open(&store).unwrap()).iter().all(|paths| paths.contains(&3)), "{text}");
            }
        }
    }
}
