//! Bounds on what strangers can make the service hold.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Counts the transfers in progress, in all and by client address.
///
/// Who has not answered yet may be a forged source. Such a transfer holds its place only until another wants it: the
/// oldest of them makes room, so requests in other people's names shut nobody out for longer than a round trip.
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
    /// Those whose client has not answered, the oldest first.
    unproven: VecDeque<Arc<Place>>,
}

/// One transfer's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    admissions: Arc<Admissions>,
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    client: Ipv4Addr,
    proven: AtomicBool,
    lost: AtomicBool,
    evicted: Notify,
}

/// Whose oldest unproven transfer makes room.
#[derive(Clone, Copy)]
enum Crowd {
    Client(Ipv4Addr),
    Network(Ipv4Addr),
    All,
}

impl Admissions {
    pub(crate) fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_client, taken: Mutex::default() })
    }

    /// A place for one more transfer of `client`; `None` if all are taken by clients that have answered.
    pub(crate) fn admit(self: &Arc<Self>, client: Ipv4Addr) -> Option<Admission> {
        let mut taken = self.taken();
        while let Some(crowd) = self.too_many(&taken, client) {
            taken.evict(crowd)?;
        }
        taken.total += 1;
        *taken.by_client.entry(client).or_default() += 1;
        let (proven, lost) = (AtomicBool::new(false), AtomicBool::new(false));
        let place = Arc::new(Place { client, proven, lost, evicted: Notify::new() });
        taken.unproven.push_back(Arc::clone(&place));
        drop(taken);
        Some(Admission { admissions: Arc::clone(self), place })
    }

    /// Which bound one more transfer of `client` would break.
    fn too_many(&self, taken: &Taken, client: Ipv4Addr) -> Option<Crowd> {
        if taken.by_client.get(&client).is_some_and(|&own| own >= self.most_per_client) {
            return Some(Crowd::Client(client));
        }
        if taken.total >= self.most {
            return Some(Crowd::All);
        }
        let network = Crowd::Network(client);
        let neighbours = taken.unproven.iter().filter(|place| network.holds(place)).count();
        (neighbours >= MOST_UNPROVEN_OF_A_NETWORK).then_some(network)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // All fields change together or not at all; nothing in between can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Takes away the oldest unproven place of these; `None` if there is none.
    fn evict(&mut self, crowd: Crowd) -> Option<()> {
        let oldest = self.unproven.iter().position(|place| crowd.holds(place))?;
        let place = self.unproven.remove(oldest)?;
        self.give_back(&place);
        place.evicted.notify_one();
        Some(())
    }

    /// The place is free from here on; the second time nothing happens.
    fn give_back(&mut self, place: &Place) {
        if place.lost.swap(true, Ordering::Relaxed) {
            return;
        }
        self.total -= 1;
        match self.by_client.get_mut(&place.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(self.by_client.remove(&place.client)),
        }
    }
}

impl Crowd {
    fn holds(self, place: &Place) -> bool {
        match self {
            Self::Client(client) => place.client == client,
            Self::Network(client) => place.client.octets()[..3] == client.octets()[..3],
            Self::All => true,
        }
    }
}

impl Admission {
    /// The client has answered: it exists, and keeps its place.
    pub(crate) fn prove(&self) {
        if self.place.proven.swap(true, Ordering::Relaxed) {
            return;
        }
        self.admissions.taken().unproven.retain(|place| !Arc::ptr_eq(place, &self.place));
    }

    /// Returns when the place has been given to somebody else.
    pub(crate) async fn evicted(&self) {
        self.place.evicted.notified().await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.prove();
        self.admissions.taken().give_back(&self.place);
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

/// A whole /24 that is switched on at once. Clients answer within milliseconds; a flood is not slowed down by waiting.
const MOST_UNPROVEN_OF_A_NETWORK: usize = 256;
/// A room of 200 pxelinux clients looks for ten files each before it finds its menu.
const ERRORS_PER_SECOND: u32 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let admissions = Admissions::new(3, 2);
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let admit = |client| admissions.admit(client).inspect(Admission::prove);
        let first = admit(a).unwrap();
        let _second = admit(a).unwrap();
        assert!(admissions.admit(a).is_none(), "per client");
        let third = admit(b).unwrap();
        assert!(admissions.admit(b).is_none(), "in all");
        drop((first, third));
        let _again = (admissions.admit(a).unwrap(), admissions.admit(b).unwrap());
        assert_eq!(admissions.taken().by_client.len(), 2);
    }

    /// Requests in the name of one client, of one network, of anybody.
    #[test]
    fn the_oldest_that_never_answered_makes_room() {
        let of = |third, last| Ipv4Addr::new(10, 0, third, last);
        let full = [
            (Admissions::new(1000, 8), vec![of(1, 1); 8]),
            (Admissions::new(1000, 8), [0].into_iter().chain(0..=255).map(|last| of(1, last)).collect()),
            (Admissions::new(100, 8), (0..100).map(|third| of(third, 1)).collect()),
        ];
        for (admissions, clients) in full {
            let mut held: Vec<Admission> = Vec::new();
            for client in clients {
                held.push(admissions.admit(client).unwrap());
                held[0].prove();
            }
            let _one_more = admissions.admit(of(1, 1)).unwrap();
            let lost = |admission: &Admission| admission.place.lost.load(Ordering::Relaxed);
            assert!(!lost(&held[0]) && lost(&held[1]) && !lost(&held[2]));
            let total = admissions.taken().total;
            drop(held);
            assert_eq!((total > 1, admissions.taken().total), (true, 1), "what was evicted is not given back twice");
        }
    }

    #[test]
    fn nothing_is_kept_of_clients_that_left() {
        let admissions = Admissions::new(1, 1);
        for last in 0..=255 {
            drop(admissions.admit(Ipv4Addr::new(10, 0, 0, last)).unwrap());
        }
        assert!(admissions.taken().by_client.is_empty() && admissions.taken().unproven.is_empty());
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
