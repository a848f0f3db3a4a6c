//! Sockets that systemd opened for the service (sd_listen_fds(3)): the service then needs no right to bind low ports, and no
//! request is lost while it restarts.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use thiserror::Error;

/// The first inherited descriptor (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// What systemd handed over.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Listening TCP sockets, non-blocking.
    pub tcp: Vec<TcpListener>,
    /// UDP sockets, non-blocking.
    pub udp: Vec<UdpSocket>,
}

/// The port that the configuration names, and where it does. Menus carry that one, so the socket unit must open it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configured {
    /// The port.
    pub port: u16,
    /// Its key in rookery.toml.
    pub key: &'static str,
    /// The unit that opens it.
    pub unit: &'static str,
}

/// A socket that systemd opened is not the one that the configuration speaks of.
#[derive(Debug, Error)]
pub enum WrongSocket {
    /// It has no Internet address.
    #[error("asking for the address of a socket from {unit}; it opens TCP or UDP ports only")]
    Address {
        /// The unit that opened it.
        unit: &'static str,
        /// Why it has none.
        source: io::Error,
    },
    /// It is another port.
    #[error(
        "systemd opened port {opened} and {key} is {port}: `systemctl edit {unit}`, in [Socket] {directive}= and then \
         {directive}=0.0.0.0:{port}, and `systemctl restart {unit}`",
        key = configured.key, port = configured.port, unit = configured.unit
    )]
    Port {
        /// The port that it listens at.
        opened: u16,
        /// What was expected.
        configured: Configured,
        /// The directive of the unit that says it.
        directive: &'static str,
    },
}

impl Inherited {
    /// Takes the sockets that this process inherited; empty when it was started otherwise. Call it once, before any other thread
    /// or descriptor exists: the numbers are taken on trust from the environment.
    ///
    /// # Errors
    /// If a descriptor is no socket of a usable kind.
    pub fn take() -> io::Result<Self> {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        match (number("LISTEN_PID"), number("LISTEN_FDS")) {
            (Some(pid), Some(count)) if pid == std::process::id() => {
                Self::adopt((0..count.min(64)).map(|n| FIRST + n as RawFd))
            }
            _ => Ok(Self::default()),
        }
    }

    /// The TCP sockets, none if there were none.
    ///
    /// # Errors
    /// If one has another port than the configured one.
    pub fn tcp_at(self, configured: Configured) -> Result<Vec<TcpListener>, WrongSocket> {
        for listener in &self.tcp {
            check(listener.local_addr(), configured, "ListenStream")?;
        }
        Ok(self.tcp)
    }

    /// The UDP sockets, none if there were none.
    ///
    /// # Errors
    /// If one has another port than the configured one.
    pub fn udp_at(self, configured: Configured) -> Result<Vec<UdpSocket>, WrongSocket> {
        for socket in &self.udp {
            check(socket.local_addr(), configured, "ListenDatagram")?;
        }
        Ok(self.udp)
    }

    fn adopt(descriptors: impl Iterator<Item = RawFd>) -> io::Result<Self> {
        let mut inherited = Self::default();
        for descriptor in descriptors {
            // SAFETY: systemd passes open descriptors from 3 on to exactly the process LISTEN_PID, which is this one; nothing else owns
            // them, since `take` is called before the program opens anything. A number that isn't open fails in fcntl below.
            #[allow(unsafe_code)]
            let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
            fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            match getsockopt(&socket, sockopt::SockType)? {
                SockType::Stream => {
                    let listener = TcpListener::from(socket);
                    listener.set_nonblocking(true)?;
                    inherited.tcp.push(listener);
                }
                SockType::Datagram => {
                    let socket = UdpSocket::from(socket);
                    socket.set_nonblocking(true)?;
                    inherited.udp.push(socket);
                }
                other => {
                    return Err(io::Error::other(format!(
                        "inherited socket {descriptor} is of type {other:?}; use ListenStream= or ListenDatagram="
                    )));
                }
            }
        }
        Ok(inherited)
    }
}

fn check(address: io::Result<SocketAddr>, configured: Configured, directive: &'static str) -> Result<(), WrongSocket> {
    let address = address.map_err(|source| WrongSocket::Address { unit: configured.unit, source })?;
    match address.port() {
        opened if opened == configured.port => Ok(()),
        opened => Err(WrongSocket::Port { opened, configured, directive }),
    }
}
