//! The verb `get`: a download as a client would do it, to see what a server does.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use tftp_engine::{Agreed, Fetch, FetchError, FetchSend, FileName, NameError, Now, Wishes};

/// `tftp://host[:port]/file` (RFC 3617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// A name or an IPv4 address.
    pub host: String,
    /// 69 unless said.
    pub port: u16,
    /// The file.
    pub file: FileName,
}

/// Why a text is no [`Url`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Something else than `tftp://host[:port]/file`.
    #[error("expected tftp://host[:port]/file")]
    Form,
    /// The file's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// A download that arrived whole.
#[derive(Debug)]
pub struct Got {
    /// Bytes of the file.
    pub bytes: u64,
    /// The options that the server accepted.
    pub agreed: Agreed,
    /// From the request to the last block.
    pub took: Duration,
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The host has no IPv4 address.
    #[error("no IPv4 address for {0}")]
    Host(String),
    /// The network.
    #[error("{0}: {1}")]
    Network(SocketAddr, io::Error),
    /// The file on this side.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server, or its silence.
    #[error("{0}: {1}")]
    Fetch(SocketAddr, FetchError),
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("tftp://").ok_or(UrlError::Form)?;
        let (authority, path) = rest.split_once('/').ok_or(UrlError::Form)?;
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| UrlError::Form)?),
            None => (authority, 69),
        };
        if host.is_empty() {
            return Err(UrlError::Form);
        }
        Ok(Self { host: host.to_owned(), port, file: FileName::parse(path.as_bytes())? })
    }
}

/// Fetches `url` into the file `to`.
///
/// # Errors
/// See [`GetError`]. What had arrived until then stays in `to`; if nothing had, `to` is as it was.
pub fn get(url: &Url, wishes: Wishes, to: &Path) -> Result<Got, GetError> {
    let server = (url.host.as_str(), url.port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.find(SocketAddr::is_ipv4))
        .ok_or_else(|| GetError::Host(url.host.clone()))?;
    let started = Instant::now();
    let now = || Now::after_origin(started.elapsed());
    let mut fetch = Fetch::new(now(), url.file.clone(), wishes);
    let mut line = ClientLine::new(server).map_err(|error| GetError::Network(server, error))?;
    let mut output = Output { path: to, file: None };
    loop {
        while let Some(send) = fetch.poll(now()) {
            line.send(send, &fetch).map_err(|error| GetError::Network(server, error))?;
        }
        let Some(deadline) = fetch.next_deadline() else { break };
        match line.receive(deadline.since(now())) {
            Ok(Some(packet)) => output.append(fetch.on_packet(now(), packet))?,
            Ok(None) => fetch.on_timer(now()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fetch.on_unreachable(),
            Err(error) => return Err(GetError::Network(server, error)),
        }
    }
    let bytes = match fetch.outcome() {
        Some(Ok(fetched)) => fetched.bytes,
        Some(Err(error)) => return Err(GetError::Fetch(server, error.clone())),
        // The loop ends only with an outcome.
        None => return Err(GetError::Fetch(server, FetchError::Silence(Duration::ZERO))),
    };
    output.finish()?;
    Ok(Got { bytes, agreed: fetch.agreed().clone(), took: started.elapsed() })
}

/// The file on this side. It is made, or emptied, when the first bytes for it are there: a name that the server does not
/// know costs nobody the file that he has.
struct Output<'a> {
    path: &'a Path,
    file: Option<io::BufWriter<File>>,
}

impl Output<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.write(|file| file.write_all(bytes))
    }

    /// An empty file arrives without any bytes.
    fn finish(&mut self) -> Result<(), GetError> {
        self.write(io::Write::flush)
    }

    fn write(&mut self, write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>) -> Result<(), GetError> {
        let written = match &mut self.file {
            Some(file) => write(file),
            none => File::create(self.path).and_then(|file| write(none.insert(io::BufWriter::new(file)))),
        };
        written.map_err(|source| GetError::Write { path: self.path.to_owned(), source })
    }
}

/// The client's socket, which learns the server's port from its first answer.
struct ClientLine {
    socket: UdpSocket,
    server: SocketAddr,
    connected: bool,
    buffer: Vec<u8>,
}

impl ClientLine {
    fn new(server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        Ok(Self { socket, server, connected: false, buffer: vec![0; 65_536] })
    }

    fn send(&self, send: FetchSend, fetch: &Fetch) -> io::Result<()> {
        let packet = send.encode(fetch.request());
        let sent = if self.connected { self.socket.send(&packet) } else { self.socket.send_to(&packet, self.server) };
        match sent {
            // The server is gone after its last block; that is no failure of ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && fetch.outcome().is_some() => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// A packet of the server, or `None` once `wait` is over.
    fn receive(&mut self, wait: Duration) -> io::Result<Option<&[u8]>> {
        // A timeout of zero would mean to wait for ever.
        self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        match self.socket.recv_from(&mut self.buffer) {
            Ok((_, from)) if from.ip() != self.server.ip() => Ok(Some(&[])),
            Ok((length, from)) => {
                if !self.connected {
                    self.socket.connect(from)?;
                    self.connected = true;
                }
                Ok(Some(&self.buffer[..length]))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(&[])),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url: Url = "tftp://10.0.0.1/boot/lpxelinux.0".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.file.as_str()), ("10.0.0.1", 69, Some("boot/lpxelinux.0")));
        let url: Url = "tftp://server:6969//x".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.file.as_str()), ("server", 6969, Some("x")));
        for bad in ["http://a/b", "tftp://a", "tftp:///b", "tftp://a:x/b", "a/b"] {
            assert_eq!(bad.parse::<Url>(), Err(UrlError::Form), "{bad}");
        }
        assert_eq!("tftp://a/".parse::<Url>(), Err(UrlError::Name(NameError::Empty)));
    }
}
