//! The least that a closure can cost: its packs, read from memory, decoded, hashed and written as files by one process that does
//! nothing else. No network, no manifest, no staging, no receipts.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use nix_format::nar::{Event, NarReader};
use nix_format::narinfo::NarInfo;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// What is decoded at a time.
const CHUNK: usize = 256 << 10;

/// Unpacks these paths of a cache below `root`, as many at a time as there are processors. Seconds.
pub(super) fn unpack(cache: &Path, paths: &[NarInfo], root: &Path) -> Result<f64> {
    let mut biggest_first: Vec<&NarInfo> = paths.iter().collect();
    biggest_first.sort_by_key(|info| std::cmp::Reverse(info.nar_size));
    fs::create_dir_all(root).map_err(Error::io(format!("creating {}", root.display())))?;
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let work = || -> Result<()> {
        while let Some(info) = biggest_first.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(cache, info, &root.join(info.store_path.base_name()))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(Error::Wrong("a panic".into()))))
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

fn one(cache: &Path, info: &NarInfo, path: &Path) -> Result<()> {
    let pack = cache.join(&info.url);
    let doing = || format!("unpacking {}", pack.display());
    let file = File::open(&pack).map_err(Error::io(doing()))?;
    let mut contents = zstd::Decoder::with_buffer(BufReader::new(file)).map_err(Error::io(doing()))?;
    let (mut hash, mut reader, mut tree) = (Sha256::new(), NarReader::new(), Tree::at(path));
    let mut chunk = vec![0; CHUNK];
    loop {
        let filled = contents.read(&mut chunk).map_err(Error::io(doing()))?;
        if filled == 0 {
            break;
        }
        hash.update(&chunk[..filled]);
        let mut rest = &chunk[..filled];
        while let Some(event) = reader.next(&mut rest).map_err(|error| Error::Wrong(format!("{}: {error}", doing())))? {
            tree.accept(event).map_err(Error::io(doing()))?;
        }
    }
    if hash.finalize()[..] == info.nar_hash.bytes()[..] {
        return Ok(());
    }
    Err(Error::Wrong(format!("{} has another hash than its narinfo says", pack.display())))
}

/// The files of one path, as they come.
struct Tree {
    at: PathBuf,
    file: Option<File>,
}

impl Tree {
    fn at(path: &Path) -> Self {
        Self { at: path.to_owned(), file: None }
    }

    fn accept(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Directory => fs::create_dir(&self.at)?,
            Event::Entry(name) => {
                self.at.push(std::ffi::OsStr::from_bytes(name));
                return Ok(());
            }
            Event::File { executable, .. } => {
                let mode = if executable { 0o555 } else { 0o444 };
                self.file = Some(File::options().write(true).create_new(true).mode(mode).open(&self.at)?);
            }
            Event::Contents(bytes) => self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))?,
            Event::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), &self.at)?,
            Event::EndOfFile | Event::EndOfDirectory => {}
        }
        // The node is whole: what comes next is beside it.
        if matches!(event, Event::EndOfFile | Event::EndOfDirectory | Event::Symlink(_)) {
            self.file = None;
            self.at.pop();
        }
        Ok(())
    }
}
