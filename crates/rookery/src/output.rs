use std::io::{self, Write as _};

use serde_json::Value;
use service::Failure;

/// How a verb answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Answers with `text`, or with `json` where that was asked for.
    pub(crate) fn answer(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<(), Failure> {
        let mut answer = if self.json { format!("{:#}", json()) } else { text() };
        if !answer.is_empty() && !answer.ends_with('\n') {
            answer.push('\n');
        }
        print(&answer)
    }

    /// One line of many, as they come.
    pub(crate) fn line(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<(), Failure> {
        let line = if self.json { json().to_string() } else { text() };
        print(&format!("{line}\n"))
    }
}

/// A line on standard error, for people. A terminal or a journal that went away is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough (`rookery list | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Bytes for people: `812 B`, `4.1 MB`, `1.3 GB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (783_000_000, "783.0 MB"),
            (1_300_000_000, "1.3 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
