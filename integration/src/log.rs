//! One log for everything that happens in a lab, on one monotonic clock.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::{Error, Result, interrupt};

/// The merged log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    start_of_day: SystemTime,
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    sources: HashMap<String, Source>,
    file: BufWriter<File>,
}

#[derive(Debug, Default)]
struct Source {
    /// The line that this source has begun and not ended, and since when it reads like this.
    partial: String,
    partial_at: Duration,
    ended: bool,
}

/// One line that somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the log was opened.
    pub at: Duration,
    /// Who: `lab`, a server, a client.
    pub source: String,
    /// What, without line end.
    pub text: String,
}

/// A place in the log: what came after it has an equal or higher place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(usize);

/// What to wait for, see [`Log::wait`].
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    /// For messages: "the login prompt".
    pub what: &'a str,
    /// Whose lines count.
    pub source: &'a str,
    /// Lines before this place don't count.
    pub since: Place,
    /// How long to wait, from now.
    pub within: Duration,
    /// Parts of lines after which waiting is vain.
    pub fatal: &'a [&'a str],
}

impl Log {
    /// Opens an empty log that is also written to `path`. Its clock starts now.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(format!("creating the log {}", path.display())))?;
        let state = State { lines: Vec::new(), sources: HashMap::new(), file: BufWriter::new(file) };
        Ok(Self(Arc::new(Shared {
            start: Instant::now(),
            start_of_day: SystemTime::now(),
            path: path.to_owned(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })))
    }

    /// The file that holds the whole log.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Time since the log was opened.
    pub fn elapsed(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// The log's time of a moment that another process wrote, in milliseconds since 1970 (zero if before the start).
    pub fn at_unix_millis(&self, millis: u64) -> Duration {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        time.duration_since(self.0.start_of_day).unwrap_or_default()
    }

    /// Fails if a source has printed one of these since a place, or has ended.
    pub fn check(&self, awaited: &Awaited<'_>) -> Result<()> {
        match self.wait(&Awaited { within: Duration::ZERO, ..*awaited }, |_| false) {
            Err(Error::Deadline { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// The end of the log now.
    pub fn place(&self) -> Place {
        Place(self.lock().lines.len())
    }

    /// Adds a complete line.
    pub fn note(&self, source: &str, text: impl Into<String>) {
        let line = Line { at: self.elapsed(), source: source.to_owned(), text: text.into() };
        let mut state = self.lock();
        // The log is an aid: that its disk is full must not end a test that goes well.
        let _ = writeln!(state.file, "{line}").and_then(|()| state.file.flush());
        state.lines.push(line);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Says what a source has written of its next line so far.
    pub fn note_partial(&self, source: &str, text: String) {
        let at = self.elapsed();
        let mut state = self.lock();
        let source = state.sources.entry(source.to_owned()).or_default();
        if source.partial != text {
            (source.partial, source.partial_at) = (text, at);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Says that nothing more comes from a source.
    pub fn note_end(&self, source: &str) {
        self.lock().sources.entry(source.to_owned()).or_default().ended = true;
        self.0.changed.notify_all();
    }

    /// Forgets that a source of this name has ended: a program of that name starts again.
    pub fn note_start(&self, source: &str) {
        self.lock().sources.insert(source.to_owned(), Source::default());
    }

    /// All lines since a place, and those that have begun: a prompt never ends its line.
    pub fn since(&self, place: Place) -> Vec<Line> {
        let state = self.lock();
        let begun = state.sources.iter().filter(|(_, source)| !source.partial.is_empty());
        let begun = begun.map(|(name, source)| Line {
            at: source.partial_at,
            source: name.clone(),
            text: source.partial.clone(),
        });
        state.lines[place.0..].iter().cloned().chain(begun).collect()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> Vec<Line> {
        let state = self.lock();
        state.lines[state.lines.len().saturating_sub(count)..].to_vec()
    }

    /// Waits for a line, ended or only begun (a prompt), that `matches`.
    pub fn wait(&self, awaited: &Awaited<'_>, matches: impl Fn(&str) -> bool) -> Result<Line> {
        let deadline = Instant::now() + awaited.within;
        let what = || awaited.what.to_owned();
        let origin = || awaited.source.to_owned();
        let mut next = awaited.since.0;
        let mut state = self.lock();
        loop {
            for line in &state.lines[next..] {
                if line.source != awaited.source {
                    continue;
                }
                if matches(&line.text) {
                    return Ok(line.clone());
                }
                if awaited.fatal.iter().any(|part| line.text.contains(part)) {
                    return Err(Error::Fatal { what: what(), origin: origin(), line: line.text.clone() });
                }
            }
            next = state.lines.len();
            if let Some(source) = state.sources.get(awaited.source) {
                if matches(&source.partial) {
                    return Ok(Line { at: self.elapsed(), source: origin(), text: source.partial.clone() });
                }
                if source.ended {
                    return Err(Error::Ended { what: what(), origin: origin() });
                }
            }
            interrupt::check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Deadline { what: what(), origin: origin(), seconds: awaited.within.as_secs_f64() });
            }
            let waited = self.0.changed.wait_timeout(state, left.min(interrupt::INTERVAL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole lines: the log of a failed test is the one that is needed most.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} {:<14} {}", self.at.as_secs_f64(), self.source, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(&dir.path().join("log")).unwrap();
        (dir, log)
    }

    fn awaited(since: Place) -> Awaited<'static> {
        Awaited { what: "it", source: "client", since, within: Duration::ZERO, fatal: &["panic"] }
    }

    #[test]
    fn finds_only_its_source_after_its_place() {
        let (_dir, log) = log();
        log.note("client", "ready 1");
        let place = log.place();
        log.note("server", "ready 2");
        assert!(matches!(log.wait(&awaited(place), |t| t.contains("ready")), Err(Error::Deadline { .. })));
        log.note("client", "ready 3");
        assert_eq!(log.wait(&awaited(place), |t| t.contains("ready")).unwrap().text, "ready 3");
    }

    #[test]
    fn a_prompt_counts_before_its_line_ends() {
        let (_dir, log) = log();
        log.note_partial("client", "lab login: ".into());
        assert_eq!(log.wait(&awaited(log.place()), |t| t.ends_with("login: ")).unwrap().text, "lab login: ");
    }

    #[test]
    fn fatal_lines_and_ends_stop_the_wait() {
        let (_dir, log) = log();
        let place = log.place();
        log.note("client", "Kernel panic");
        assert!(matches!(log.wait(&awaited(place), |t| t == "x"), Err(Error::Fatal { .. })));
        log.note_end("client");
        assert!(matches!(log.wait(&awaited(log.place()), |t| t == "x"), Err(Error::Ended { .. })));
        log.note_start("client");
        assert!(matches!(log.wait(&awaited(log.place()), |t| t == "x"), Err(Error::Deadline { .. })));
    }
}
