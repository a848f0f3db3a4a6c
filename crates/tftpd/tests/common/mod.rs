//! A server on a loopback port of its own, over a temporary directory.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests, of which each uses some")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use service::confined::Root;
use tempfile::TempDir;
use tftpd::{Bounds, Desk, Ended, serve};
use tokio::sync::oneshot;

pub(crate) const BOUNDS: Bounds =
    Bounds { max_transfers: 100, max_transfers_per_client: 50, max_window: 64, block_size_max: 65464 };

/// A client that may not ask.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    pub(crate) desk: Arc<Desk>,
    ended: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(BOUNDS)
    }

    pub(crate) fn with(bounds: Bounds) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ended = Arc::new(Mutex::new(Vec::new()));
        let record = {
            let ended = Arc::clone(&ended);
            move |event: &Ended<'_>| {
                let options: String = event.agreed.answers.iter().map(|answer| format!(" {answer}")).collect();
                let line = format!("{} {} {:?}{options}", event.file, event.bytes, event.outcome);
                ended.lock().unwrap().push(line);
            }
        };
        let resolve = |name: &tftp_engine::FileName, local: Ipv4Addr| {
            assert_eq!(local, Ipv4Addr::LOCALHOST, "the address that was asked");
            name.as_str().map(PathBuf::from).into_iter().collect()
        };
        let addresses = vec![Ipv4Addr::LOCALHOST];
        let clients = |client| client != STRANGER;
        let root = Root::new(directory.path());
        let desk = Arc::new(Desk::new(root, addresses, Box::new(clients), bounds, Box::new(resolve), Box::new(record)));
        // Any address, as a socket inherited from systemd may be bound: which one was asked is for the server to find.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let address = (Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port()).into();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Arc::clone(&desk);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(serve(vec![socket], serving, async {
                let _ = stopped.await;
            }))
        });
        Self { address, directory, desk, ended, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, size: usize) -> Vec<u8> {
        let bytes = pattern(size);
        std::fs::write(self.path(name), &bytes).unwrap();
        bytes
    }

    /// Stops the server, waits until it has, and returns what it told of ended transfers.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.halt();
        std::mem::take(&mut self.ended.lock().unwrap())
    }

    fn halt(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Bytes of which no two blocks are alike.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Waits until `condition` holds.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "this never happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client's port, driven by hand.
pub(crate) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    /// Where the last packet came from.
    pub(crate) from: Option<SocketAddr>,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        Self::at(server, Ipv4Addr::LOCALHOST)
    }

    pub(crate) fn at(server: &Server, address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, server: server.address, from: None }
    }

    pub(crate) fn request(&self, request: &[u8]) {
        self.socket.send_to(request, self.server).unwrap();
    }

    /// Whether nothing has arrived.
    pub(crate) fn hears_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        self.socket.recv(&mut [0; 16]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// To the port that the last packet came from.
    pub(crate) fn reply(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.from.unwrap()).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
        self.from = Some(from);
        buffer.truncate(length);
        buffer
    }
}

/// `None`, with the reason printed, where the program is missing and peers are not required.
pub(crate) fn peer(program: &str) -> Option<PathBuf> {
    let found =
        ["/usr/local/bin", "/usr/bin", "/bin"].iter().map(|at| Path::new(at).join(program)).find(|at| at.exists());
    if found.is_none() {
        assert!(std::env::var_os("ROOKERY_REQUIRE_PEERS").is_none(), "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
    }
    found
}
