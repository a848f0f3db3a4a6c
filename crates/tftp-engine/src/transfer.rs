//! The server's side of one download.

use std::time::Duration;

use crate::options::Agreed;
use crate::packet::{ErrorCode, Packet};
use crate::round_trip::RoundTrip;
use crate::time::Now;
use crate::verdict::{Ignored, Outcome, Received, Repeated, Stats, Transmit};

/// One download, from the answer to the read request to its [`Outcome`].
///
/// After [`Transfer::new`], and after each call of a method whose name begins with `on_`, call [`Transfer::poll`] until
/// it returns `None`, then wait for a packet, at most until [`Transfer::next_deadline`]. Once [`Transfer::outcome`] is
/// `Some`, nothing more is sent.
///
/// An ERROR is never sent: what can fail (the file, the options) has to be tried before. After an OACK pxelinux takes
/// an ERROR for silence and hangs, and an ERROR in answer to an ERROR has no end.
#[derive(Clone, Debug)]
pub struct Transfer {
    phase: Phase,
    /// Whether an OACK opens the transfer.
    oack: bool,
    size: u64,
    block_size: u64,
    last_block: u64,
    /// All blocks up to this one have arrived.
    acked: u64,
    window: u64,
    patience: Duration,
    started: Now,
    /// Until then the same request again is a copy or a straggler, not a wish.
    copies_until: Now,
    round_trip: RoundTrip,
    stats: Stats,
}

#[derive(Clone, Debug)]
enum Phase {
    Proving(Proving),
    Sending(Sending),
    Ended(Outcome),
}

/// Nothing shows yet that the client exists: a forged source must not cost its victim more than three packets.
#[derive(Clone, Debug)]
struct Proving {
    sends: u32,
    sent_at: Now,
    due: bool,
}

/// The client has answered.
#[derive(Clone, Debug)]
struct Sending {
    /// The next block to send; above `Transfer::acked`.
    next: u64,
    /// The highest block sent so far.
    highest: u64,
    sent_at: Now,
    progress_at: Now,
    /// Every block since `Transfer::acked` was sent once, so the ACK's time is a measurement.
    clean: bool,
    /// The window before this one was sent more than once, so ACKs of its copies may still arrive.
    echoes: bool,
    /// The `Transfer::acked` at which a gap was last repaired.
    repaired: Option<u64>,
}

impl Transfer {
    /// Starts the answer to a request for a file of `size` bytes that arrived at `now`.
    #[must_use]
    pub fn new(now: Now, agreed: &Agreed, size: u64) -> Self {
        let block_size = u64::from(agreed.block_size.max(1));
        Self {
            phase: Phase::Proving(Proving { sends: 0, sent_at: now, due: true }),
            oack: !agreed.answers.is_empty(),
            // A file that fills its last block is followed by an empty one (RFC 1350 §6).
            last_block: size / block_size + 1,
            size,
            block_size,
            acked: 0,
            window: agreed.window.max(1).into(),
            patience: agreed.patience,
            started: now,
            copies_until: now + COPY,
            round_trip: RoundTrip::new(agreed.timeout),
            stats: Stats::default(),
        }
    }

    /// Takes in a packet from the client.
    pub fn on_packet(&mut self, now: Now, bytes: &[u8]) -> Received {
        let received = match (Packet::parse(bytes), &self.phase) {
            (_, Phase::Ended(_)) => Received::Ignored(Ignored::Late),
            (Ok(Packet::Ack { block }), Phase::Proving(_)) => self.on_first_ack(now, block),
            (Ok(Packet::Ack { block }), Phase::Sending(_)) => self.on_ack(now, block),
            (Ok(Packet::Error { code, .. }), phase) => {
                let probe =
                    matches!(phase, Phase::Proving(_)) && matches!(code, ErrorCode::UNDEFINED | ErrorCode::OPTIONS);
                self.phase = Phase::Ended(if probe { Outcome::SizeProbe } else { Outcome::Aborted(code) });
                Received::Ended
            }
            _ => Received::Ignored(Ignored::Foreign),
        };
        if matches!(received, Received::Ignored(_)) {
            self.stats.ignored = self.stats.ignored.saturating_add(1);
        }
        received
    }

