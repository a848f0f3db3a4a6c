//! The server's side as transcripts: at this millisecond this arrives, this leaves, and until then there is silence.
//! Each test is a trap that some loader or some network sets.

#![allow(clippy::unwrap_used, reason = "allow-unwrap-in-tests does not reach the helpers of an integration test")]

use std::time::Duration;

use tftp_engine::{Ignored, Limits, Now, Outcome, Packet, ReadRequest, Received, Repeated, Transfer, Transmit};

const OACK: Transmit = Transmit::Oack;
const LIMITS: Limits = Limits { block_size_max: 1468, window_max: 64, in_flight_max: 65_507, timeout_max: 10 };

const fn blocks(first: u64, count: u16) -> Transmit {
    Transmit::Blocks { first, count }
}

fn at(ms: u64) -> Now {
    Now::after_origin(Duration::from_millis(ms))
}

struct Transcript {
    transfer: Transfer,
}

impl Transcript {
    /// A request with these options arrives at 0 for a file of `size` bytes.
    fn begin(options: &str, size: u64, leaves: &[Transmit]) -> Self {
        let request = ReadRequest::parse(format!("\0\u{1}f\0octet\0{options}").as_bytes()).unwrap();
        let agreed = request.negotiate(&LIMITS, size);
        let mut transcript = Self { transfer: Transfer::new(at(0), &agreed, size) };
        transcript.leaves(0, leaves);
        transcript
    }

    fn leaves(&mut self, ms: u64, expected: &[Transmit]) {
        let sent: Vec<Transmit> = std::iter::from_fn(|| self.transfer.poll(at(ms))).collect();
        assert_eq!(sent, expected, "at {ms} ms");
    }

    fn arrives(&mut self, ms: u64, packet: &[u8], meaning: Received, leaves: &[Transmit]) {
        assert_eq!(self.transfer.on_packet(at(ms), packet), meaning, "at {ms} ms");
        self.leaves(ms, leaves);
    }

    fn ack(&mut self, ms: u64, block: u64, meaning: Received, leaves: &[Transmit]) {
        #[expect(clippy::cast_possible_truncation, reason = "the wire has 16 bits")]
        let packet = Packet::Ack { block: block as u16 }.encode();
        self.arrives(ms, &packet, meaning, leaves);
    }

    /// Nothing happens before `ms`, then this leaves.
    fn timer(&mut self, ms: u64, leaves: &[Transmit]) {
        assert_eq!(self.transfer.next_deadline(), Some(at(ms)), "silence until {ms} ms");
        self.transfer.on_timer(at(ms - 1));
        self.leaves(ms - 1, &[]);
        self.transfer.on_timer(at(ms));
        self.leaves(ms, leaves);
    }

    fn ends(mut self, outcome: Outcome) {
        assert_eq!(self.transfer.outcome(), Some(&outcome));
        assert_eq!(self.transfer.next_deadline(), None);
        self.ack(1_000_000, 1, Received::Ignored(Ignored::Late), &[]);
    }
}

const DUPLICATE: Received = Received::Ignored(Ignored::Duplicate);
const STALE: Received = Received::Ignored(Ignored::Stale);

