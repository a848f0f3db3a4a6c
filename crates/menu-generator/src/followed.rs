use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use boot_model::event::Event;
use generations::Layout;

/// The events of one service, read once each.
#[derive(Debug)]
pub(crate) struct Followed {
    path: PathBuf,
    open: Option<Open>,
}

/// A file of events, read up to somewhere.
#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
    inode: u64,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

/// Lines of events that are looked at in one go: what a room writes in a second, many times over.
const LINES: usize = 100_000;

impl Followed {
    pub(crate) fn new(layout: &Layout, service: &str) -> Self {
        Self { path: layout.events(service).join("events.jsonl"), open: None }
    }

    /// What was written since the last look; at the first all that lies there, since events say when they happened. What is no event
    /// is skipped, and a file that can't be read has none.
    pub(crate) fn news(&mut self) -> Vec<Event> {
        let lines = self.lines().unwrap_or_default();
        lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Reads all of it again next time.
    pub(crate) fn forget(&mut self) {
        self.open = None;
    }

    fn lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        if let Some(open) = &mut self.open {
            open.read(&mut lines)?;
        }
        let inode = fs::metadata(&self.path)?.ino();
        if self.open.as_ref().is_none_or(|open| open.inode != inode) {
            let reader = BufReader::new(File::open(&self.path)?);
            self.open.insert(Open { reader, inode, partial: Vec::new() }).read(&mut lines)?;
        }
        Ok(lines)
    }
}

impl Open {
    fn read(&mut self, lines: &mut Vec<Vec<u8>>) -> io::Result<()> {
        while lines.len() < LINES {
            self.reader.read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                break;
            }
            lines.push(std::mem::take(&mut self.partial));
        }
        Ok(())
    }
}
