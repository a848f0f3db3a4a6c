//! Many downloads at once from one thread: the room that servers are measured with.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tftp_engine::{Fetch, FetchSend, FileName, Now, Wishes};

use crate::dice::Dice;
use crate::{Error, Result, interrupt};

/// Clients that each fetch the same file once.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) server: Ipv4Addr,
    pub(super) file: FileName,
    /// What the file has to begin with: every byte that arrives is compared.
    pub(super) content: Arc<Vec<u8>>,
    /// Where it has to end.
    pub(super) length: usize,
    pub(super) wishes: Wishes,
    /// How many; each has an address of its own, see [`address`].
    pub(super) clients: u32,
    /// Percent of the packets that are lost, in each direction; client `n` throws the dice of seed `n`.
    pub(super) loss: f64,
    /// When to stop: a server that is not done by then has failed.
    pub(super) patience: Duration,
}

/// One client and its download.
struct Client {
    socket: UdpSocket,
    server: SocketAddrV4,
    connected: bool,
    fetch: Fetch,
    arrived: usize,
    dice: Dice,
    loss: f64,
    seconds: Option<f64>,
}

/// Where client `number` sits: all of 10.77.128.0/17 has to be local, and no /24 holds more than 250 of them.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 77, 128, 1)) + (number / 250) * 256 + number % 250)
}

impl Load {
    /// Fetches, and returns the seconds that it took each client from the first client's start on.
    pub(super) fn run(&self) -> Result<Vec<f64>> {
        let epoll = Epoll::new(EpollCreateFlags::empty()).map_err(Error::errno("making an epoll instance"))?;
        let mut clients = (0..self.clients).map(|number| self.client(number)).collect::<Result<Vec<_>>>()?;
        for (number, client) in (0..).zip(&clients) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
            epoll.add(&client.socket, event).map_err(Error::errno("watching a socket"))?;
        }
        let mut events = vec![EpollEvent::empty(); 256];
        let mut buffer = vec![0; 65_536];
        let clock = Instant::now();
        let (mut started, mut running, mut looked) = (0, clients.len(), clock);
        while running > 0 {
            // A few at a time: a thousand requests at once don't fit into the queue of any server's socket.
            let starting = &mut clients[started..];
            let few = starting.len().min(STARTS);
            started += few;
            starting[..few].iter_mut().try_for_each(|client| client.flush(clock).map(drop))?;
            let wait = if started < clients.len() { EpollTimeout::ZERO } else { EpollTimeout::from(TICK) };
            let count = epoll.wait(&mut events, wait).or_else(interrupted)?;
            for event in &events[..count] {
                let client = usize::try_from(event.data()).ok().and_then(|number| clients.get_mut(number));
                running -= usize::from(client.is_some_and(|client| client.receive(clock, &self.content, &mut buffer)));
            }
            if looked.elapsed() >= Duration::from_millis(TICK.into()) {
                looked = Instant::now();
                interrupt::check()?;
                clients[..started].iter_mut().try_for_each(|client| client.wake(clock))?;
                running = clients.iter().filter(|client| client.seconds.is_none()).count();
                if clock.elapsed() > self.patience {
                    let (all, seconds) = (self.clients, self.patience.as_secs());
                    return Err(Error::Wrong(format!(
                        "{running} of {all} clients were still waiting after {seconds} s"
                    )));
                }
            }
        }
        clients.iter().map(|client| client.result(self.length)).collect()
    }

    fn client(&self, number: u32) -> Result<Client> {
        let address = address(number);
        let socket = UdpSocket::bind((address, 0)).map_err(Error::io(format!("binding {address}")))?;
        socket.set_nonblocking(true).map_err(Error::io("setting up a socket"))?;
        Ok(Client {
            socket,
            server: SocketAddrV4::new(self.server, 69),
            connected: false,
            fetch: Fetch::new(Now::after_origin(Duration::ZERO), self.file.clone(), self.wishes),
            arrived: 0,
            dice: Dice::new(number.into()),
            loss: self.loss,
            seconds: None,
        })
    }
}

impl Client {
    /// Takes in what has arrived, up to the next ACK; true if that was the end.
    fn receive(&mut self, clock: Instant, content: &[u8], buffer: &mut [u8]) -> bool {
        if self.seconds.is_some() {
            // A copy of the last block; the server will give up.
            let _ = self.socket.recv_from(buffer);
            return false;
        }
        while self.seconds.is_none() {
            let length = match self.socket.recv_from(buffer) {
                Ok((length, from)) => {
                    // The server answers from a port of its own.
                    if !self.connected {
                        self.connected = self.socket.connect(from).is_ok();
                    }
                    length
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.fetch.on_unreachable();
                    0
                }
                Err(_) => return false,
            };
            if self.dice.hits(self.loss) {
                continue;
            }
            let payload = self.fetch.on_packet(now(clock), &buffer[..length]);
            let right = content.get(self.arrived..).is_some_and(|rest| rest.starts_with(payload));
            self.arrived = if right { self.arrived + payload.len() } else { usize::MAX };
            // What follows an ACK takes a round trip; it is not worth looking for.
            if self.flush(clock).unwrap_or(true) {
                break;
            }
        }
        self.seconds.is_some()
    }

    /// Sends what is due; true if something was.
    fn flush(&mut self, clock: Instant) -> Result<bool> {
        let mut any = false;
        while let Some(send) = self.fetch.poll(now(clock)) {
            any = true;
            let packet = send.encode(self.fetch.request());
            if self.dice.hits(self.loss) {
                continue;
            }
            let sent = match send {
                FetchSend::Request => self.socket.send_to(&packet, self.server),
                FetchSend::Ack { .. } | FetchSend::RefuseOptions => self.socket.send(&packet),
            };
            match sent {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.fetch.on_unreachable(),
                Err(error) => return Err(Error::io(format!("sending to {}", self.server))(error)),
            }
        }
        if self.fetch.outcome().is_some() && self.seconds.is_none() {
            self.seconds = Some(clock.elapsed().as_secs_f64());
        }
        Ok(any)
    }

    fn wake(&mut self, clock: Instant) -> Result<()> {
        if self.seconds.is_none() {
            self.fetch.on_timer(now(clock));
            self.flush(clock)?;
        }
        Ok(())
    }

    fn result(&self, length: usize) -> Result<f64> {
        let failed = |reason: &dyn std::fmt::Display| Error::Wrong(format!("{}: {reason}", self.server));
        match (self.fetch.outcome(), self.seconds) {
            (Some(Ok(_)), Some(seconds)) if self.arrived == length => Ok(seconds),
            (Some(Err(error)), _) => Err(failed(error)),
            _ => Err(failed(&"the file arrived changed")),
        }
    }
}

fn now(clock: Instant) -> Now {
    Now::after_origin(clock.elapsed())
}

fn interrupted(errno: nix::errno::Errno) -> Result<usize> {
    if errno == nix::errno::Errno::EINTR { Ok(0) } else { Err(Error::errno("waiting for packets")(errno)) }
}

const STARTS: usize = 16;
/// Milliseconds between two looks at the clients' deadlines.
const TICK: u8 = 10;
