//! A connection's way out: bytes from memory as they come, and files by sendfile(2), in one order.
//!
//! Hyper writes what is in memory. A window of a file enters its queue as a [`Stand`]: as many bytes as the window has, of a slice
//! that nobody ever reads. When that slice comes to be written, the window at the head of the connection's [`Lane`] is sent
//! instead. So heads, ranges, pipelining and keep-alive stay hyper's, and no byte of a pack passes through this process.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{MsgFlags, getsockopt, send, setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::span::{Span, Window};

/// The windows of files that hyper has in its queue, in its order, and whether the client must be sent little at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lane {
    windows: Arc<Mutex<VecDeque<Window>>>,
    is_narrow: Arc<AtomicBool>,
}

/// Stands for so many bytes of the window that was given to the lane with it.
#[derive(Debug)]
pub(crate) struct Stand(usize);

/// A connection whose client may be slow, but not for ever: a write during which the client took nothing at all for `patience`
/// fails. It was switched off, or holds a place on purpose.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    lane: Lane,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Bytes of a packet, once the lane is narrow.
    packet: Option<usize>,
}

/// What stands are slices of. It is never read, so it takes no memory.
static STAND: [u8; Span::WINDOW] = [0; Span::WINDOW];

impl Lane {
    /// Sends the window when what this returns is written.
    pub(crate) fn push(&self, window: Window) -> Stand {
        let stand = Stand(window.len);
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).push_back(window);
        stand
    }

    /// Keeps what is on its way to the client from now on to a few packets ([`narrow`]).
    pub(crate) fn narrow(&self) {
        self.is_narrow.store(true, Ordering::Relaxed);
    }

    /// Sends of the first window what the socket takes now, or a packet of this size.
    fn send(&self, stream: &TcpStream, packet: Option<usize>) -> io::Result<usize> {
        // Nothing in between can panic.
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.front_mut() else {
            return Err(io::Error::other("a stand without its window"));
        };
        let sent = match packet {
            Some(size) => window.send_packet(stream, size),
            None => window.send(stream),
        };
        let sent = match sent? {
            // Shorter than it was: the connection is cut, never padded.
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            sent => sent,
        };
        (window.at, window.len) = (window.at + sent as u64, window.len - sent);
        if window.len == 0 {
            windows.pop_front();
        }
        Ok(sent)
    }
}

impl Stand {
    /// Bytes that are still to be sent.
    pub(crate) const fn left(&self) -> usize {
        self.0
    }

    pub(crate) fn as_slice(&self) -> &'static [u8] {
        STAND.get(..self.0).unwrap_or_default()
    }

    pub(crate) const fn advance(&mut self, count: usize) {
        self.0 -= count;
    }
}

fn is_stand(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::ptr::eq(bytes.as_ptr(), STAND.as_ptr())
}

impl Wire {
    pub(crate) const fn new(stream: TcpStream, lane: Lane, patience: Duration) -> Self {
        Self { stream, lane, patience, stalled: None, packet: None }
    }

    /// Bytes of a packet, if packets must be few.
    fn packet(&mut self) -> io::Result<Option<usize>> {
        if self.packet.is_none() && self.lane.is_narrow.load(Ordering::Relaxed) {
            self.packet = Some(narrow(&self.stream)?);
        }
        Ok(self.packet)
    }

    /// Writes by other means than the stream's own, when the socket takes something.
    fn poll_by(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_io(Interest::WRITABLE, || write(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Bounds what is on its way over this connection to three packets, and returns how many bytes make one.
///
/// The socket takes a packet while its queue has room, so the smallest queue that Linux allows, 4608 bytes with what it keeps
/// about each packet, holds three.
fn narrow(stream: &TcpStream) -> io::Result<usize> {
    setsockopt(stream, sockopt::SndBuf, &0)?;
    let segment = getsockopt(stream, sockopt::TcpMaxSeg)?;
    Ok(usize::try_from(segment).unwrap_or(ETHERNET_SEGMENT).clamp(1, ETHERNET_SEGMENT))
}

/// Sends at most `size` bytes, marked as the end of a record. Without the mark Linux adds what comes next to a packet that has not left yet,
/// up to half the client's window, and does not ask whether the queue has room.
fn send_packet(stream: &TcpStream, bytes: &[u8], size: usize) -> io::Result<usize> {
    let bytes = &bytes[..bytes.len().min(size)];
    Ok(send(stream.as_raw_fd(), bytes, MsgFlags::MSG_EOR | MsgFlags::MSG_NOSIGNAL)?)
}

impl Window {
    fn send(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut at = self.at.cast_signed();
        Ok(sendfile64(stream, &self.file, Some(&mut at), self.len)?)
    }

    fn send_packet(&self, stream: &TcpStream, size: usize) -> io::Result<usize> {
        let mut bytes = [0; ETHERNET_SEGMENT];
        let read = self.file.read_at(&mut bytes[..size.min(self.len)], self.at)?;
        if read == 0 { Ok(0) } else { send_packet(stream, &bytes[..read], size) }
    }
}

/// TCP's payload in a full frame.
const ETHERNET_SEGMENT: usize = 1460;

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let packet = self.packet()?;
        let plain = buffers.iter().take_while(|bytes| !is_stand(bytes)).count();
        let written = match plain {
            0 if !buffers.is_empty() => self.poll_by(context, |stream| self.lane.send(stream, packet)),
            0 => Poll::Ready(Ok(0)),
            _ => match packet {
                Some(size) => self.poll_by(context, |stream| send_packet(stream, &buffers[0], size)),
                None => Pin::new(&mut self.stream).poll_write_vectored(context, &buffers[..plain]),
            },
        };
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
