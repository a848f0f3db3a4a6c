//! A connection's way out: bytes from memory as they come, and files by sendfile(2), in one order.
//!
//! Hyper writes what is in memory. A window of a file enters its queue as a [`Stand`]: as many bytes as the window has, of a slice
//! that nobody ever reads. When that slice comes to be written, the window at the head of the connection's [`Lane`] is sent
//! instead. So heads, ranges, pipelining and keep-alive stay hyper's, and no byte of a pack passes through this process.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::sendfile::sendfile64;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::span::{Span, Window};

/// The windows of files that hyper has in its queue, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lane(Arc<Mutex<VecDeque<Window>>>);

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
}

/// What stands are slices of. It is never read, so it takes no memory.
static STAND: [u8; Span::WINDOW] = [0; Span::WINDOW];

impl Lane {
    /// Sends the window when what this returns is written.
    pub(crate) fn push(&self, window: Window) -> Stand {
        let stand = Stand(window.len);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(window);
        stand
    }

    /// Sends of the first window what the socket takes now.
    fn send(&self, stream: &TcpStream) -> io::Result<usize> {
        // Nothing in between can panic.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.front_mut() else {
            return Err(io::Error::other("a stand without its window"));
        };
        let mut at = window.at.cast_signed();
        let sent = match sendfile64(stream, &window.file, Some(&mut at), window.len)? {
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
        Self { stream, lane, patience, stalled: None }
    }

    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_io(Interest::WRITABLE, || self.lane.send(&self.stream)) {
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
        let plain = buffers.iter().take_while(|bytes| !is_stand(bytes)).count();
        let written = match plain {
            0 if !buffers.is_empty() => self.poll_send(context),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, &buffers[..plain]),
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
