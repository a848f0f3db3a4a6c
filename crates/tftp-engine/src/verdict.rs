//! What a transfer says to its caller.

use crate::packet::ErrorCode;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transmit {
    /// The OACK of [`crate::Agreed::oack`].
    Oack,
    /// Some consecutive blocks. Block `n` holds the bytes from `(n - 1) * block_size` on.
    Blocks {
        /// The first block's index, from 1.
        first: u64,
        /// How many; at most the window.
        count: u16,
    },
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client acknowledged the last block.
    Complete,
    /// The client only wanted to know the size: ERROR 8 (EDK2) or 0 (pxelinux, GRUB) before its first ACK.
    SizeProbe,
    /// The client gave up and said so.
    Aborted(ErrorCode),
    /// No answer came to the first packet: the request's source was forged, or the client left.
    Unproven,
    /// The client was silent for longer than its patience allows.
    Stalled,
    /// The client's port is closed.
    Gone,
    /// The client started anew from the same port.
    Replaced,
}

/// What a packet meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The client has more than before.
    Progress,
    /// The client misses a part of the window (RFC 7440 §4); it is sent again.
    Gap,
    /// The client ended the transfer.
    Ended,
    /// Nothing follows from it.
    Ignored(Ignored),
}

/// Why nothing follows from a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// An ACK that says what was known: answering it would double every packet from here on (Sorcerer's Apprentice).
    Duplicate,
    /// An ACK for a block that is long acknowledged, or was never sent.
    Stale,
    /// No ACK and no ERROR.
    Foreign,
    /// The transfer has ended.
    Late,
}

/// What to do about a read request from the client's own port while its transfer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// Poll; the first packet may be due again.
    Poll,
    /// A copy made by the network.
    Ignore,
    /// Drop this transfer, whose outcome is now [`Outcome::Replaced`], and start the request's: UEFI and the ROMs of
    /// the Raspberry Pi use one port for all their requests.
    Replace,
}

/// Counts of one transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// DATA packets sent, each time counted.
    pub blocks_sent: u64,
    /// Of these, those that had been sent before.
    pub blocks_resent: u64,
    /// Times that the wait for an ACK ran out.
    pub timeouts: u32,
    /// Times that the client reported a gap. Many of them tell of a network card with fewer buffers than the window.
    pub gaps: u32,
    /// Packets ignored.
    pub ignored: u32,
}
