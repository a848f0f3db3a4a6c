//! Bounds on what strangers can make the service hold.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts the transfers in progress, in all and by client address.
#[derive(Debug)]
pub(crate) struct Admissions {
    most: usize,
    most_per_client: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<Ipv4Addr, usize>,
}

/// One transfer's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    admissions: Arc<Admissions>,
    client: Ipv4Addr,
}

impl Admissions {
    pub(crate) fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_client, taken: Mutex::default() })
    }

    /// A place for one more transfer of `client`; `None` if all are taken.
    pub(crate) fn admit(self: &Arc<Self>, client: Ipv4Addr) -> Option<Admission> {
        let mut taken = self.taken();
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        if taken.total >= self.most || own >= self.most_per_client {
            return None;
        }
        taken.total += 1;
        taken.by_client.insert(client, own + 1);
        Some(Admission { admissions: Arc::clone(self), client })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Both fields change together or not at all; nothing in between can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut taken = self.admissions.taken();
        taken.total -= 1;
        let own = taken.by_client.get(&self.client).copied().unwrap_or_default();
        if own > 1 {
            taken.by_client.insert(self.client, own - 1);
        } else {
            taken.by_client.remove(&self.client);
        }
    }
}

/// Limits the ERROR packets, which anybody can provoke in anybody's name.
#[derive(Debug)]
pub(crate) struct ErrorBudget {
    left: Mutex<(u32, Instant)>,
}

impl ErrorBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: Mutex::new((ERRORS_PER_SECOND, now)) }
    }

    /// Whether one more ERROR may be sent.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(left.1) >= Duration::from_secs(1) {
            *left = (ERRORS_PER_SECOND, now);
        }
        left.0 = match left.0 {
            0 => return false,
            some => some - 1,
        };
        true
    }
}

/// A room of 200 pxelinux clients looks for ten files each before it finds its menu.
const ERRORS_PER_SECOND: u32 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let admissions = Admissions::new(3, 2);
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let first = admissions.admit(a).unwrap();
        let _second = admissions.admit(a).unwrap();
        assert!(admissions.admit(a).is_none(), "per client");
        let third = admissions.admit(b).unwrap();
        assert!(admissions.admit(b).is_none(), "in all");
        drop((first, third));
        let _again = (admissions.admit(a).unwrap(), admissions.admit(b).unwrap());
        assert_eq!(admissions.taken().by_client.len(), 2);
    }

    #[test]
    fn nothing_is_kept_of_clients_that_left() {
        let admissions = Admissions::new(1, 1);
        for last in 0..=255 {
            drop(admissions.admit(Ipv4Addr::new(10, 0, 0, last)).unwrap());
        }
        assert!(admissions.taken().by_client.is_empty());
    }

    #[test]
    fn errors_have_a_budget_for_each_second() {
        let start = Instant::now();
        let budget = ErrorBudget::new(start);
        let sent = (0..5000).filter(|_| budget.take(start)).count();
        assert_eq!(sent, 2000);
        assert!(!budget.take(start + Duration::from_millis(999)));
        assert!(budget.take(start + Duration::from_secs(1)));
    }
}
