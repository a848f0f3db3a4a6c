//! Wishes for machines' next boots, and the events that say that they were fulfilled.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use boot_model::event::Event;
use boot_model::intent::Intent;
use boot_model::{MacAddr, Timestamp};
use generations::Layout;
use tracing::{info, warn};

/// Follows `intents/` and, while something is wished, the events of `nar-cache`, which believes a report only from the address
/// of its machine.
///
/// A wish that is fulfilled is removed here, so that the next menu is the usual one; should that fail, it is no longer heeded as long
/// as this process runs.
#[derive(Debug)]
pub struct Intents {
    layout: Layout,
    events: Option<Followed>,
    /// In force.
    active: BTreeMap<MacAddr, Intent>,
    /// Fulfilled or void, and not to be read again.
    done: Vec<Intent>,
    /// Files that can't be read, said once.
    refused: Vec<String>,
}

/// A file of events, read up to somewhere.
#[derive(Debug)]
struct Followed {
    reader: BufReader<File>,
    inode: u64,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

/// Lines of events that are looked at in one go: what a room writes in a second, many times over.
const LINES: usize = 100_000;

impl Intents {
    /// Nothing is read yet.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), events: None, active: BTreeMap::new(), done: Vec::new(), refused: Vec::new() }
    }

    /// What is wished, by machine.
    pub const fn active(&self) -> &BTreeMap<MacAddr, Intent> {
        &self.active
    }

    /// What is wished now, for those who only look.
    pub fn look(layout: &Layout, now: Timestamp) -> BTreeMap<MacAddr, Intent> {
        let mut intents = Self::new(layout);
        intents.read(now);
        intents.active
    }

    /// Reads what changed, and removes what was fulfilled; true if something else is wished than before.
    pub fn refresh(&mut self, now: Timestamp) -> bool {
        let before = self.active.clone();
        self.read(now);
        if self.active.is_empty() {
            self.events = None;
        } else {
            self.follow_events();
        }
        before != self.active
    }

    fn read(&mut self, now: Timestamp) {
        let mut found = BTreeMap::new();
        let mut refused = Vec::new();
        for path in files(&self.layout) {
            match fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| Intent::from_json(&bytes).map_err(|error| error.to_string()))
            {
                // The name is where the CLI looks; a copy under another one would be a second wish.
                Ok(intent) if path == self.layout.intent(intent.mac) => {
                    found.insert(intent.mac, intent);
                }
                Ok(intent) => refused.push(format!("{}: it is about {}", path.display(), intent.mac)),
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            }
        }
        for reason in refused.iter().filter(|reason| !self.refused.contains(reason)) {
            warn!(reason, "a wish cannot be read");
        }
        self.refused = refused;
        self.done.retain(|done| found.get(&done.mac) == Some(done));
        found.retain(|_, intent| intent.expires > now && !self.done.contains(intent));
        self.active = found;
    }

    fn follow_events(&mut self) {
        let Ok(lines) = self.new_events() else { return };
        for event in lines.iter().filter_map(|line| serde_json::from_slice::<Event>(line).ok()) {
            let Some(intent) = event.mac.and_then(|mac| self.active.get(&mac)) else { continue };
            if intent.fulfilled_by(&event) {
                let mac = intent.mac;
                info!(%mac, "the wish for the next boot is fulfilled");
                self.forget(mac);
            }
        }
    }

    fn forget(&mut self, mac: MacAddr) {
        let Some(intent) = self.active.remove(&mac) else { return };
        let path = self.layout.intent(mac);
        // Unless somebody has wished something else in the meantime.
        let unchanged = fs::read(&path).is_ok_and(|bytes| Intent::from_json(&bytes).is_ok_and(|read| read == intent));
        if unchanged && let Err(error) = fs::remove_file(&path) {
            warn!(%error, path = %path.display(), "a fulfilled wish cannot be removed");
        }
        self.done.push(intent);
    }

    /// The lines since the last look; of the whole file at the first, since they say when they were written.
    fn new_events(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        if let Some(followed) = &mut self.events {
            followed.read(&mut lines)?;
        }
        let path = self.layout.events("nar-cache").join("events.jsonl");
        let inode = fs::metadata(&path)?.ino();
        if self.events.as_ref().is_none_or(|followed| followed.inode != inode) {
            let reader = BufReader::new(File::open(&path)?);
            let followed = self.events.insert(Followed { reader, inode, partial: Vec::new() });
            followed.read(&mut lines)?;
        }
        Ok(lines)
    }
}

impl Followed {
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

/// What lies in `intents/`, which need not be there. Names that begin with a dot are being written.
fn files(layout: &Layout) -> Vec<PathBuf> {
    let entries = fs::read_dir(layout.intents()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            !name.starts_with(b".") && name.ends_with(b".json")
        })
        .collect();
    files.sort();
    files
}
