//! One TFTP transfer as a state machine: bytes and the time go in, what to send and when to come back come out.
//!
//! The promise: no packet makes it panic, a transfer sends a bounded number of bytes for what the client acknowledges,
//! and everything it does follows from its arguments, so each trap of real firmware is a test with explicit times.
//! [`ReadRequest`] parses what a client asks, [`ReadRequest::negotiate`] settles the options, [`Transfer`] is the
//! server's side of one download and [`Fetch`] the client's.
//!
//! Blocks are counted in `u64` from 1; the 16 bits of the wire exist only while encoding and decoding, so a file has
//! no size at which something rolls over.
//!
//! Deliberately not here: sockets, files, clocks, random numbers, writing to the server (RFC 1350 WRQ), `mail` mode,
//! multicast (RFC 2090), and the check of the peer's port (TID): connect the socket, and the kernel checks it. Packets
//! from foreign ports are therefore not answered with ERROR 5, which would only serve to reflect traffic.

mod fetch;
mod name;
pub mod netascii;
mod options;
mod packet;
mod request;
mod round_trip;
mod time;
mod transfer;
mod verdict;

pub use fetch::{Fetch, FetchError, FetchSend, Fetched, Wishes};
pub use name::{FileName, NameError};
pub use options::{Agreed, Answer, Asked, Limits};
pub use packet::{ErrorCode, Packet, PacketError, data_header};
pub use request::{Mode, ReadRequest, RequestError};
pub use time::Now;
pub use transfer::Transfer;
pub use verdict::{Ignored, Outcome, Received, Repeated, Stats, Transmit};
