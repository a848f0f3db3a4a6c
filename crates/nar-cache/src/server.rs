//! The loop that takes in connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tracing::{debug, info};

use crate::desk::{Desk, Ends};
use crate::wire::{Lane, Wire};

/// Bounds of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; more wait in the listening socket's queue.
    pub max_connections: usize,
    /// How long a connection may be open without a whole request head, between two requests too.
    pub idle: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall: Duration,
    /// How long responses under way may take to end after the service was told to stop; Nix takes up the rest by Range.
    pub drain: Duration,
}

impl Bounds {
    /// The bounds with this many connections and the times that suit firmware and Nix alike.
    pub const fn new(max_connections: usize) -> Self {
        Self {
            max_connections,
            idle: Duration::from_secs(30),
            // An unpacker on a slow disk makes Nix stop reading for a while.
            stall: Duration::from_secs(120),
            drain: Duration::from_secs(15),
        }
    }

    /// Requests that may wait for their turn, each with its connection: half, so that the others go to menus, kernels and reports.
    pub const fn most_waiting(&self) -> usize {
        self.max_connections / 2
    }

    /// Connections that one address may have: a quarter, so that it takes four to shut out the room, yet never fewer than the 25
    /// that Nix opens.
    const fn per_address(&self) -> usize {
        let quarter = self.max_connections / 4;
        if quarter < 32 { 32 } else { quarter }
    }
}

/// Answers the connections that come to `listeners` until `shutdown`, then gives responses under way time to end.
///
/// # Errors
/// If a listener can't be set up or accepts no more.
pub async fn serve(
    listeners: Vec<std::net::TcpListener>,
    desk: Arc<Desk>,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listeners = listeners.into_iter().map(listen).collect::<io::Result<Vec<_>>>()?;
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut room = Room::default();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next_with_id() => room.leave(ended.map_or_else(|e| e.id(), |(id, ())| id)),
            accepted = accept(&listeners), if connections.len() < bounds.max_connections => {
                let Some((stream, ends)) = accepted? else { continue };
                if !desk.answers_at(ends.server) {
                    desk.counts.elsewhere.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                if room.by_address.get(&ends.client).is_some_and(|own| *own >= bounds.per_address()) {
                    desk.counts.crowded.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let task = connections.spawn(attend(stream, ends, Arc::clone(&desk), bounds, stopped.clone()));
                room.enter(task.id(), ends.client);
            }
        }
    }
    drop(listeners);
    stop.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.drain, all_ended).await.is_err() {
        info!(responses = connections.len(), "responses cut off by the end of the service");
    }
    Ok(())
}

/// Who has how many connections.
#[derive(Debug, Default)]
struct Room {
    by_task: HashMap<Id, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, usize>,
}

impl Room {
    fn enter(&mut self, task: Id, address: Ipv4Addr) {
        self.by_task.insert(task, address);
        *self.by_address.entry(address).or_default() += 1;
    }

    fn leave(&mut self, task: Id) {
        let Some(address) = self.by_task.remove(&task) else { return };
        if let Some(own) = self.by_address.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

fn listen(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The next connection of any listener; `None` if it was gone before we looked, or is none of IPv4.
async fn accept(listeners: &[TcpListener]) -> io::Result<Option<(TcpStream, Ends)>> {
    let accepted = poll_fn(|context| {
        let ready = listeners.iter().find_map(|listener| match listener.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    });
    match accepted.await {
        Ok((stream, _)) => Ok(ends(&stream).map(|ends| (stream, ends))),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            // The listener itself is broken.
            Some(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP) | None => Err(error),
            // Accept reports what happened to the connection, or that the machine is out of something for a while (accept(2)).
            Some(_) => {
                debug!(%error, "a connection was lost before it was accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(None)
            }
        },
    }
}

fn ends(stream: &TcpStream) -> Option<Ends> {
    let v4 = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Some(Ends { client: v4(stream.peer_addr().ok()?.ip())?, server: v4(stream.local_addr().ok()?.ip())? })
}

async fn attend(stream: TcpStream, ends: Ends, desk: Arc<Desk>, bounds: Bounds, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        // The connection is gone already.
        return debug!(client = %ends.client, %error, "connection lost");
    }
    let lane = Lane::default();
    let io = TokioIo::new(Wire::new(stream, lane.clone(), bounds.stall));
    let answer = service_fn(move |request| {
        let (desk, lane) = (Arc::clone(&desk), lane.clone());
        async move { Ok::<_, Infallible>(desk.answer(ends, lane, request).await) }
    });
    let connection = http1::Builder::new()
        .title_case_headers(true)
        // Files are sent by [`Wire`], not copied: hyper must hand pieces on as they are.
        .writev(true)
        // A client may close its half after its request (HTTP/1.0 by hand does).
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.idle)
        .max_buf_size(HEAD_MOST)
        .max_headers(HEADERS_MOST)
        .serve_connection(io, answer);
    let mut connection = pin!(connection);
    // The sender lives until this task has ended.
    let stopped = async { drop(stopped.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(client = %ends.client, %error, "connection cut");
    }
}

/// Bytes of a request's head. Hyper reads no more than this ahead, and sends one piece of a body at a time while it is
/// smaller than the pieces are.
const HEAD_MOST: usize = 16 * 1024;

/// Lines of a request's head; browsers send some 20.
const HEADERS_MOST: usize = 64;
