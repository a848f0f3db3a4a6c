//! A response's body: read in chunks away from the reactor, counted as the network takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Buf, Bytes, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::blob::Reader;
use crate::delivery::Delivery;

/// The body of every response.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
    delivery: Arc<Delivery>,
}

/// A piece of a body. Hyper advances it by what the socket took, and so the delivery knows how far it came.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    delivery: Arc<Delivery>,
}

#[derive(Debug)]
enum State {
    /// These bytes, then what the reader still has.
    Ready(Bytes, Option<Reader>),
    Reading(JoinHandle<io::Result<(Bytes, Reader)>>),
    Ended,
}

impl Body {
    /// Sends `first` and then the rest from `reader`.
    pub(crate) fn new(first: Bytes, reader: Option<Reader>, delivery: Arc<Delivery>) -> Self {
        let reader = reader.filter(|reader| reader.left() > 0);
        let state = if first.is_empty() && reader.is_none() { State::Ended } else { State::Ready(first, reader) };
        Self { state, delivery }
    }

    fn piece(&mut self, bytes: Bytes, reader: Option<Reader>) -> Poll<Option<io::Result<Frame<Piece>>>> {
        // The next chunk is read only when this one has gone: one chunk a client is in memory.
        self.state = match reader.filter(|reader| reader.left() > 0) {
            Some(reader) => State::Ready(Bytes::new(), Some(reader)),
            None => State::Ended,
        };
        Poll::Ready(Some(Ok(Frame::data(Piece { bytes, delivery: Arc::clone(&self.delivery) }))))
    }
}

impl hyper::body::Body for Body {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, io::Error>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ready(bytes, reader) if !bytes.is_empty() => return self.piece(bytes, reader),
                State::Ready(_, Some(mut reader)) => {
                    self.state = State::Reading(spawn_blocking(move || reader.chunk().map(|bytes| (bytes, reader))));
                }
                State::Reading(mut read) => {
                    let Poll::Ready(read) = Pin::new(&mut read).poll(context) else {
                        self.state = State::Reading(read);
                        return Poll::Pending;
                    };
                    let (bytes, reader) = read.map_err(io::Error::other).flatten()?;
                    return self.piece(bytes, Some(reader));
                }
                State::Ready(_, None) | State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Ready(bytes, reader) => {
                SizeHint::with_exact(bytes.len() as u64 + reader.as_ref().map_or(0, Reader::left))
            }
            State::Reading(_) => SizeHint::default(),
            State::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.delivery.took(count);
    }
}
