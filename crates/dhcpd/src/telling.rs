use std::time::{Duration, Instant};

/// Which events of what changed no lease are written down: all of them, but in a flood only some.
///
/// Whoever fills the network with messages in invented or borrowed names, which are offered something, refused or told again what
/// they know, must not push out of the files what truly happened. Leases change as often as there are addresses, and are always
/// told.
#[derive(Debug)]
pub(crate) struct Telling {
    /// By when all that was told may have been.
    told_until: Instant,
    left_out: u64,
}

/// One in this time, on average. The files hold some 400,000 lines: a flood takes hours to turn them over.
const EACH: Duration = Duration::from_millis(50);

/// So many at once: a room of 500 that is switched on, with an offer for ROM, loader and system.
const AT_ONCE: u32 = 2000;

impl Telling {
    pub(crate) fn new(now: Instant) -> Self {
        Self { told_until: now, left_out: 0 }
    }

    /// Whether one more is written now.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        let until = self.told_until.max(now) + EACH;
        let admitted = until <= now + EACH * AT_ONCE;
        if admitted {
            self.told_until = until;
        } else {
            self.left_out += 1;
        }
        admitted
    }

    /// How many were left out since this was asked last.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_part() {
        let begun = Instant::now();
        let mut telling = Telling::new(begun);
        let mut told = |milliseconds| telling.admits(begun + Duration::from_millis(milliseconds));
        assert_eq!((0..5000).filter(|_| told(0)).count(), 2000);
        // In the next second twenty, and after a quiet time a room's worth again.
        assert_eq!((1..=1000).filter(|n| told(*n)).count(), 20);
        assert_eq!((0..5000).filter(|_| told(200_000)).count(), 2000);
        assert_eq!((telling.take_left_out(), telling.take_left_out()), (3000 + 980 + 3000, 0));
    }
}
