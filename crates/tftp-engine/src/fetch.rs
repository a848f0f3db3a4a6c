//! The client's side of one download, for the verb `get` and for tests.

use std::time::Duration;

use crate::name::FileName;
use crate::options::{Agreed, Answer, Asked};
use crate::packet::{ErrorCode, Packet};
use crate::request::{Mode, ReadRequest};
use crate::time::Now;

/// One download as a client. Driven like [`crate::Transfer`]; the payload comes out of [`Fetch::on_packet`], in order
/// and once.
#[derive(Clone, Debug)]
pub struct Fetch {
    request: ReadRequest,
    agreed: Agreed,
    /// The server has answered, so its port is known.
    answered: bool,
    /// All blocks up to this one have arrived.
    received: u64,
    /// The last block acknowledged.
    acked: u64,
    /// A gap was reported, and nothing has arrived in order since.
    gap_reported: bool,
    bytes: u64,
    due: Option<FetchSend>,
    sent_at: Now,
    progress_at: Now,
    end: Option<Result<Fetched, FetchError>>,
}

/// The options to ask for. `tsize` is always asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `blksize`, in bytes; values that RFC 2348 does not allow are not asked.
    pub block_size: Option<u16>,
    /// `windowsize`, in blocks; 0 is not asked.
    pub window: Option<u16>,
    /// `timeout`, in seconds; 0 is not asked.
    pub timeout: Option<u8>,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum FetchSend {
    /// The request of [`Fetch::request`], to the server's well-known port.
    Request,
    /// An ACK, to the port that the server answered from, as all that follows.
    Ack {
        /// The index, whose low 16 bits go on the wire.
        block: u64,
    },
    /// ERROR 8: the server's OACK is not what was asked.
    RefuseOptions,
}

/// A download that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why a download failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server refused or gave up.
    #[error("the server answered ERROR {code}: {message}")]
    Server {
        /// The code of the ERROR packet.
        code: u16,
        /// Its text, escaped.
        message: String,
    },
    /// The OACK contained what was not asked.
    #[error("the server's OACK does not fit the request")]
    Options,
    /// Nothing new arrived for too long.
    #[error("no answer for {} seconds", .0.as_secs())]
    Silence(Duration),
    /// The file is not as long as `tsize` said.
    #[error("the file ended after {received} bytes, but the server had announced {announced}")]
    Length {
        /// What `tsize` said.
        announced: u64,
        /// What arrived.
        received: u64,
    },
    /// The server's port is closed.
    #[error("the server's port is closed")]
    Unreachable,
}

impl Fetch {
    /// Starts a download of `name` in octet mode.
    #[must_use]
    pub fn new(now: Now, name: FileName, wishes: Wishes) -> Self {
        let blksize = wishes.block_size.filter(|size| (8..=65464).contains(size)).map(Asked::BlockSize);
        let window = wishes.window.filter(|&blocks| blocks > 0).map(Asked::WindowSize);
        let timeout = wishes.timeout.filter(|&seconds| seconds > 0).map(Asked::Timeout);
        let options = [Some(Asked::TransferSize), blksize, timeout, window].into_iter().flatten().collect();
        Self {
            request: ReadRequest { name, mode: Mode::Octet, options },
            agreed: Agreed::default(),
            answered: false,
            received: 0,
            acked: 0,
            gap_reported: false,
            bytes: 0,
            due: Some(FetchSend::Request),
            sent_at: now,
            progress_at: now,
            end: None,
        }
    }

    /// The request that [`FetchSend::Request`] sends.
    #[must_use]
    pub const fn request(&self) -> &ReadRequest {
        &self.request
    }

