//! A response's body: bytes in memory or windows of a file, counted as the network takes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use boot_model::turn;
use hyper::body::{Buf, Bytes, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Sleep, sleep};

use crate::blob::Payload;
use crate::delivery::Delivery;
use crate::line::{Slot, Turn};
use crate::span::Span;
use crate::wire::{Lane, Stand};

/// The body of every response.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
    delivery: Arc<Delivery>,
}

/// A piece of a body. Hyper advances it by what the socket took, and so the delivery knows how far it came.
#[derive(Debug)]
pub(crate) struct Piece {
    content: PieceContent,
    delivery: Arc<Delivery>,
}

#[derive(Debug)]
enum PieceContent {
    Bytes(Bytes),
    Stand(Stand),
}

#[derive(Debug)]
enum State {
    Bytes(Bytes),
    Span(Span, Lane),
    /// Not its client's turn yet.
    Waiting(Box<Waiting>),
    /// The next window is not in memory: a thread that may wait for the disk reads it.
    Warming(JoinHandle<io::Result<Span>>, Lane),
    Ended,
}

/// What waits for its turn gets a little now and then ([`turn`]); 300 clients take 5 Mbit/s.
#[derive(Debug)]
struct Waiting {
    span: Span,
    lane: Lane,
    turn: oneshot::Receiver<Slot>,
    next: Pin<Box<Sleep>>,
}

impl Body {
    /// Sends `payload` over the connection that `lane` belongs to, when its turn has come.
    pub(crate) fn new(payload: Payload, lane: Lane, turn: Option<Turn>, delivery: Arc<Delivery>) -> Self {
        let state = match payload {
            Payload::Bytes(bytes) if bytes.is_empty() => State::Ended,
            Payload::Bytes(bytes) => State::Bytes(bytes),
            Payload::Span(span) => match turn {
                Some(Turn::Later(turn)) => {
                    let next = Box::pin(sleep(turn::PAUSE));
                    State::Waiting(Box::new(Waiting { span, lane, turn, next }))
                }
                Some(Turn::Now(slot)) => {
                    delivery.begins(slot);
                    State::Span(span, lane)
                }
                None => State::Span(span, lane),
            },
        };
        Self { state, delivery }
    }

    /// A body of these bytes.
    pub(crate) fn of(bytes: impl Into<Bytes>, delivery: Arc<Delivery>) -> Self {
        Self::new(Payload::Bytes(bytes.into()), Lane::default(), None, delivery)
    }

    /// The next window follows only when this one has gone: one a client is on its way.
    fn window(&mut self, mut span: Span, lane: Lane) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let stand = lane.push(span.take(Span::WINDOW));
        if span.left() > 0 {
            self.state = State::Span(span, lane);
        }
        self.piece(PieceContent::Stand(stand))
    }

    /// What keeps a client that waits from giving up.
    fn morsel(
        &mut self,
        mut waiting: Box<Waiting>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Piece>>>> {
        if waiting.next.as_mut().poll(context).is_pending() {
            self.state = State::Waiting(waiting);
            return Poll::Pending;
        }
        let stand = waiting.lane.push(waiting.span.take(turn::MORSEL));
        if waiting.span.left() > 0 {
            waiting.next.as_mut().reset(Instant::now() + turn::PAUSE);
            self.state = State::Waiting(waiting);
        }
        self.piece(PieceContent::Stand(stand))
    }

    fn piece(&self, content: PieceContent) -> Poll<Option<io::Result<Frame<Piece>>>> {
        Poll::Ready(Some(Ok(Frame::data(Piece { content, delivery: Arc::clone(&self.delivery) }))))
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
                State::Bytes(bytes) => return self.piece(PieceContent::Bytes(bytes)),
                State::Span(span, lane) if !span.is_warm() => {
                    self.state = State::Warming(spawn_blocking(move || span.warm()), lane);
                }
                State::Span(span, lane) => return self.window(span, lane),
                State::Waiting(mut waiting) => match Pin::new(&mut waiting.turn).poll(context) {
                    Poll::Ready(slot) => {
                        self.delivery.begins(slot.map_err(io::Error::other)?);
                        self.state = State::Span(waiting.span, waiting.lane);
                    }
                    Poll::Pending => return self.morsel(waiting, context),
                },
                State::Warming(mut read, lane) => {
                    let Poll::Ready(read) = Pin::new(&mut read).poll(context) else {
                        self.state = State::Warming(read, lane);
                        return Poll::Pending;
                    };
                    // Not asked again whether it is warm: where memory is short that might never end.
                    return self.window(read.map_err(io::Error::other).flatten()?, lane);
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            State::Span(span, _) => SizeHint::with_exact(span.left()),
            State::Waiting(waiting) => SizeHint::with_exact(waiting.span.left()),
            State::Warming(..) => SizeHint::default(),
            State::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match &self.content {
            PieceContent::Bytes(bytes) => bytes.len(),
            PieceContent::Stand(stand) => stand.left(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.content {
            PieceContent::Bytes(bytes) => bytes,
            PieceContent::Stand(stand) => stand.as_slice(),
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.content {
            PieceContent::Bytes(bytes) => bytes.advance(count),
            PieceContent::Stand(stand) => stand.advance(count),
        }
        self.delivery.took(count);
    }
}
