//! What a program costs: time, processor and memory.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use super::percentile;
use crate::process::Process;
use crate::{Error, Result, interrupt};

/// What one run of a program cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// From before its start to its end.
    pub(super) seconds: f64,
    /// Of processors, its children's included.
    pub(super) cpu_seconds: f64,
    /// The most that it held, in MB.
    pub(super) memory: f64,
}

/// How often a running program is looked at: what it does in its last moment before that is not seen.
const LOOK: Duration = Duration::from_millis(2);

impl Cost {
    /// Of a program to its end, which must be a success.
    pub(super) fn of(name: &str, start: impl FnOnce() -> Result<Process>) -> Result<Self> {
        let begun = Instant::now();
        let mut process = start()?;
        let (mut ticks, mut peak) = (0, 0.0);
        let status = loop {
            let id = process.id();
            ticks = cpu_ticks(id).unwrap_or(ticks);
            peak = peak_memory(id).unwrap_or(peak);
            if let Some(status) = process.exited()? {
                break status;
            }
            interrupt::check()?;
            thread::sleep(LOOK);
        };
        let seconds = begun.elapsed().as_secs_f64();
        if !status.success() {
            return Err(Error::Wrong(format!("{name} ended with {status}; its output is in the log")));
        }
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Ok(Self { seconds, cpu_seconds: ticks as f64 / per_second as f64, memory: peak })
    }

    /// This, and what came after it.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            seconds: self.seconds + next.seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            memory: self.memory.max(next.memory),
        }
    }

    /// The median of each figure.
    pub(super) fn median(costs: &[Self]) -> Self {
        let median = |pick: fn(&Self) -> f64| percentile(&costs.iter().map(pick).collect::<Vec<_>>(), 50);
        Self {
            seconds: median(|cost| cost.seconds),
            cpu_seconds: median(|cost| cost.cpu_seconds),
            memory: median(|cost| cost.memory),
        }
    }
}

/// User and system time of a process and of the children that it has waited for (proc(5): fields 14 to 17).
fn cpu_ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

fn peak_memory(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kib: f64 =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
