use std::time::Duration;

use super::{Context, Group, Tally};
use crate::{Error, Result};

/// One line of the table at the end.
pub(super) struct Row<'a> {
    pub(super) group: &'a Group,
    pub(super) tally: Tally,
    pub(super) took: Duration,
}

/// How much of a failed test's log is shown at once.
const TAIL: usize = 40;

pub(super) fn list(groups: &[Group]) {
    for group in groups {
        let when = if group.everyday { "" } else { " (with --all, or by name)" };
        println!("{:<10} {:>3} min  {}{when}", group.name, group.budget.as_secs() / 60, group.about);
    }
}

pub(super) fn group(group: &Group) {
    println!("{}: {}", group.name, group.about);
}

/// Prints one test's line, and after a failure what is known about it. Returns what it counts.
pub(super) fn test(context: &Context<'_>, result: &Result<Tally>, took: Duration) -> Tally {
    let seconds = took.as_secs_f64();
    let (tally, word) = match result {
        Ok(tally) if tally.failed == 0 => (*tally, "ok"),
        Ok(tally) => (*tally, "FAILED"),
        Err(_) => (Tally { passed: 0, failed: 1 }, "FAILED"),
    };
    let count = if tally.passed + tally.failed > 1 {
        format!(" ({} tests)", tally.passed + tally.failed)
    } else {
        String::new()
    };
    println!("  {word:<6} {seconds:>7.1} s  {}{count}", context.name);
    if word == "ok" {
        return tally;
    }
    let log = context.log();
    if let Ok(text) = std::fs::read(&log) {
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            println!("      | {line}");
        }
        println!("      the whole log: {}", log.display());
    }
    if let Err(error) = result {
        println!("      {error}");
    }
    tally
}

/// Says that a test's machine starts over, and why.
pub(super) fn started_over(context: &Context<'_>, error: &Error) {
    println!("  again             {}: {error}", context.name);
}

/// Prints the table and returns its sum.
pub(super) fn table(rows: &[Row<'_>]) -> Tally {
    let mut sum = Tally::default();
    println!("\n{:<10} {:>6} {:>6} {:>9} {:>9}  result", "group", "passed", "failed", "seconds", "budget");
    for row in rows {
        let result = match (row.tally.failed, row.took > row.group.budget) {
            (0, false) => "ok",
            (0, true) => "ok, over its budget",
            _ => "FAILED",
        };
        println!(
            "{:<10} {:>6} {:>6} {:>9.1} {:>9}  {result}",
            row.group.name,
            row.tally.passed,
            row.tally.failed,
            row.took.as_secs_f64(),
            row.group.budget.as_secs()
        );
        sum += row.tally;
    }
    println!();
    sum
}

pub(super) fn seed(seed: u64) {
    println!("the same again: --seed {seed}");
}

/// The sum, in the form that machines look for. Nothing is printed after it.
pub(super) fn last_line(tally: Tally) {
    println!("{} passed, {} failed", tally.passed, tally.failed);
}
