//! The services' events, as they stand on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boot_model::event::Event;

use crate::{Error, Result};

/// How far each file of events had come at some moment.
#[derive(Debug, Clone, Default)]
pub struct Mark(BTreeMap<PathBuf, usize>);

pub(super) fn mark(events: &Path) -> Result<Mark> {
    let files = read(events)?;
    Ok(Mark(files.into_iter().map(|(path, text)| (path, text.len())).collect()))
}

pub(super) fn since(events: &Path, mark: &Mark) -> Result<Vec<Event>> {
    let mut found = Vec::new();
    for (path, text) in read(events)? {
        let seen = mark.0.get(&path).copied().unwrap_or(0);
        for line in text[seen..].lines() {
            let event = serde_json::from_str::<Event>(line)
                .map_err(|error| Error::Wrong(format!("{}: {error} in {line}", path.display())))?;
            found.push(event);
        }
    }
    found.sort_by_key(|event| event.time);
    Ok(found)
}

/// Every `events/<service>/<file>` up to its last whole line: the writer may be in the middle of the next one.
fn read(events: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let doing = || format!("reading {}", events.display());
    let mut files = BTreeMap::new();
    for service in list(events).map_err(Error::io(doing()))? {
        for file in list(&service).map_err(Error::io(doing()))? {
            let mut text = fs::read_to_string(&file).map_err(Error::io(doing()))?;
            text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
            files.insert(file, text);
        }
    }
    Ok(files)
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"time":"2026-11-23T02:35:07.250Z","event":"dhcp","message":"ACK","reason":"selecting"}"#;

    #[test]
    fn only_whole_lines_after_the_mark_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dhcpd/today.jsonl");
        fs::create_dir(dir.path().join("dhcpd")).unwrap();
        fs::write(&file, format!("{LINE}\n")).unwrap();
        let before = mark(dir.path()).unwrap();
        assert_eq!(since(dir.path(), &Mark::default()).unwrap().len(), 1);
        assert_eq!(since(dir.path(), &before).unwrap().len(), 0);
        fs::write(&file, format!("{LINE}\n{LINE}\n{{\"time\":")).unwrap();
        assert_eq!(since(dir.path(), &before).unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tftpd")).unwrap();
        fs::write(dir.path().join("tftpd/x.jsonl"), "{}\n").unwrap();
        assert!(since(dir.path(), &Mark::default()).unwrap_err().to_string().contains("x.jsonl"));
    }
}
