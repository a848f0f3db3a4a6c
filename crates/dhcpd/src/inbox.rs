use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::port::{Port, Received};

/// Requests that wait to be decided. Full, it drops the oldest: its client is the first to ask again, or has given up.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<Request>>,
    filled: Notify,
    dropped: AtomicU64,
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

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), filled: Notify::new(), dropped: AtomicU64::new(0) }
    }

    pub(crate) fn push(&self, request: Request) {
        // The lock is held only here and below, where nothing can panic.
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= CAPACITY {
            queue.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        queue.push_back(request);
        drop(queue);
        self.filled.notify_one();
    }

    /// Resolves when there may be something to take.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The oldest request.
    pub(crate) fn pop(&self) -> Option<Request> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Makes the next [`Inbox::filled`] resolve at once: its taker left something behind.
    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    /// How many requests were dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}
