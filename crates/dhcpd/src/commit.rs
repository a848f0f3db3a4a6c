//! The commit thread: leases become durable in groups, and only then their replies leave.
//!
//! While one group is being synced the next one gathers, so the size of a group follows the speed of the disk by itself.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use boot_model::event::Event;
use dhcp_engine::{Destination, Lease};
use service::EventWriter;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::debug;

use crate::port::Port;
use crate::store::LeaseStore;

/// Leases to be saved, and the reply that promises them.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) leases: Vec<Lease>,
    pub(crate) reply: Option<Reply>,
    pub(crate) event: Event,
}

/// A reply on its way.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) port: Arc<Port>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Destination,
    pub(crate) arrived: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Report {
    /// These are on disk.
    Saved(Vec<Lease>),
    /// A rewrite succeeded: all of these are on disk, and the store works.
    Rewritten(Vec<Lease>),
    /// A write failed; its replies were not sent.
    Failed(io::Error),
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    promises: Vec<Promise>,
    rewrite: Option<Vec<Lease>>,
    stop: bool,
}

/// After this a client has asked again or has given up; its reply is not sent, its lease is kept.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Groups larger than this would make the first wait for the last.
const GROUP: usize = 1024;

/// Promises that may wait. A disk that is slower makes the requests wait in the inbox instead, where the oldest are dropped.
const WAITING: usize = 2 * GROUP;

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(store: LeaseStore, events: Arc<EventWriter>) -> io::Result<(Self, UnboundedReceiver<Report>)> {
        let shared = Arc::new(Shared::default());
        // Unbounded, but it holds at most a report for each group, and groups wait for the receiver through WAITING.
        let (reports, receiver) = unbounded_channel();
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("commit".into()).spawn(move || run(&shared, store, &events, &reports))?
        };
        Ok((Self { shared, thread: Some(thread) }, receiver))
    }

    /// Whether more promises can be taken now.
    pub(crate) fn has_room(&self) -> bool {
        lock(&self.shared).promises.len() < WAITING
    }

    pub(crate) fn promise(&self, promise: Promise) {
        lock(&self.shared).promises.push(promise);
        self.shared.wake.notify_one();
    }

    /// Asks for new files with exactly these leases.
    pub(crate) fn rewrite(&self, leases: Vec<Lease>) {
        lock(&self.shared).rewrite = Some(leases);
        self.shared.wake.notify_one();
    }
}

impl Drop for Committer {
    /// Waits until everything promised is on disk and sent.
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panicked only by a bug; with panic = "abort" we would not be here.
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Work> {
    shared.work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: &Shared, mut store: LeaseStore, events: &EventWriter, reports: &UnboundedSender<Report>) {
    loop {
        let (group, rewrite) = {
            let mut work = lock(shared);
            // A snapshot under way goes on in the pauses.
            while work.promises.is_empty() && work.rewrite.is_none() && !store.is_compacting() {
                if work.stop {
                    return;
                }
                work = shared.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
            if work.stop && work.promises.is_empty() && work.rewrite.is_none() {
                return;
            }
            let size = work.promises.len().min(GROUP);
            (work.promises.drain(..size).collect::<Vec<_>>(), work.rewrite.take())
        };
        // The receiver is gone only when the service ends.
        let report = |report| drop(reports.send(report));
        if let Some(leases) = rewrite {
            let written = leases.clone();
            report(store.rewrite(Some(leases)).map_or_else(Report::Failed, |()| Report::Rewritten(written)));
        }
        if !group.is_empty() {
            match store.append(group.iter().flat_map(|promise| &promise.leases)) {
                Ok(()) => report(Report::Saved(deliver(group, events))),
                Err(error) => report(Report::Failed(error)),
            }
        }
        if let Err(error) = store.compact() {
            report(Report::Failed(error));
        }
    }
}

/// Sends the replies, and returns what was promised.
fn deliver(group: Vec<Promise>, events: &EventWriter) -> Vec<Lease> {
    let (mut leases, mut told) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    for promise in group {
        if promise.reply.is_none_or(|reply| reply.send()) {
            told.push(promise.event);
        }
        leases.extend(promise.leases);
    }
    events.write_all(&told);
    leases
}

impl Reply {
    /// Sends it if its client still waits. False says that it did not leave.
    pub(crate) fn send(&self) -> bool {
        if self.arrived.elapsed() > PATIENCE {
            debug!(to = %self.to, "reply is late and not sent");
            return false;
        }
        let sent = self.port.send(&self.bytes, self.from, self.to);
        if let Err(error) = &sent {
            debug!(to = %self.to, %error, "reply could not be sent");
        }
        sent.is_ok()
    }
}
