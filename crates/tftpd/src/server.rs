//! The loop that takes in requests.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::debug;

use crate::desk::Desk;
use crate::transfer::attend;
use crate::wire::{Door, Knock};

/// Answers the requests that arrive at `sockets` until `shutdown`, then gives running transfers five seconds to end.
///
/// # Errors
/// If a socket can't be set up or stops receiving.
pub async fn serve(sockets: Vec<UdpSocket>, desk: Arc<Desk>, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut listeners = JoinSet::new();
    for socket in sockets {
        let listener = Listener { door: Door::new(socket)?, desk: Arc::clone(&desk), ports: HashMap::new() };
        listeners.spawn(listener.run(stopped.clone()));
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown, if !*stop.borrow() => {
                stop.send_replace(true);
            }
            ended = listeners.join_next() => match ended {
                Some(Ok(result)) => result?,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(()),
            },
        }
    }
}

/// One socket and the transfers that began at it.
struct Listener {
    door: Door,
    desk: Arc<Desk>,
    /// The client ports that have a task, at most as many as there are admissions.
    ports: HashMap<SocketAddrV4, Port>,
}

struct Port {
    task: Id,
    requests: mpsc::Sender<Vec<u8>>,
}

impl Listener {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                knock = self.door.knock() => match knock? {
                    Some(knock) if self.desk.answers(knock.local, *knock.client.ip()) => self.take(knock, &mut tasks),
                    _ => drop(self.desk.counts.dropped_noise.fetch_add(1, Ordering::Relaxed)),
                },
                Some(ended) = tasks.join_next_with_id() => self.forget(&ended),
                _ = stopped.wait_for(|&stop| stop) => break,
            }
        }
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all_ended).await.is_err() {
            debug!(transfers = tasks.len(), "transfers cut off by the end of the service");
        }
        Ok(())
    }

    fn take(&mut self, knock: Knock, tasks: &mut JoinSet<SocketAddrV4>) {
        let Knock { bytes, client, local } = knock;
        // Only RRQ and WRQ can open anything; a stray ACK must not cost a task.
        if !matches!(bytes[..], [0, 1 | 2, ..]) || client.port() == 0 {
            self.desk.counts.dropped_noise.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let bytes = match self.ports.get(&client).map(|port| port.requests.try_send(bytes.clone())) {
            Some(Ok(())) => return,
            // Requests from this port come faster than they are looked at.
            Some(Err(TrySendError::Full(_))) => {
                self.desk.counts.dropped_busy.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(Err(TrySendError::Closed(bytes))) => bytes,
            None => bytes,
        };
        let Some(admission) = self.desk.admissions.admit(*client.ip()) else {
            self.desk.counts.dropped_busy.fetch_add(1, Ordering::Relaxed);
            debug!(%client, "request dropped: too many transfers");
            return;
        };
        let (requests, receiver) = mpsc::channel(1);
        let desk = Arc::clone(&self.desk);
        let task = tasks.spawn(async move {
            tokio::select! {
                biased;
                () = attend(&desk, client, local, bytes, receiver, &admission) => {}
                () = admission.evicted() => drop(desk.counts.evicted.fetch_add(1, Ordering::Relaxed)),
            }
            client
        });
        self.ports.insert(client, Port { task: task.id(), requests });
    }

    fn forget(&mut self, ended: &Result<(Id, SocketAddrV4), JoinError>) {
        match ended {
            // Another task may have the port by now.
            Ok((id, client)) if self.ports.get(client).is_some_and(|port| port.task == *id) => {
                self.ports.remove(client);
            }
            Ok(_) => {}
            Err(error) => self.ports.retain(|_, port| port.task != error.id()),
        }
    }
}

/// Half of what clients wait before they ask again.
const DRAIN: Duration = Duration::from_secs(5);
