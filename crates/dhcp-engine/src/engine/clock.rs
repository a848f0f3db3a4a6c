/// The time, from the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps. All deadlines in memory are by it.
    pub monotonic_ms: u64,
    /// Wall clock: seconds since 1970. Only for what is written to disk.
    pub unix: u64,
}

/// Wall clock and monotonic clock side by side.
#[derive(Debug)]
pub(super) struct Clock {
    /// Wall clock minus monotonic clock when last looked at, in seconds.
    offset: i64,
    /// A time that the wall clock has reached for certain, and when that was noted.
    floor: (u64, u64),
}

/// Added to monotonic times, so that what happened before the machine was started has a time too.
const EPOCH: u64 = 1 << 42;

/// Before 2020 no wall clock is right: a machine without a battery starts in 1970.
const UNSET: u64 = 1_577_836_800;

/// The clocks may drift apart by this much, in seconds, before it counts as a step.
const DRIFT: u64 = 5;

impl Clock {
    pub(super) fn new(now: Now, last_record: u64) -> Self {
        let mut clock = Self { offset: 0, floor: (last_record, now.monotonic_ms) };
        clock.offset = clock.offset_at(now);
        clock
    }

    pub(super) fn ms(&self, now: Now) -> u64 {
        now.monotonic_ms.saturating_add(EPOCH)
    }

    /// Wall clock seconds; while the clock is not set, time goes on from the last record.
    pub(super) fn wall(&self, now: Now) -> u64 {
        let (floor, noted) = self.floor;
        if now.unix < UNSET { floor + now.monotonic_ms.saturating_sub(noted) / 1000 } else { now.unix }
    }

    pub(super) fn was_set(&mut self, now: Now) -> bool {
        let offset = self.offset_at(now);
        let stepped = offset.abs_diff(self.offset) > DRIFT;
        if stepped {
            self.offset = offset;
        }
        stepped
    }

    fn offset_at(&self, now: Now) -> i64 {
        self.wall(now) as i64 - (now.monotonic_ms / 1000) as i64
    }
}
