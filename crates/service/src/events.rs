use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tracing::warn;

/// Bytes of one file of events, about 50,000 lines.
const FILE_MAX: u64 = 8 * 1024 * 1024;
/// Full files that are kept. Whoever floods the LAN can't fill the disk with events.
const KEPT: u32 = 7;

/// Appends to `events/<service>/events.jsonl`, one JSON line per thing that happened to a client.
///
/// A full file becomes `events.1.jsonl`, older ones move on, the oldest goes. Events are no promises: they are not synced, and one that
/// can't be written is lost with one warning, since a full disk must not stop a boot.
#[derive(Debug)]
pub struct EventWriter {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<(File, u64)>,
    failing: bool,
}

impl EventWriter {
    /// A writer to this directory, which is made if it is not there. Nothing is opened before the first event.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), state: Mutex::default() }
    }

    /// Appends one event.
    pub fn write(&self, event: &impl Serialize) {
        self.write_all([event]);
    }

    /// Appends events, by one write for all of them: each costs a trip to the file system otherwise.
    pub fn write_all<'a, E: Serialize + 'a>(&self, events: impl IntoIterator<Item = &'a E>) {
        let mut lines = Vec::new();
        for event in events {
            let before = lines.len();
            match serde_json::to_writer(&mut lines, event) {
                Ok(()) => lines.push(b'\n'),
                Err(error) => {
                    lines.truncate(before);
                    warn!(%error, "an event has no JSON form");
                }
            }
        }
        if lines.is_empty() {
            return;
        }
        // A thread that panicked while it held the lock left at worst a file to be opened again.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.append(&self.directory, &lines) {
            Ok(()) => state.failing = false,
            Err(error) => {
                state.file = None;
                if !std::mem::replace(&mut state.failing, true) {
                    warn!(%error, directory = %self.directory.display(), "events are being lost");
                }
            }
        }
    }
}

impl State {
    fn append(&mut self, directory: &Path, lines: &[u8]) -> io::Result<()> {
        let full = |(_, size): &(File, u64)| *size + lines.len() as u64 > FILE_MAX;
        if self.file.as_ref().is_some_and(full) {
            self.file = None;
            rotate(directory)?;
        }
        let (file, size) = match &mut self.file {
            Some(open) => open,
            None => self.file.insert(open(directory)?),
        };
        // One write: a reader never sees half of a line between two others.
        if let Err(error) = file.write_all(lines) {
            // A disk that fills up takes the beginning of a line: without cutting it off, the next one would be spoiled too. If that
            // fails as well, the file is opened anew before the next line.
            let _ = file.set_len(*size);
            return Err(error);
        }
        *size += lines.len() as u64;
        Ok(())
    }
}

fn open(directory: &Path) -> io::Result<(File, u64)> {
    fs::create_dir_all(directory)?;
    let file = OpenOptions::new().create(true).append(true).open(directory.join("events.jsonl"))?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn rotate(directory: &Path) -> io::Result<()> {
    let numbered = |n: u32| match n {
        0 => directory.join("events.jsonl"),
        n => directory.join(format!("events.{n}.jsonl")),
    };
    for n in (0..KEPT).rev() {
        match fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_to_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let nothing: [&str; 0] = [];
        EventWriter::new(directory.path().join("dhcpd")).write(&"hello");
        EventWriter::new(directory.path().join("dhcpd")).write_all(&nothing);
        EventWriter::new(directory.path().join("dhcpd")).write_all(&["hello", "world"]);
        let written = fs::read_to_string(directory.path().join("dhcpd/events.jsonl")).unwrap();
        assert_eq!(written, "\"hello\"\n\"hello\"\n\"world\"\n");
    }

    #[test]
    fn a_flood_is_bounded_and_keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let writer = EventWriter::new(directory.path());
        let text = "x".repeat(1024 * 1024 - 20);
        for n in 0..100 {
            writer.write(&format!("{n:03} {text}"));
        }
        let sizes: Vec<u64> =
            fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len() as u32, KEPT + 1);
        assert!(sizes.iter().all(|size| *size <= FILE_MAX));
        let newest = fs::read_to_string(directory.path().join("events.jsonl")).unwrap();
        assert!(newest.lines().last().unwrap().starts_with("\"099"));
    }

    #[test]
    fn a_full_disk_leaves_no_half_line() {
        // A file that may not grow beyond so many bytes is a full disk for whoever writes to it; in a process of its own, since the
        // limit is the process's.
        let directory = tempfile::tempdir().unwrap();
        let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" --ignored --exact events::tests::one_line_too_long";
        let output = std::process::Command::new("bash")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("EVENTS", directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        let written = fs::read_to_string(directory.path().join("events.jsonl")).unwrap();
        assert_eq!(written, "\"first\"\n\"last\"\n");
    }

    #[test]
    #[ignore = "the child of the test above"]
    fn one_line_too_long() {
        let Some(directory) = std::env::var_os("EVENTS") else { return };
        let writer = EventWriter::new(directory);
        writer.write(&"first");
        writer.write(&"x".repeat(2000));
        writer.write(&"last");
    }

    #[test]
    fn a_directory_that_cannot_be_written_loses_events_and_nothing_else() {
        let writer = EventWriter::new("/proc/nonexistent/events");
        writer.write(&1);
        writer.write(&2);
    }
}
