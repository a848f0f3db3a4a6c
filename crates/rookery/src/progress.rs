use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use publish::Event;

use crate::output::{bytes, say};

/// How often the line is drawn again: often enough to look alive.
const INTERVAL: Duration = Duration::from_millis(100);
const WIDTH: usize = 24;

/// A line on standard error that says how far packing is, or making bundles; silent where that is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    doing: &'static str,
    total: u64,
    done: u64,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        Self { shown: !json && io::stderr().is_terminal(), state: Mutex::new(State::begin("packing", 0)) }
    }

    pub(crate) fn hear(&self, event: Event<'_>) {
        hear_waiting(event);
        if !self.shown {
            return;
        }
        let mut state = self.state.lock().expect("nothing panics while it draws");
        match event {
            Event::Packing { bytes, .. } => *state = State::begin("packing", bytes),
            Event::Bundling { bytes, .. } => *state = State::begin("bundle ", bytes),
            Event::Packed { bytes } | Event::Bundled { bytes } => {
                state.done += bytes;
                state.draw();
            }
            Event::Waiting | Event::Collected(_) | Event::Persisted(_) => {}
        }
    }

    /// Clears the line.
    pub(crate) fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// Says why nothing happens.
pub(crate) fn hear_waiting(event: Event<'_>) {
    if event == Event::Waiting {
        say("rookery: another process is publishing; waiting for it to finish");
    }
}

impl State {
    fn begin(doing: &'static str, total: u64) -> Self {
        Self { doing, total, done: 0, begun: Instant::now(), drawn: None }
    }

    fn draw(&mut self) {
        if self.total == 0 || self.drawn.is_some_and(|drawn| drawn.elapsed() < INTERVAL) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut stderr = io::stderr().lock();
        // A terminal that went away must not end the publishing.
        let _ = write!(stderr, "\r\x1b[K{}", line(self.doing, self.done, self.total, self.begun.elapsed()));
        let _ = stderr.flush();
    }
}

fn line(doing: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let share = (done as f64 / total as f64).min(1.0);
    let filled = (share * WIDTH as f64) as usize;
    let bar: String = (0..WIDTH).map(|cell| if cell < filled { '#' } else { '.' }).collect();
    let left = elapsed.as_secs_f64() * (1.0 - share) / share.max(f64::MIN_POSITIVE);
    let percent = share * 100.0;
    format!("{doing} [{bar}] {percent:3.0} %  {} of {}  {left:.0} s left", bytes(done), bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress() {
        let quarter = line("packing", 250_000_000, 1_000_000_000, Duration::from_secs(2));
        assert_eq!(quarter, "packing [######..................]  25 %  250.0 MB of 1.0 GB  6 s left");
        assert!(line("packing", 0, 10, Duration::ZERO).contains("  0 %"));
        assert!(line("packing", 11, 10, Duration::ZERO).contains("100 %"));
    }
}
