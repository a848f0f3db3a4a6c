//! The line of requests that wait for their client's turn.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::turns::{Asker, Place, Turns};

/// Admits what is large, a few clients at a time.
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// Requests that had to wait.
    pub(crate) waited: AtomicU64,
}

#[derive(Debug)]
struct State {
    turns: Turns<oneshot::Sender<Slot>>,
    /// Whether a task looks at the clock. There is one while somebody waits.
    is_ushered: bool,
}

/// What an admitted response holds until it has ended.
#[derive(Debug)]
pub(crate) struct Slot {
    line: Arc<Line>,
    /// `None` once it was given back.
    place: Option<Place>,
}

/// When a response gets its slot.
#[derive(Debug)]
pub(crate) enum Turn {
    Now(Slot),
    Later(oneshot::Receiver<Slot>),
}

type Admitted = Vec<(oneshot::Sender<Slot>, Place)>;

impl Line {
    /// Serves so many clients at once, while so many requests may wait.
    pub(crate) fn new(clients: usize, most_waiting: usize) -> Arc<Self> {
        let state = State { turns: Turns::new(clients, most_waiting), is_ushered: false };
        Arc::new(Self { state: Mutex::new(state), waited: AtomicU64::new(0) })
    }

    /// Asks for one more large response to `client`. `None` if too many wait already.
    pub(crate) fn ask(self: &Arc<Self>, client: Ipv4Addr, asker: Asker) -> Option<Turn> {
        let (ticket, mut turn) = oneshot::channel();
        let (admitted, usher) = {
            let mut state = self.lock();
            state.turns.strike(oneshot::Sender::is_closed);
            state.turns.ask(client, asker, ticket).ok()?;
            let admitted = state.turns.settle(Instant::now());
            let must_usher = state.turns.is_awaited() && !state.is_ushered;
            state.is_ushered |= must_usher;
            (admitted, must_usher)
        };
        self.hand_out(admitted);
        if usher {
            tokio::spawn(Arc::clone(self).usher());
        }
        if let Ok(slot) = turn.try_recv() {
            return Some(Turn::Now(slot));
        }
        self.waited.fetch_add(1, Ordering::Relaxed);
        Some(Turn::Later(turn))
    }

    async fn usher(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let (admitted, goes_on) = {
                let mut state = self.lock();
                state.turns.strike(oneshot::Sender::is_closed);
                let admitted = state.turns.settle(Instant::now());
                state.is_ushered = state.turns.is_awaited();
                (admitted, state.is_ushered)
            };
            self.hand_out(admitted);
            if !goes_on {
                return;
            }
        }
    }

    fn leave(self: &Arc<Self>, place: &Place) {
        let admitted = self.left(place);
        self.hand_out(admitted);
    }

    fn left(&self, place: &Place) -> Admitted {
        let (mut state, now) = (self.lock(), Instant::now());
        state.turns.leave(now, place);
        state.turns.settle(now)
    }

    /// Nothing is locked here: a slot that nobody takes gives its place back.
    fn hand_out(self: &Arc<Self>, mut admitted: Admitted) {
        while let Some((ticket, place)) = admitted.pop() {
            let slot = Slot { line: Arc::clone(self), place: Some(place) };
            // Its client left while it waited.
            if let Err(mut slot) = ticket.send(slot)
                && let Some(place) = slot.place.take()
            {
                admitted.extend(self.left(&place));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under it can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The network took so many bytes of the response.
    pub(crate) fn moved(&self, bytes: usize) {
        if let Some(place) = &self.place {
            place.moved(bytes);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.line.leave(&place);
        }
    }
}

/// How often the clock is looked at while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