#[test]
fn a_file_of_two_blocks_to_pxelinux() {
    let mut t = Transcript::begin("tsize\x000\0blksize\x001408\0", 2000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    t.ack(2, 1, Received::Progress, &[blocks(2, 1)]);
    t.ack(3, 2, Received::Progress, &[]);
    t.ends(Outcome::Complete);
}

/// The Raspberry Pi's ROM asks nothing; RFC 1350 then begins with DATA 1.
#[test]
fn without_options_data_comes_first() {
    let mut t = Transcript::begin("", 512, &[blocks(1, 1)]);
    t.ack(1, 0, STALE, &[]);
    t.ack(1, 1, Received::Progress, &[blocks(2, 1)]);
    t.ack(2, 2, Received::Progress, &[]);
    t.ends(Outcome::Complete);
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let mut t = Transcript::begin("", 0, &[blocks(1, 1)]);
    t.ack(1, 1, Received::Progress, &[]);
    t.ends(Outcome::Complete);
}

/// A forged source must not cost its victim more than three packets.
#[test]
fn three_oacks_to_a_source_that_never_answers() {
    let mut t = Transcript::begin("tsize\x000\0", 9, &[OACK]);
    t.timer(1000, &[OACK]);
    t.timer(3000, &[OACK]);
    t.timer(7000, &[]);
    t.ends(Outcome::Unproven);
}

#[test]
fn three_first_blocks_to_a_source_that_never_answers() {
    let mut t = Transcript::begin("", 9000, &[blocks(1, 1)]);
    t.timer(1000, &[blocks(1, 1)]);
    t.timer(3000, &[blocks(1, 1)]);
    t.timer(7000, &[]);
    t.ends(Outcome::Unproven);
}

/// RFC 2349 fixes the interval; the count of unproven packets stays.
#[test]
fn the_timeout_that_u_boot_asks_holds_throughout() {
    let mut t = Transcript::begin("timeout\x005\0tsize\x000\0blksize\x001468\0", 9000, &[OACK]);
    t.timer(5000, &[OACK]);
    t.ack(5001, 0, Received::Progress, &[blocks(1, 1)]);
    t.timer(10_001, &[blocks(1, 1)]);
    t.timer(15_001, &[blocks(1, 1)]);
    t.ack(15_002, 1, Received::Progress, &[blocks(2, 1)]);
    t.timer(20_002, &[blocks(2, 1)]);
}

/// GRUB goes back to block 0 at any OACK, so none follows ACK 0, whatever arrives.
#[test]
fn no_oack_after_ack_0() {
    let mut t = Transcript::begin("blksize\x001024\0tsize\x000\0", 9000, &[OACK]);
    t.timer(1000, &[OACK]);
    t.ack(1001, 0, Received::Progress, &[blocks(1, 1)]);
    t.ack(1002, 0, DUPLICATE, &[]);
    // The first OACK was sent twice, so its time is no measurement: a second, then double.
    t.timer(2001, &[blocks(1, 1)]);
    t.timer(4001, &[blocks(1, 1)]);
}

/// The Sorcerer's Apprentice: pxelinux acknowledges every copy it gets.
#[test]
fn a_repeated_ack_is_answered_once() {
    let mut t = Transcript::begin("blksize\x001408\0", 9000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    t.ack(2, 1, Received::Progress, &[blocks(2, 1)]);
    t.ack(2, 1, DUPLICATE, &[]);
    t.ack(50, 1, DUPLICATE, &[]);
    t.ack(50, 0, STALE, &[]);
    t.ack(51, 3, STALE, &[]);
    t.timer(102, &[blocks(2, 1)]);
    t.ack(103, 2, Received::Progress, &[blocks(3, 1)]);
    t.ack(104, 2, DUPLICATE, &[]);
}

#[test]
fn waits_double_from_a_tenth_of_a_second_to_eight() {
    let mut t = Transcript::begin("blksize\x001468\0", 9000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    for ms in [101, 301, 701, 1501, 3101, 6301, 12_701, 20_701, 28_701] {
        t.timer(ms, &[blocks(1, 1)]);
    }
    // Thirty seconds after the last progress, which was ACK 0.
    t.timer(30_001, &[]);
    t.ends(Outcome::Stalled);
}

#[test]
fn progress_resets_the_wait_and_the_patience() {
    let mut t = Transcript::begin("blksize\x001468\0", 9000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    for ms in [101, 301, 701, 1501, 3101, 6301, 12_701, 20_701, 28_701] {
        t.timer(ms, &[blocks(1, 1)]);
    }
    t.ack(29_000, 1, Received::Progress, &[blocks(2, 1)]);
    t.timer(29_100, &[blocks(2, 1)]);
}

/// GRUB stops its ACKs while it unpacks; it gets a minute.
#[test]
fn grub_may_pause() {
    let mut t = Transcript::begin("blksize\x001024\0tsize\x000\0", 9000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    t.ack(2, 1, Received::Progress, &[blocks(2, 1)]);
    t.transfer.on_timer(at(50_000));
    t.leaves(50_000, &[blocks(2, 1)]);
    t.ack(59_000, 2, Received::Progress, &[blocks(3, 1)]);
}

#[test]
fn slow_links_are_waited_for() {
    let mut t = Transcript::begin("blksize\x001468\0", 90_000, &[OACK]);
    t.ack(400, 0, Received::Progress, &[blocks(1, 1)]);
    // 400 + 4 * 200 ms, RFC 6298 §2.2.
    t.timer(1600, &[blocks(1, 1)]);
}

#[test]
fn windows() {
    let mut t = Transcript::begin("windowsize\x004\0", 512 * 9, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 4)]);
    t.ack(2, 4, Received::Progress, &[blocks(5, 4)]);
    // The last window is short: block 9 is full, block 10 is empty.
    t.ack(3, 8, Received::Progress, &[blocks(9, 2)]);
    t.ack(4, 10, Received::Progress, &[]);
    t.ends(Outcome::Complete);
}

/// RFC 7440 §4: an ACK inside of the window tells what is missing.
#[test]
fn a_gap_is_repaired_from_where_it_begins() {
    let mut t = Transcript::begin("windowsize\x004\0", 512 * 90, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 4)]);
    t.ack(2, 2, Received::Gap, &[blocks(3, 4)]);
    t.ack(3, 6, Received::Progress, &[blocks(7, 4)]);
    assert_eq!((t.transfer.stats().gaps, t.transfer.stats().blocks_resent), (1, 2));
}

/// Two of the Rust servers wait out a timeout here: nothing of the window arrived, so the ACK is the old one.
#[test]
fn a_window_whose_first_block_was_lost_is_sent_again_once() {
    let mut t = Transcript::begin("windowsize\x004\0", 512 * 90, &[OACK]);
    t.ack(2, 0, Received::Progress, &[blocks(1, 4)]);
    t.ack(4, 4, Received::Progress, &[blocks(5, 4)]);
    t.ack(6, 4, Received::Gap, &[blocks(5, 4)]);
    // The client says so for every block that came after the lost one.
    t.ack(6, 4, DUPLICATE, &[]);
    t.ack(8, 4, DUPLICATE, &[]);
    t.ack(9, 8, Received::Progress, &[blocks(9, 4)]);
    // The copies of 5 to 8 arrive; their ACKs are echoes.
    t.ack(10, 8, DUPLICATE, &[]);
    t.ack(11, 8, DUPLICATE, &[]);
    t.ack(12, 12, Received::Progress, &[blocks(13, 4)]);
}

/// An ACK doubled by the network comes before an answer to the new window can.
#[test]
fn a_doubled_ack_is_no_gap() {
    let mut t = Transcript::begin("windowsize\x004\0", 512 * 90, &[OACK]);
    t.ack(10, 0, Received::Progress, &[blocks(1, 4)]);
    t.ack(20, 4, Received::Progress, &[blocks(5, 4)]);
    t.ack(21, 4, DUPLICATE, &[]);
}

/// A client that acknowledges every block although it asked for windows must not be sent a window for each.
#[test]
fn an_ack_for_each_block_of_a_window_does_not_multiply() {
    let mut t = Transcript::begin("windowsize\x004\0", 512 * 90, &[OACK]);
    t.ack(10, 0, Received::Progress, &[blocks(1, 4)]);
    t.ack(20, 1, Received::Gap, &[blocks(2, 4)]);
    t.ack(21, 2, Received::Progress, &[blocks(6, 1)]);
    t.ack(22, 3, Received::Progress, &[blocks(7, 1)]);
    t.ack(23, 4, Received::Progress, &[blocks(8, 1)]);
}

/// The probes of EDK2 (8), pxelinux and GRUB (0) are no failures.
#[test]
fn size_probes() {
    for error in [&b"\0\x05\0\x08User aborted the transfer\0"[..], b"\0\x05\0\0closed\0", b"\0\x05\0\0"] {
        let mut t = Transcript::begin("tsize\x000\0blksize\x001468\0", 9000, &[OACK]);
        t.arrives(1, error, Received::Ended, &[]);
        t.ends(Outcome::SizeProbe);
    }
}

/// An ERROR is never answered.
#[test]
fn a_client_that_gives_up() {
    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    t.arrives(2, b"\0\x05\0\x03disk full\0", Received::Ended, &[]);
    t.ends(Outcome::Aborted(tftp_engine::ErrorCode(3)));

    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    t.arrives(1, b"\0\x05\0\x02no\0", Received::Ended, &[]);
    t.ends(Outcome::Aborted(tftp_engine::ErrorCode::ACCESS));
}

#[test]
fn a_closed_port_ends_it_at_once() {
    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    t.transfer.on_unreachable();
    t.leaves(1, &[]);
    t.ends(Outcome::Gone);
}

#[test]
fn noise_changes_nothing() {
    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    for noise in [&b""[..], b"\0", b"\0\x04", b"\0\x04\0", b"\0\x03\0\x01data", b"\0\x06tsize\x001\0", b"\xff\xff\0\0"]
    {
        t.arrives(1, noise, Received::Ignored(Ignored::Foreign), &[]);
    }
    t.timer(1000, &[OACK]);
}

/// The ACK's 16 bits roll over to 0 while the engine counts on, as often as the file needs.
#[test]
fn past_65535_blocks_and_past_4_gib() {
    const SIZE: u64 = 5 << 30;
    let mut t = Transcript::begin("blksize\x001468\0windowsize\x0044\0", SIZE, &[OACK]);
    let last = SIZE / 1468 + 1;
    let mut acked = 0;
    t.ack(1, 0, Received::Progress, &[blocks(1, 44)]);
    while acked + 44 < last {
        acked += 44;
        let count = u16::try_from((last - acked).min(44)).unwrap();
        t.ack(1 + acked, acked, Received::Progress, &[blocks(acked + 1, count)]);
    }
    t.ack(last + 99, last, Received::Progress, &[]);
    assert!(last > 55 * 65_536);
    t.ends(Outcome::Complete);
}

#[test]
fn block_65536_is_0_on_the_wire_for_a_window_of_one() {
    let mut t = Transcript::begin("blksize\x008\0", 8 * 65_536, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    for block in 1..=65_536 {
        t.ack(1 + block, block, Received::Progress, &[blocks(block + 1, 1)]);
    }
    t.arrives(70_000, b"\0\x04\0\0", DUPLICATE, &[]);
    t.ack(70_001, 65_537, Received::Progress, &[]);
    t.ends(Outcome::Complete);
}

/// An answer that got lost is repeated for a client that asks again, but not beyond three.
#[test]
fn the_same_request_again_before_the_first_ack() {
    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    assert_eq!(t.transfer.on_request(at(5), true), Repeated::Ignore, "a copy made by the network");
    t.leaves(5, &[]);
    assert_eq!(t.transfer.on_request(at(700), true), Repeated::Poll);
    t.leaves(700, &[OACK]);
    assert_eq!(t.transfer.on_request(at(800), true), Repeated::Ignore, "raspberrypi/firmware#1041");
    t.timer(2700, &[OACK]);
    assert_eq!(t.transfer.on_request(at(4000), true), Repeated::Ignore, "three were sent");
    t.leaves(4000, &[]);
    t.ack(4001, 0, Received::Progress, &[blocks(1, 1)]);
}

/// The network doubles the client's second request, and the transfer has begun by the time the copy arrives.
#[test]
fn a_copy_of_a_repeated_request_does_not_restart() {
    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    assert_eq!(t.transfer.on_request(at(900), true), Repeated::Poll);
    t.leaves(900, &[OACK]);
    t.ack(901, 0, Received::Progress, &[blocks(1, 1)]);
    assert_eq!(t.transfer.on_request(at(902), true), Repeated::Ignore);
    t.ack(903, 1, Received::Progress, &[blocks(2, 1)]);
}

/// UEFI probes the size and asks again from the same port, with the very same bytes or with more options.
#[test]
fn a_request_after_the_probe_starts_anew() {
    for same in [true, false] {
        let mut t = Transcript::begin("tsize\x000\0blksize\x001468\0", 9000, &[OACK]);
        t.arrives(1, b"\0\x05\0\x08User aborted\0", Received::Ended, &[]);
        assert_eq!(t.transfer.on_request(at(2), same), Repeated::Replace);
        t.ends(Outcome::SizeProbe);
    }
}

#[test]
fn another_request_replaces_a_running_transfer() {
    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    assert_eq!(t.transfer.on_request(at(2), false), Repeated::Replace);
    t.ends(Outcome::Replaced);

    let mut t = Transcript::begin("tsize\x000\0", 9000, &[OACK]);
    t.ack(1, 0, Received::Progress, &[blocks(1, 1)]);
    assert_eq!(t.transfer.on_request(at(5), true), Repeated::Ignore, "a copy that overtook nothing");
    t.ack(6, 1, Received::Progress, &[blocks(2, 1)]);
    assert_eq!(t.transfer.on_request(at(3000), true), Repeated::Replace, "the client was reset");
    t.ends(Outcome::Replaced);
}
