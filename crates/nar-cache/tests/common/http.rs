//! HTTP by hand: bytes out, bytes in.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use super::LONG;

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status line and headers, each line without its end.
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Connects from another address of loopback.
    pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Self {
        let SocketAddr::V4(to) = to else { panic!("not IPv4: {to}") };
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).unwrap();
        connect(socket.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Sends as long as the server takes it. Whether it all went.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        self.response_to("GET")
    }

    pub fn response_to(&mut self, method: &str) -> Response {
        let head = self.head();
        let mut response = Response { head, body: Vec::new() };
        let bodiless = method == "HEAD" || matches!(response.status(), 204 | 304);
        let length = response.header("Content-Length").map_or(0, |text| text.parse().unwrap());
        if !bodiless {
            response.body = self.exactly(length);
        }
        response
    }

    /// Reads a response's head and leaves the body.
    pub fn head(&mut self) -> Vec<String> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.more() > 0, "the connection ended in a head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        head.trim_end().split("\r\n").map(str::to_owned).collect()
    }

    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more() > 0, "the connection ended after {} bytes of {length}", self.buffer.len());
        }
        self.buffer.drain(..length).collect()
    }

    /// Everything until the server closes; a reset is a close.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    fn more(&mut self) -> usize {
        let mut bytes = [0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("reading a response: {error}"),
        }
    }
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head[0].split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of a header that is written exactly so.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head[1..].iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The head with what changes by the clock and by the file replaced.
    pub fn framing(&self) -> String {
        let line = |line: &String| match line.split_once(": ") {
            Some((name @ ("Date" | "Etag"), _)) => format!("{name}: ..."),
            _ => line.clone(),
        };
        self.head.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
