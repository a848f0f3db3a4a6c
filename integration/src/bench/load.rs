//! Simulated clients of an HTTP server: they ask, and throw away what they get.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, recv, socket};

use crate::{Error, Result};

/// One connection with keep-alive.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What was read beyond the last response.
    buffer: Vec<u8>,
    /// Where bodies would be, were they not thrown away.
    sink: Vec<u8>,
}

/// A server that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// The longest head of a response.
const HEAD: usize = 16 * 1024;

const SINK: usize = 1 << 20;

impl Connection {
    /// Connects from this address (port 0: any).
    pub(super) fn open(from: SocketAddrV4, to: SocketAddrV4) -> Result<Self> {
        let doing = || Error::errno(format!("connecting from {from} to {to}"));
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(doing())?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(from)).map_err(doing())?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(to)).map_err(doing())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).map_err(Error::io("setting a timeout"))?;
        stream.set_nodelay(true).map_err(Error::io("setting TCP_NODELAY"))?;
        Ok(Self { stream, buffer: Vec::new(), sink: vec![0; SINK] })
    }

    /// GETs a path; how many bytes its body has. Anything but 200 and the whole body is an error.
    pub(super) fn get(&mut self, path: &str) -> Result<u64> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(Error::io(format!("asking for {path}")))?;
        let length = self.head(path)?;
        let begun = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        self.buffer.drain(..begun);
        let mut left = length - begun as u64;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(SINK).min(SINK);
            // On a TCP socket MSG_TRUNC throws away without copying (tcp(7)): what is measured is the server.
            let count = recv(self.stream.as_raw_fd(), &mut self.sink[..most], MsgFlags::MSG_TRUNC)
                .map_err(Error::errno(format!("receiving {path}")))?;
            if count == 0 {
                return Err(Error::Wrong(format!("{path} ended {left} bytes early")));
            }
            left -= count as u64;
        }
        Ok(length)
    }

    /// Reads a response's head; the length that it announces.
    fn head(&mut self, path: &str) -> Result<u64> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).map_err(Error::io(format!("waiting for {path}")))?;
            if count == 0 || self.buffer.len() > HEAD {
                return Err(Error::Wrong(format!("{path} has no head of a response")));
            }
            self.buffer.extend_from_slice(&bytes[..count]);
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
        });
        match length {
            Some(length) if head.starts_with("HTTP/1.1 200 ") => Ok(length),
            _ => Err(Error::Wrong(format!("{path} was answered with {}", head.lines().next().unwrap_or_default()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use super::*;

    #[test]
    fn takes_each_response_whole_and_nothing_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let body = "x".repeat(3 * SINK);
            let answers = [
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab".to_owned(),
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab".to_owned(),
            ];
            for answer in answers {
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut connection = Connection::open(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), address).unwrap();
        assert_eq!(connection.get("/a").unwrap(), 2);
        assert_eq!(connection.get("/b").unwrap(), 3 * SINK as u64);
        assert!(connection.get("/c").is_err(), "an error of the server");
        assert!(connection.get("/d").is_err(), "a short body");
        server.join().unwrap();
    }
}