    /// Takes in that [`Transfer::next_deadline`] may have passed; harmless if it has not.
    pub fn on_timer(&mut self, now: Now) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.phase {
            Phase::Proving(proving) if proving.sends < MOST_UNPROVEN_SENDS && now < self.started + self.patience => {
                proving.due = true;
            }
            Phase::Proving(_) => self.phase = Phase::Ended(Outcome::Unproven),
            Phase::Sending(sending) if now >= sending.progress_at + self.patience => {
                self.phase = Phase::Ended(Outcome::Stalled);
            }
            Phase::Sending(sending) => {
                sending.rewind(self.acked);
                self.round_trip.timed_out();
                self.stats.timeouts = self.stats.timeouts.saturating_add(1);
            }
            Phase::Ended(_) => {}
        }
    }

    /// Takes in that the network said the client's port is closed (ICMP).
    pub fn on_unreachable(&mut self) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(Outcome::Gone);
        }
    }

    /// Takes in another read request from the client's own port; `same` if its bytes are those that began this
    /// transfer. Packets that arrived before it have to be handed to [`Transfer::on_packet`] first.
    pub fn on_request(&mut self, now: Now, same: bool) -> Repeated {
        let copy = same && now < self.copies_until;
        self.copies_until = now + COPY;
        if copy {
            return if matches!(self.phase, Phase::Ended(_)) { Repeated::Replace } else { Repeated::Ignore };
        }
        match &mut self.phase {
            Phase::Proving(proving) if same => {
                // The Raspberry Pi stumbles over a doubled OACK (raspberrypi/firmware#1041).
                if now.since(proving.sent_at) < COPY || proving.sends == MOST_UNPROVEN_SENDS {
                    return Repeated::Ignore;
                }
                proving.due = true;
                Repeated::Poll
            }
            phase => {
                if !matches!(phase, Phase::Ended(_)) {
                    *phase = Phase::Ended(Outcome::Replaced);
                }
                Repeated::Replace
            }
        }
    }

    /// What to send now. Call again until `None`.
    pub fn poll(&mut self, now: Now) -> Option<Transmit> {
        match &mut self.phase {
            Phase::Proving(proving) => {
                if !std::mem::take(&mut proving.due) {
                    return None;
                }
                proving.sends += 1;
                proving.sent_at = now;
                if self.oack {
                    return Some(Transmit::Oack);
                }
                self.stats.blocks_sent += 1;
                self.stats.blocks_resent += u64::from(proving.sends > 1);
                Some(Transmit::Blocks { first: 1, count: 1 })
            }
            Phase::Sending(sending) => {
                let first = sending.next;
                let last = (self.acked + self.window).min(self.last_block);
                if first > last {
                    return None;
                }
                self.stats.blocks_sent += last - first + 1;
                self.stats.blocks_resent += (sending.highest + 1).min(last + 1).saturating_sub(first);
                sending.clean &= first > sending.highest;
                sending.highest = sending.highest.max(last);
                sending.next = last + 1;
                sending.sent_at = now;
                // The window came from 16 bits.
                Some(Transmit::Blocks { first, count: u16::try_from(last - first + 1).unwrap_or(u16::MAX) })
            }
            Phase::Ended(_) => None,
        }
    }

    /// When to call [`Transfer::on_timer`]; `None` once the transfer has ended.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        match &self.phase {
            Phase::Proving(proving) => {
                let wait = if self.round_trip.is_fixed() {
                    self.round_trip.wait()
                } else {
                    UNPROVEN_WAIT * (1 << proving.sends.saturating_sub(1))
                };
                Some((proving.sent_at + wait).min(self.started + self.patience))
            }
            Phase::Sending(sending) => {
                let give_up = sending.progress_at + self.patience;
                Some((sending.sent_at + self.round_trip.wait()).min(give_up))
            }
            Phase::Ended(_) => None,
        }
    }

    /// How it ended; `None` while it lasts.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Ended(outcome) => Some(outcome),
            Phase::Proving(_) | Phase::Sending(_) => None,
        }
    }

    /// What happened so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes of the file that the client has acknowledged.
    #[must_use]
    pub fn bytes_acknowledged(&self) -> u64 {
        self.acked.saturating_mul(self.block_size).min(self.size)
    }

    /// The mean time from a window to its ACK, once measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.mean()
    }

    fn on_first_ack(&mut self, now: Now, block: u16) -> Received {
        let Phase::Proving(proving) = &self.phase else { return Received::Ignored(Ignored::Late) };
        let acked = u64::from(!self.oack);
        if u64::from(block) != acked || proving.sends == 0 {
            return Received::Ignored(Ignored::Stale);
        }
        if proving.sends == 1 {
            self.round_trip.sample(now.since(proving.sent_at));
        }
        // A client that asked again just before our answer came may see its request arrive after its ACK.
        self.copies_until = now + COPY;
        self.acked = acked;
        self.phase = Phase::Sending(Sending {
            next: acked + 1,
            highest: acked,
            sent_at: now,
            progress_at: now,
            clean: true,
            echoes: proving.sends > 1,
            repaired: None,
        });
        self.end_if_complete();
        Received::Progress
    }

    fn on_ack(&mut self, now: Now, block: u16) -> Received {
        let Phase::Sending(sending) = &mut self.phase else { return Received::Ignored(Ignored::Late) };
        // 16 bits are enough to tell the blocks on the way apart: the window is far smaller.
        #[expect(clippy::cast_possible_truncation, reason = "serial arithmetic on the wire's 16 bits")]
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        if ahead > sending.highest - self.acked {
            return Received::Ignored(Ignored::Stale);
        }
        let since_sent = now.since(sending.sent_at);
        let too_soon = since_sent < self.round_trip.too_soon();
        if ahead == 0 {
            // A client whose window is one block has nothing to report but this ACK again.
            let again = sending.repaired == Some(self.acked) || sending.echoes;
            let echo = again && since_sent < self.round_trip.wait() / 2;
            if self.window == 1 || too_soon || echo {
                return Received::Ignored(Ignored::Duplicate);
            }
            sending.repaired = Some(self.acked);
            sending.rewind(self.acked);
            self.stats.gaps = self.stats.gaps.saturating_add(1);
            return Received::Gap;
        }
        self.acked += ahead;
        sending.progress_at = now;
        sending.next = sending.next.max(self.acked + 1);
        self.round_trip.progress();
        let whole = self.acked == sending.highest;
        if whole && sending.clean {
            self.round_trip.sample(since_sent);
        }
        sending.echoes = !sending.clean;
        sending.clean = true;
        if whole || too_soon {
            self.end_if_complete();
            return Received::Progress;
        }
        sending.rewind(self.acked);
        self.stats.gaps = self.stats.gaps.saturating_add(1);
        Received::Gap
    }

    fn end_if_complete(&mut self) {
        if self.acked == self.last_block {
            self.phase = Phase::Ended(Outcome::Complete);
        }
    }
}

impl Sending {
    /// Back to the first block that the client does not have.
    fn rewind(&mut self, acked: u64) {
        self.next = acked + 1;
        self.clean = false;
    }
}

/// The first packet goes out at 0, 1 and 3 seconds, the client's last chance ends at 7.
const MOST_UNPROVEN_SENDS: u32 = 3;
const UNPROVEN_WAIT: Duration = Duration::from_secs(1);
/// No client asks again this fast; the network made a copy.
const COPY: Duration = Duration::from_millis(200);
