//! How long to wait for an ACK: RFC 6298, with the bounds of a LAN.

use std::time::Duration;

/// The estimator of one transfer.
#[derive(Clone, Debug)]
pub(crate) struct RoundTrip {
    /// The client's own `timeout`: RFC 2349 fixes the interval.
    fixed: Option<Duration>,
    smoothed: Option<Smoothed>,
    /// Doublings since the last progress.
    backoff: u32,
}

#[derive(Clone, Copy, Debug)]
struct Smoothed {
    mean: Duration,
    variation: Duration,
    /// The fastest answer seen: no answer to a window just sent comes sooner.
    shortest: Duration,
}

impl RoundTrip {
    pub(crate) const fn new(fixed: Option<Duration>) -> Self {
        Self { fixed, smoothed: None, backoff: 0 }
    }

    /// Takes in the time from a send to its answer. Only for what was sent once (Karn's algorithm).
    pub(crate) fn sample(&mut self, took: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => Smoothed { mean: took, variation: took / 2, shortest: took },
            Some(old) => Smoothed {
                mean: (old.mean * 7 + took) / 8,
                variation: (old.variation * 3 + old.mean.abs_diff(took)) / 4,
                shortest: old.shortest.min(took),
            },
        });
    }

    pub(crate) fn progress(&mut self) {
        self.backoff = 0;
    }

    pub(crate) fn timed_out(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// The wait before a resend.
    pub(crate) fn wait(&self) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let base = self.smoothed.map_or(FIRST, |known| (known.mean + known.variation * 4).clamp(SHORTEST, LONGEST));
        base.saturating_mul(1 << self.backoff).min(LONGEST)
    }

    /// Within this time after a window was sent, an ACK can't be an answer to it. Zero while nothing is known.
    pub(crate) fn too_soon(&self) -> Duration {
        self.smoothed.map_or(Duration::ZERO, |known| known.shortest / 2)
    }

    pub(crate) const fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    pub(crate) fn mean(&self) -> Option<Duration> {
        self.smoothed.map(|known| known.mean)
    }
}

const FIRST: Duration = Duration::from_secs(1);
/// Below this a client that writes to a slow flash between two ACKs would be taken for a lost packet.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn waits() {
        let mut round_trip = RoundTrip::new(None);
        assert_eq!(round_trip.wait(), ms(1000), "nothing known");
        round_trip.sample(ms(1));
        assert_eq!(round_trip.wait(), ms(100), "a LAN");
        round_trip.sample(ms(401));
        assert_eq!(round_trip.mean(), Some(ms(51)));
        assert!(round_trip.wait() > ms(400), "{:?}", round_trip.wait());
        for _ in 0..40 {
            round_trip.timed_out();
        }
        assert_eq!(round_trip.wait(), ms(8000), "doubled, within bounds");
        round_trip.progress();
        assert!(round_trip.wait() < ms(1000));
    }

    #[test]
    fn the_clients_own_timeout_stays() {
        let mut round_trip = RoundTrip::new(Some(ms(5000)));
        round_trip.sample(ms(1));
        round_trip.timed_out();
        assert_eq!(round_trip.wait(), ms(5000));
    }
}
