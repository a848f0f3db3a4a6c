//! Sockets that systemd opened for the service (sd_listen_fds(3)): the service then needs no right to bind low ports, and no
//! request is lost while it restarts.

use std::env;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

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
