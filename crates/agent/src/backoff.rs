//! Waiting between attempts: exponential with full jitter, so that thirty clients that lost the server together do not come
//! back together.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// Even the luckiest draw waits so long: a server that refuses at once must not be hammered.
const SHORTEST: Duration = Duration::from_millis(100);

/// The state of one series of attempts.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How long to wait before the next attempt: uniform between nothing and a bound that doubles each time. `random` is
    /// any 64 random bits.
    pub(crate) fn next_delay(&mut self, random: u64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts += 1;
        bound.mul_f64(random as f64 / u64::MAX as f64).max(SHORTEST)
    }

    /// Something went forward: begin with short waits again.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// 64 random bits for spreading clients out and telling boots apart; no secret may depend on them. Taken from the standard
/// library because it never waits for the kernel's entropy: a processor without RDRAND has none in an initrd, and a static
/// program that asks in the usual ways would wait for ever.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    // Two machines started from one image may have the same entropy at first, but not the same clock.
    hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..8).map(|_| backoff.next_delay(u64::MAX).as_millis()).collect();
        assert_eq!(longest, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
        assert_eq!(backoff.next_delay(0), SHORTEST);
        backoff.reset();
        assert_eq!(backoff.next_delay(u64::MAX / 2).as_millis(), 250);
    }
}
