//! How far a fetch is, as a person and the server see it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use boot_model::report::Progress;

use crate::{
    console::{self, StatusLine},
    report::Reporter,
};

/// Shows and reports progress, each in its own time.
pub(super) struct Display<'a> {
    reporter: &'a Reporter,
    status: StatusLine,
    rate: Rate,
    reported: Option<(Instant, u64)>,
}

/// Bytes over the last seconds.
struct Rate(VecDeque<(Instant, u64)>);

const RATE_WINDOW: Duration = Duration::from_secs(10);
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
const REPORT_PERCENT: u64 = 5;

impl<'a> Display<'a> {
    pub(super) fn new(reporter: &'a Reporter) -> Self {
        Self { reporter, status: StatusLine::new(), rate: Rate(VecDeque::new()), reported: None }
    }

    /// Shows and reports what there is to show, if it is time: `instead` of the progress, where there is something.
    pub(super) fn tick(&mut self, progress: Progress, instead: impl FnOnce() -> Option<String>) {
        self.rate.add(Instant::now(), progress.bytes);
        let rate = &self.rate;
        self.status.show(|| instead().unwrap_or_else(|| describe(progress, rate.per_second())));
        let percent = progress.bytes.saturating_mul(100) / progress.total_bytes.max(1);
        let due = match self.reported {
            None => progress.total_bytes > 0,
            Some((at, reported)) => at.elapsed() >= REPORT_INTERVAL && percent >= reported + REPORT_PERCENT,
        };
        if due {
            self.reported = Some((Instant::now(), percent));
            self.reporter.progress(progress);
        }
    }

    /// Ends the line on the console.
    pub(super) fn finish(&mut self) {
        self.status.finish();
    }
}

impl Rate {
    fn add(&mut self, now: Instant, bytes: u64) {
        self.0.push_back((now, bytes));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            self.0.pop_front();
        }
    }

    fn per_second(&self) -> u64 {
        let (Some((from, less)), Some((to, more))) = (self.0.front(), self.0.back()) else { return 0 };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds < 0.1 { 0 } else { (more.saturating_sub(*less) as f64 / seconds) as u64 }
    }
}

/// What is shown while the server serves other clients first.
pub(super) fn queued(progress: Progress) -> String {
    let (bytes, total) = (console::bytes(progress.bytes), console::bytes(progress.total_bytes));
    format!("rookery: waiting for its turn, others are served first; {bytes} of {total}")
}

fn describe(progress: Progress, per_second: u64) -> String {
    let left = progress.total_bytes.saturating_sub(progress.bytes);
    let time = match left.checked_div(per_second) {
        Some(seconds) => format!(", {} left", console::span(Duration::from_secs(seconds))),
        None => String::new(),
    };
    format!(
        "rookery: {} of {} paths, {} of {}, {}/s{time}",
        progress.paths,
        progress.total_paths,
        console::bytes(progress.bytes),
        console::bytes(progress.total_bytes),
        console::bytes(per_second),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_people() {
        let progress = Progress { paths: 3, total_paths: 31, bytes: 5_000_000, total_bytes: 45_000_000 };
        assert_eq!(describe(progress, 4_000_000), "rookery: 3 of 31 paths, 5.0 MB of 45 MB, 4.0 MB/s, 10 s left");
    }
}