    /// What the server agreed to so far: RFC 1350's values until its OACK has come.
    #[must_use]
    pub const fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Takes in a packet from the server and returns the bytes to append to the file, possibly none.
    pub fn on_packet<'a>(&mut self, now: Now, bytes: &'a [u8]) -> &'a [u8] {
        if self.end.is_some() {
            return &[];
        }
        match Packet::parse(bytes) {
            Ok(Packet::Data { block, payload }) => self.on_data(now, block, payload),
            Ok(Packet::Oack { options }) => {
                self.on_oack(now, options);
                &[]
            }
            Ok(Packet::Error { code, message }) => {
                self.end = Some(Err(FetchError::Server { code: code.0, message: message.escape_ascii().to_string() }));
                &[]
            }
            Ok(Packet::Ack { .. }) | Err(_) => &[],
        }
    }

    /// Takes in that [`Fetch::next_deadline`] may have passed.
    pub fn on_timer(&mut self, now: Now) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if now >= self.progress_at + PATIENCE {
            self.end = Some(Err(FetchError::Silence(PATIENCE)));
        } else if self.answered {
            self.gap_reported = false;
            self.acknowledge();
        } else {
            self.due = Some(FetchSend::Request);
        }
    }

    /// Takes in that the network said the server's port is closed (ICMP).
    pub fn on_unreachable(&mut self) {
        self.end.get_or_insert(Err(FetchError::Unreachable));
    }

    /// What to send now. Call again until `None`.
    pub fn poll(&mut self, now: Now) -> Option<FetchSend> {
        let send = self.due.take()?;
        self.sent_at = now;
        Some(send)
    }

    /// When to call [`Fetch::on_timer`]; `None` once it has ended.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        let wait = self.agreed.timeout.unwrap_or(INTERVAL);
        // Packets that arrive put the next resend off.
        self.end.is_none().then(|| (self.sent_at.max(self.progress_at) + wait).min(self.progress_at + PATIENCE))
    }

    /// How it ended; `None` while it lasts. Poll once more after the end: the last ACK lets the server go.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Result<Fetched, FetchError>> {
        self.end.as_ref()
    }

    fn on_oack(&mut self, now: Now, options: &[u8]) {
        if self.answered {
            // The ACK of the OACK was lost. Once there is data, an OACK is a straggler.
            if self.received == 0 {
                self.acknowledge();
            }
            return;
        }
        let Some(agreed) = Agreed::accept(&self.request.options, options) else {
            self.due = Some(FetchSend::RefuseOptions);
            self.end = Some(Err(FetchError::Options));
            return;
        };
        self.agreed = agreed;
        self.answered = true;
        self.progress_at = now;
        self.acknowledge();
    }

    fn on_data<'a>(&mut self, now: Now, block: u16, payload: &'a [u8]) -> &'a [u8] {
        // A server without options answers with DATA 1 at once.
        self.answered = true;
        #[expect(clippy::cast_possible_truncation, reason = "serial arithmetic on the wire's 16 bits")]
        let ahead = block.wrapping_sub(self.received as u16);
        let block_size = usize::from(self.agreed.block_size);
        if ahead != 1 || payload.len() > block_size {
            // A block after a lost one asks for the lost one, once. The last block again means that its ACK was lost.
            let gap = (2..=self.agreed.window).contains(&ahead) && !self.gap_reported;
            let repeated = ahead == 0 && self.received == self.acked;
            if gap || repeated {
                self.gap_reported |= gap;
                self.acknowledge();
            }
            return &[];
        }
        self.received += 1;
        self.gap_reported = false;
        self.bytes += payload.len() as u64;
        self.progress_at = now;
        let last = payload.len() < block_size;
        if last || self.received - self.acked >= self.agreed.window.into() {
            self.acknowledge();
        }
        if last {
            self.end = Some(self.check_length());
        }
        payload
    }

    fn acknowledge(&mut self) {
        self.acked = self.received;
        self.due = Some(FetchSend::Ack { block: self.received });
    }

    fn check_length(&self) -> Result<Fetched, FetchError> {
        let received = self.bytes;
        for answer in &self.agreed.answers {
            if let Answer::TransferSize(announced) = *answer
                && announced != received
            {
                return Err(FetchError::Length { announced, received });
            }
        }
        Ok(Fetched { bytes: received })
    }
}

impl FetchSend {
    /// The bytes of the packet; `request` is [`Fetch::request`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the wire has 16 bits")]
    pub fn encode(self, request: &ReadRequest) -> Vec<u8> {
        match self {
            Self::Request => request.encode(),
            Self::Ack { block } => Packet::Ack { block: block as u16 }.encode(),
            Self::RefuseOptions => {
                Packet::Error { code: ErrorCode::OPTIONS, message: b"options not as asked" }.encode()
            }
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
