//! A file of the server as one stream of bytes, whatever happens to the connection: it goes on by Range where it was cut off.
//!
//! Every wait has a deadline: a connection that stands still is given up and opened again, with full jitter between attempts, and
//! after a time in which nothing was heard from the server by any stream the whole fetch is given up. A server that is busy says
//! when to come again (503 with Retry-After), as often as it takes: it is alive, and a large room may need an hour. Whoever says 503
//! without a time, as a proxy does whose server is gone, has a deadline of its own.

use std::{
    io::{self, Read as _},
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use boot_model::turn;
use ureq::{Agent, BodyReader, http::Response};

use super::FetchOptions;
use crate::{backoff::Backoff, console};

/// Why a stream ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StreamError {
    /// Nothing was heard for too long.
    #[error("{url}: {cause} (tried for {})", console::span(*waited))]
    Unreachable { url: String, cause: String, waited: Duration },
    /// The server answers, and not with this file.
    #[error("{url}: the server answered {status}")]
    Status { url: String, status: u16 },
    /// It has another length than it must have.
    #[error("{url} has {found} bytes, not {expected}")]
    Length { url: String, expected: u64, found: u64 },
    /// Another part of the fetch failed; that is what is reported.
    #[error("given up")]
    Stopped,
}

/// The way to one server, shared by all streams.
pub(super) struct Server {
    agent: Agent,
    base: String,
    patience: Duration,
    begun: Instant,
    /// Milliseconds since `begun` at which something was last heard from the server: bytes, or a request to wait.
    heard: AtomicU64,
    /// The same, without requests to wait that name no time.
    arrived: AtomicU64,
    /// The same clock, 1 more than when the console was last told why nothing comes; 0 if it never was.
    told: AtomicU64,
    /// Streams that the server has told to wait for this client's turn.
    queued: AtomicUsize,
    /// How often a stream that waited has heard that the turn has come.
    turns: AtomicU64,
    stopped: AtomicBool,
}

/// One file on its way.
pub(super) struct Stream<'a> {
    server: &'a Server,
    url: String,
    /// Bytes of the whole file.
    length: u64,
    offset: u64,
    /// Where the part that is wanted ends.
    end: u64,
    body: Option<BodyReader<'static>>,
    /// While it is not our turn.
    queued: Option<Queued<'a>>,
    /// The server's last answer was to come again; how many turns had come when it was asked.
    refused: Option<u64>,
    backoff: Backoff,
}

/// A stream that waits for this client's turn, counted as one for as long as it does.
struct Queued<'a> {
    server: &'a Server,
    /// Bytes since the last pause.
    unbroken: usize,
}

/// An open connection on which nothing moves for so long is opened again.
const STALL: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// The longest that a busy server's wish is followed: what it cannot know is how long its other clients need.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often a waiting stream looks whether the fetch was given up.
const LOOK: Duration = Duration::from_millis(100);
/// How often a person at the console is told that it does not go forward, and why.
const TELL: Duration = Duration::from_secs(10);

/// So long without a byte is the pause before a morsel, not the network's jitter.
const LULL: Duration = Duration::from_secs(1);

/// How one attempt to open the file ended.
enum Opened {
    Body(BodyReader<'static>, Turn),
    Busy(Option<Duration>),
    Unreachable(String),
}

/// When the bytes of an answer come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    Later,
}

