//! What a person in front of the machine sees. A console that can't be written to never stops a boot, so errors are let go.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// One line, or several.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    // On a terminal a status line may stand where this begins; blanks cover what is left of it.
    let _ = if out.is_terminal() { writeln!(out, "\r{text:<79}") } else { writeln!(out, "{text}") };
}

/// The sentence with which something ends badly.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "rookery: {text}");
}

/// A line that changes: rewritten in place on a terminal, repeated now and then on everything else.
pub(crate) struct StatusLine {
    rewritten: bool,
    interval: Duration,
    shown: Option<Instant>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        let rewritten = io::stdout().is_terminal();
        let interval = if rewritten { Duration::from_millis(500) } else { Duration::from_secs(5) };
        Self { rewritten, interval, shown: None }
    }

    /// Shows the text if it is time to.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.shown.is_some_and(|shown| shown.elapsed() < self.interval) {
            return;
        }
        self.shown = Some(Instant::now());
        let mut out = io::stdout().lock();
        let text = text();
        // Blanks to the end of an 80 column line cover a longer text from before.
        let _ = if self.rewritten { write!(out, "\r{text:<79}") } else { writeln!(out, "{text}") };
        let _ = out.flush();
    }

    /// Ends the line, so that what is said next stands on its own.
    pub(crate) fn finish(&mut self) {
        if self.rewritten && self.shown.take().is_some() {
            let _ = writeln!(io::stdout().lock());
        }
    }
}

/// Bytes as people read them: `12 kB`, `3.4 MB`. Powers of ten, as network rates and disk sizes are given in.
pub(crate) fn bytes(count: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) if count < 10 * unit => format!("{:.1} {name}", count as f64 / *unit as f64),
        Some((unit, name)) => format!("{} {name}", count / unit),
        None => format!("{count} B"),
    }
}

/// A span as people read it: `8 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (45_009_815, "45 MB"), (1_250_000_000, "1.2 GB")];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
        for (seconds, expected) in [(0, "0 s"), (59, "59 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
