//! How often an address may do something that leaves a trace.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts per address within windows of ten seconds. The table is bounded.
#[derive(Debug)]
pub(crate) struct Rate {
    most: u32,
    windows: Mutex<HashMap<Ipv4Addr, (Instant, u32)>>,
}

impl Rate {
    /// Allows `most` times in ten seconds.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, windows: Mutex::default() }
    }

    /// Whether the address may once more.
    pub(crate) fn allows(&self, address: Ipv4Addr, now: Instant) -> bool {
        // Nothing in between can panic.
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |began: Instant| now.saturating_duration_since(began) >= WINDOW;
        if windows.len() >= ADDRESSES && !windows.contains_key(&address) {
            windows.retain(|_, (began, _)| !over(*began));
            if windows.len() >= ADDRESSES {
                return false;
            }
        }
        let window = windows.entry(address).or_insert((now, 0));
        if over(window.0) {
            *window = (now, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 <= self.most
    }
}

const WINDOW: Duration = Duration::from_secs(10);

/// More than a room has. Beyond them newcomers wait until a window ends.
const ADDRESSES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_a_new_one_each_window() {
        let (rate, start) = (Rate::new(2), Instant::now());
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let allowed = |address, seconds| rate.allows(address, start + Duration::from_secs(seconds));
        assert_eq!([allowed(a, 0), allowed(a, 1), allowed(a, 9)], [true, true, false]);
        assert!(allowed(b, 9));
        assert_eq!([allowed(a, 10), allowed(a, 10), allowed(a, 10)], [true, true, false]);
    }

    #[test]
    fn the_table_is_bounded_and_empties_itself() {
        let (rate, start) = (Rate::new(1), Instant::now());
        let address = |n: usize| Ipv4Addr::from_bits(n as u32);
        assert!((0..ADDRESSES).all(|n| rate.allows(address(n), start)));
        assert!(!rate.allows(address(ADDRESSES), start));
        assert!(rate.allows(address(ADDRESSES), start + WINDOW));
        assert_eq!(rate.windows.lock().unwrap().len(), 1);
    }
}
