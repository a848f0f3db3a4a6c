//! A state directory with one published generation, a server over it on a loopback port of its own, and a client that writes
//! and reads HTTP by hand.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "helpers of tests, of which each uses some")]

pub mod http;
pub mod state;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boot_model::event::Event;
use nar_cache::{Bounds, Desk, Machines, Publication, serve};
use tokio::sync::oneshot;

pub use http::{Client, Response};
pub use state::State;

/// How long a test waits for something that must happen before it fails. Nothing is ever waited for in full.
pub const LONG: Duration = Duration::from_secs(60);

/// Clients that are sent large files at once.
pub const CLIENTS: usize = 2;

/// A server in this process.
pub struct Server {
    pub state: State,
    pub desk: Arc<Desk>,
    pub address: SocketAddr,
    publication: Option<Publication>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(State::new(), Bounds { drain: LONG, ..Bounds::new(100) })
    }

    pub fn with(state: State, bounds: Bounds) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let publication = Publication::follow(&state.layout).unwrap();
        let machines = Machines::new(&state.layout, &[]);
        let served_at = vec![Ipv4Addr::LOCALHOST];
        let (waiting, names) = (bounds.most_waiting(), publication.names());
        let desk = Arc::new(Desk::new(&state.layout, machines, served_at, CLIENTS, waiting, names));
        let (stop, stopped) = oneshot::channel();
        let at = Arc::clone(&desk);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime.block_on(serve(vec![listener], at, bounds, shutdown)).unwrap();
        });
        Self { state, desk, address, publication: Some(publication), stop: Some(stop), thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, "")
    }

    /// One request on a connection of its own. `headers` are lines with their line ends.
    pub fn request(&self, method: &str, path: &str, headers: &str) -> Response {
        let mut client = self.client();
        client.send(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"));
        client.response_to(method)
    }

    /// One POST of this body on a connection of its own.
    pub fn post(&self, path: &str, body: &str) -> Response {
        let mut client = self.client();
        client.send(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        client.response_to("POST")
    }

    /// Begins to stop; [`Server::ended`] says when it has.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub fn ended(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        let file = self.state.layout.events("nar-cache").join("events.jsonl");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until so many responses have ended, one way or another.
    pub fn wait_for_responses(&self, count: u64) {
        let counts = self.desk.counts();
        eventually(|| {
            let ended = [&counts.complete, &counts.cut, &counts.refused].map(|count| count.load(Ordering::Acquire));
            ended.iter().sum::<u64>() >= count && self.events().len() as u64 >= count
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            self.ended();
        }
    }
}

/// Asks again and again; fails the test after a long time.
pub fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