impl Server {
    /// The server with the address `server`, given up when it is silent for `patience`. `streams` files are fetched at once.
    pub(super) fn new(server: impl std::fmt::Display, patience: Duration, streams: usize) -> Self {
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT.min(patience)))
            .timeout_recv_response(Some(STALL.min(patience)))
            .timeout_per_read(Some(STALL.min(patience)))
            .timeout_per_write(Some(STALL.min(patience)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections_per_host(streams)
            .accept_encoding("identity")
            .proxy(None)
            .user_agent(concat!("rookery-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let [heard, arrived, told, turns] = [0; 4].map(AtomicU64::new);
        let base = format!("http://{server}/");
        let (queued, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { agent, base, patience, begun: Instant::now(), heard, arrived, told, queued, turns, stopped }
    }

    /// Begins a file of `length` bytes; nothing is asked before it is read.
    pub(super) fn stream(&self, path: &str, length: u64) -> Stream<'_> {
        self.range(path, length, 0..length)
    }

    /// Begins with a part of a file of `length` bytes.
    pub(super) fn range(&self, path: &str, length: u64, part: Range<u64>) -> Stream<'_> {
        let url = format!("{}{path}", self.base);
        let end = part.end.min(length);
        let offset = part.start.min(end);
        let backoff = Backoff::default();
        Stream { server: self, url, length, offset, end, body: None, queued: None, refused: None, backoff }
    }

    /// How long a file is that the server may have; `None` if it has not, or does not say so at once.
    pub(super) fn length_of(&self, path: &str) -> Option<u64> {
        let response = self.agent.head(format!("{}{path}", self.base)).call().ok()?;
        if response.status() != 200 {
            return None;
        }
        response.headers().get("content-length")?.to_str().ok()?.parse().ok()
    }

    /// Ends all streams.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Was it ended?
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Does a stream wait for this client's turn?
    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0
    }

    fn note(&self, clock: &AtomicU64) {
        clock.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago that was.
    fn since(&self, clock: &AtomicU64) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(clock.load(Ordering::Relaxed)))
    }

    /// How long it may still be waited for the server.
    fn left(&self) -> Duration {
        let silent = self.patience.saturating_sub(self.since(&self.heard));
        silent.min(self.patience.max(FetchOptions::PATIENCE).saturating_sub(self.since(&self.arrived)))
    }

    /// Says on the console why nothing comes; once for all streams and all their attempts in a while.
    fn tell(&self, url: &str, cause: &str, delay: Duration) {
        let now = self.begun.elapsed().as_millis() as u64 + 1;
        let last = self.told.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= TELL.as_millis() as u64;
        if due && self.told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            console::say(&format!("rookery: {url}: {cause}; trying again in {:.1} s", delay.as_secs_f64()));
        }
    }

    /// Waits, unless the fetch is given up meanwhile.
    pub(super) fn sleep(&self, delay: Duration) -> Result<(), StreamError> {
        self.sleep_unless(delay, || false)
    }

    /// The same, at most until something holds.
    fn sleep_unless(&self, delay: Duration, holds: impl Fn() -> bool) -> Result<(), StreamError> {
        let until = Instant::now() + delay;
        loop {
            if self.is_stopped() {
                return Err(StreamError::Stopped);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || holds() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The client's turn has come: streams that were refused need not wait any more.
    fn turn_has_come(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }
}

impl<'a> Stream<'a> {
    /// A stream that is at its end.
    pub(super) fn nothing(like: &Self) -> Self {
        like.server.range("", 0, 0..0)
    }

    /// Reads some bytes; none at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        loop {
            if self.server.is_stopped() {
                return Err(StreamError::Stopped);
            }
            let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buffer.len());
            if left == 0 {
                self.end();
                return Ok(0);
            }
            let Some(body) = &mut self.body else {
                self.open()?;
                continue;
            };
            let asked = Instant::now();
            let cause = match body.read(&mut buffer[..left]) {
                Ok(0) => format!("the connection ended after {} of {} bytes", self.offset, self.length),
                Ok(read) => {
                    self.offset += read as u64;
                    self.server.note(&self.server.heard);
                    self.server.note(&self.server.arrived);
                    self.backoff.reset();
                    if self.queued.as_mut().is_some_and(|queued| queued.is_over(read, asked.elapsed())) {
                        self.queued = None;
                        self.server.turn_has_come();
                    }
                    return Ok(read);
                }
                Err(error) => error.to_string(),
            };
            (self.body, self.queued) = (None, None);
            self.wait(cause, None)?;
        }
    }

    /// Reads all of it into memory.
    pub(super) fn read_all(mut self) -> Result<Vec<u8>, StreamError> {
        let mut bytes = vec![0; usize::try_from(self.end - self.offset).unwrap_or_default()];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        self.end();
        Ok(bytes)
    }

    /// Takes the end of the answer, so that the connection serves the next request.
    fn end(&mut self) {
        self.queued = None;
        if let Some(mut body) = self.body.take() {
            let _ = body.read(&mut [0]);
        }
    }

    fn open(&mut self) -> Result<(), StreamError> {
        let turns = self.server.turns();
        match self.request()? {
            Opened::Body(body, turn) => {
                self.body = Some(body);
                self.queued = (turn == Turn::Later).then(|| Queued::at(self.server));
                self.server.note(&self.server.heard);
                if self.refused.take().is_some() && turn == Turn::Now {
                    self.server.turn_has_come();
                }
                Ok(())
            }
            Opened::Busy(after) => {
                self.refused = Some(turns);
                self.server.note(&self.server.heard);
                if after.is_some() {
                    self.server.note(&self.server.arrived);
                }
                let _queued = Queued::at(self.server);
                self.wait("the server serves others first".to_owned(), after)
            }
            Opened::Unreachable(cause) => {
                self.refused = None;
                self.wait(cause, None)
            }
        }
    }

    fn request(&self) -> Result<Opened, StreamError> {
        let mut request = self.server.agent.get(&self.url);
        if self.end < self.length {
            request = request.header("Range", format!("bytes={}-{}", self.offset, self.end - 1));
        } else if self.offset > 0 {
            request = request.header("Range", format!("bytes={}-", self.offset));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Opened::Unreachable(error.to_string())),
        };
        let status = response.status().as_u16();
        match status {
            200 | 206 => self.accept(response),
            429 | 503 => Ok(Opened::Busy(retry_after(&response))),
            500.. => Ok(Opened::Unreachable(format!("the server answered {status}"))),
            _ => Err(StreamError::Status { url: self.url.clone(), status }),
        }
    }

    /// Checks that the answer is what is missing of the file, and takes what is not.
    fn accept(&self, response: Response<ureq::Body>) -> Result<Opened, StreamError> {
        let (from, to) = if response.status() == 206 { (self.offset, self.end) } else { (0, self.length) };
        let length = response.body().content_length();
        if let Some(length) = length.filter(|length| from + length != to) {
            let url = self.url.clone();
            return Err(StreamError::Length { url, expected: to - from, found: length });
        }
        let turn = if response.headers().contains_key(turn::HEADER) { Turn::Later } else { Turn::Now };
        let mut body = response.into_body().into_reader();
        // A server that does not know ranges sends all of it again.
        match io::copy(&mut body.by_ref().take(self.offset - from), &mut io::sink()) {
            Ok(skipped) if skipped == self.offset - from => Ok(Opened::Body(body, turn)),
            Ok(_) => Ok(Opened::Unreachable("the connection ended early".to_owned())),
            Err(error) => Ok(Opened::Unreachable(error.to_string())),
        }
    }

    /// Waits before the next attempt, or gives up.
    fn wait(&mut self, cause: String, at_least: Option<Duration>) -> Result<(), StreamError> {
        let left = self.server.left();
        if left.is_zero() {
            return Err(StreamError::Unreachable { url: self.url.clone(), cause, waited: self.server.patience });
        }
        let delay = self.backoff.next_delay(crate::backoff::random());
        let delay = delay + at_least.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let delay = delay.min(left);
        self.server.tell(&self.url, &cause, delay);
        self.server.sleep_unless(delay, || self.refused.is_some_and(|turns| turns != self.server.turns()))
    }
}

impl<'a> Queued<'a> {
    fn at(server: &'a Server) -> Self {
        server.queued.fetch_add(1, Ordering::Relaxed);
        Self { server, unbroken: 0 }
    }

    /// Whether its turn has come, now that so many bytes were read after waiting so long: more than a morsel without a pause.
    fn is_over(&mut self, read: usize, waited: Duration) -> bool {
        self.unbroken = if waited < LULL { self.unbroken + read } else { read };
        self.unbroken > turn::MORSEL
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.server.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In seconds; the form with a date would need a clock that is right.
fn retry_after(response: &Response<ureq::Body>) -> Option<Duration> {
    response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
