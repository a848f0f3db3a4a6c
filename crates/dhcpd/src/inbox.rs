use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::port::{Port, Received};

/// Messages that wait to be decided. Full, it drops the oldest: its client is the first to ask again, or has given up.
///
/// Clients that are half way go first. Asked for four times what can be done, first come first served spends most of the time on
/// offers whose requests are then dropped, and finishes half of what it could; but three of four turns are the most they get, so
/// that a flood of REQUESTs keeps nobody from beginning.
#[derive(Debug)]
pub(crate) struct Inbox {
    queues: Mutex<Queues<Request>>,
    filled: Notify,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Queues<T> {
    /// DISCOVERs.
    new: VecDeque<T>,
    /// All others.
    begun: VecDeque<T>,
    turn: u64,
}

/// A request with the port that it came in by and when.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) port: Arc<Port>,
    pub(crate) received: Received,
    pub(crate) arrived: Instant,
}

/// A second's worth of requests at a rate that two cores can answer; more would be late.
const CAPACITY: usize = 8192;

/// One turn in this many is a newcomer's, if one waits.
const NEWCOMERS: u64 = 4;

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { queues: Mutex::new(Queues::new()), filled: Notify::new(), dropped: AtomicU64::new(0) }
    }

    pub(crate) fn push(&self, requests: impl ExactSizeIterator<Item = Request>) {
        if requests.len() == 0 {
            return;
        }
        // The lock is held only here and below, where nothing can panic.
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests {
            let new = is_discover(&request.received.payload);
            if queues.push(request, new).is_some() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(queues);
        // Once for all of them: waking the decider costs more than deciding.
        self.filled.notify_one();
    }

    /// Resolves when there may be something to take.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The oldest message of those whose turn it is.
    pub(crate) fn pop(&self) -> Option<Request> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Makes the next [`Inbox::filled`] resolve at once: its taker left something behind.
    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    pub(crate) fn is_empty(&self) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.new.is_empty() && queues.begun.is_empty()
    }

    /// How many requests were dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl<T> Queues<T> {
    fn new() -> Self {
        Self { new: VecDeque::new(), begun: VecDeque::new(), turn: 0 }
    }

    /// Returns what had to go for it: the oldest of its kind.
    fn push(&mut self, request: T, new: bool) -> Option<T> {
        let queue = if new { &mut self.new } else { &mut self.begun };
        let oldest = if queue.len() >= CAPACITY { queue.pop_front() } else { None };
        queue.push_back(request);
        oldest
    }

    fn pop(&mut self) -> Option<T> {
        self.turn = self.turn.wrapping_add(1);
        match self.turn.is_multiple_of(NEWCOMERS) {
            true => self.new.pop_front().or_else(|| self.begun.pop_front()),
            false => self.begun.pop_front().or_else(|| self.new.pop_front()),
        }
    }
}

/// Whether this is a DISCOVER, as far as a glance shows: all known clients put option 53 first. One that does not waits no longer
/// for it, and none is refused for what is seen here.
fn is_discover(payload: &[u8]) -> bool {
    payload.get(240..243) == Some(&[53, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_begun_goes_first_and_keeps_nobody_out() {
        let mut queues = Queues::new();
        queues.new.extend(["a", "b"]);
        queues.begun.extend(["1", "2", "3", "4", "5"]);
        let order: Vec<&str> = std::iter::from_fn(|| queues.pop()).collect();
        assert_eq!(order, ["1", "2", "3", "a", "4", "5", "b"]);
    }

    #[test]
    fn a_full_queue_drops_its_oldest_and_nothing_of_the_other() {
        let mut queues = Queues::new();
        assert_eq!(queues.push(0, false), None);
        let dropped: Vec<usize> = (1..CAPACITY + 4).filter_map(|n| queues.push(n, true)).collect();
        assert_eq!(dropped, [1, 2, 3]);
        assert_eq!((queues.new.len(), queues.begun.len()), (CAPACITY, 1));
        assert_eq!((queues.pop(), queues.pop()), (Some(0), Some(4)));
    }

    #[test]
    fn a_discover_is_known_at_a_glance() {
        let mut payload = vec![0; 240];
        payload.extend([53, 1, 1, 255]);
        assert!(is_discover(&payload));
        payload[242] = 3;
        assert!(!is_discover(&payload));
        assert!(!is_discover(&payload[..242]));
    }
}
