//! Property: over a channel that loses, doubles and reorders, the file arrives whole and the bytes sent are bounded.

#![allow(clippy::unwrap_used, reason = "allow-unwrap-in-tests does not reach the helpers of an integration test")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tftp_engine::{
    Fetch, FetchSend, FileName, Limits, Now, Outcome, ReadRequest, Repeated, Transfer, Transmit, Wishes, data_header,
};

/// What the channel does to one packet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Deliver,
    Lose,
    /// Arrives twice, the copy this many milliseconds later.
    Double(u64),
    /// Arrives this many milliseconds late.
    Delay(u64),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        6 => Just(Fate::Deliver),
        2 => Just(Fate::Lose),
        1 => (0..30_u64).prop_map(Fate::Double),
        1 => (1..30_u64).prop_map(Fate::Delay),
    ];
    proptest::collection::vec(fate, 0..200).prop_map(|mut fates| {
        // Three losses of a row at the start are what the bound on unproven packets gives up; that has its own test.
        for at in 2..fates.len() {
            if fates[at - 2..=at].iter().all(|&fate| fate == Fate::Lose) {
                fates[at] = Fate::Deliver;
            }
        }
        fates
    })
}

#[derive(Clone, Debug)]
enum Packet {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
}

struct World {
    now: u64,
    fates: std::vec::IntoIter<Fate>,
    faults: u64,
    /// Packets under way, by time of arrival and order of sending.
    wire: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    file: Vec<u8>,
    server: Option<(Vec<u8>, Transfer, tftp_engine::Agreed)>,
    client: Fetch,
    arrived: Vec<u8>,
    data_packets: u64,
}

const LATENCY: u64 = 1;
const LIMITS: Limits = Limits { block_size_max: 1468, window_max: 16, in_flight_max: 65_507, timeout_max: 10 };

impl World {
    fn now(&self) -> Now {
        Now::after_origin(Duration::from_millis(self.now))
    }

    fn send(&mut self, packet: Packet) {
        let fate = self.fates.next().unwrap_or(Fate::Deliver);
        self.faults += u64::from(fate != Fate::Deliver);
        let arrivals = match fate {
            Fate::Deliver => vec![LATENCY],
            Fate::Lose => vec![],
            Fate::Double(later) => vec![LATENCY, LATENCY + later],
            Fate::Delay(late) => vec![LATENCY + late],
        };
        for after in arrivals {
            self.sent += 1;
            self.wire.insert((self.now + after, self.sent), packet.clone());
        }
    }

    fn flush(&mut self) {
        let now = self.now();
        while let Some(send) = self.client.poll(now) {
            let bytes = send.encode(self.client.request());
            self.send(Packet::ToServer(bytes));
        }
        while let Some((_, transfer, agreed)) = &mut self.server
            && let Some(transmit) = transfer.poll(now)
        {
            match transmit {
                Transmit::Oack => {
                    let oack = agreed.oack().unwrap();
                    self.send(Packet::ToClient(oack));
                }
                Transmit::Blocks { first, count } => {
                    let size = usize::from(agreed.block_size);
                    for block in first..first + u64::from(count) {
                        let from = usize::try_from(block - 1).unwrap() * size;
                        let payload = &self.file[from..(from + size).min(self.file.len())];
                        let bytes = [&data_header(block)[..], payload].concat();
                        self.data_packets += 1;
                        self.send(Packet::ToClient(bytes));
                    }
                }
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let now = self.now();
        match packet {
            Packet::ToClient(bytes) => {
                let payload = self.client.on_packet(now, &bytes);
                self.arrived.extend_from_slice(payload);
            }
            Packet::ToServer(bytes) => match ReadRequest::parse(&bytes) {
                Ok(request) => self.request(bytes, &request),
                Err(_) => {
                    if let Some((_, transfer, _)) = &mut self.server {
                        transfer.on_packet(now, &bytes);
                    }
                }
            },
        }
    }

    fn request(&mut self, bytes: Vec<u8>, request: &ReadRequest) {
        let now = self.now();
        if let Some((first, transfer, _)) = &mut self.server
            && transfer.on_request(now, *first == bytes) != Repeated::Replace
        {
            return;
        }
        let agreed = request.negotiate(&LIMITS, self.file.len() as u64);
        self.server = Some((bytes, Transfer::new(now, &agreed, self.file.len() as u64), agreed));
    }

    /// The next time at which something happens; `None` when both have ended and nothing is under way.
    fn step(&mut self) -> bool {
        self.flush();
        let arrival = self.wire.keys().next().map(|&(at, _)| at);
        let deadline = [self.client.next_deadline(), self.server.as_ref().and_then(|(_, t, _)| t.next_deadline())]
            .into_iter()
            .flatten()
            .min()
            .map(|at| u64::try_from(at.since_origin().as_micros().div_ceil(1000)).unwrap());
        let Some(next) = arrival.into_iter().chain(deadline).min() else { return false };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, packet) = self.wire.pop_first().unwrap();
            self.deliver(packet);
        } else {
            let now = self.now();
            self.client.on_timer(now);
            if let Some((_, transfer, _)) = &mut self.server {
                transfer.on_timer(now);
            }
        }
        // The machine of a client that is done refuses what comes for it (ICMP).
        if self.client.outcome().is_some() && self.wire.is_empty() {
            self.flush();
            if self.wire.is_empty()
                && let Some((_, transfer, _)) = &mut self.server
            {
                transfer.on_unreachable();
            }
        }
        true
    }
}

fn download(size: usize, wishes: Wishes, fates: Vec<Fate>) -> World {
    let name = FileName::parse(b"f").unwrap();
    let mut world = World {
        now: 0,
        fates: fates.into_iter(),
        faults: 0,
        wire: BTreeMap::new(),
        sent: 0,
        file: (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect(),
        server: None,
        client: Fetch::new(Now::after_origin(Duration::ZERO), name, wishes),
        arrived: Vec::new(),
        data_packets: 0,
    };
    for _ in 0..100_000 {
        if !world.step() {
            return world;
        }
    }
    panic!("no end in sight");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_file_arrives_whole_at_a_bounded_price(
        size in 0..40_000_usize,
        block_size in proptest::option::of(8..1500_u16),
        window in proptest::option::of(1..40_u16),
        fates in fates(),
    ) {
        // Keeps the count of blocks, and with it the time, in bounds.
        let size = size.min(usize::from(block_size.unwrap_or(512)) * 300);
        let world = download(size, Wishes { block_size, window, timeout: None }, fates);
        prop_assert_eq!(world.client.outcome(), Some(&Ok(tftp_engine::Fetched { bytes: size as u64 })));
        prop_assert_eq!(&world.arrived, &world.file);
        let (_, transfer, agreed) = world.server.as_ref().unwrap();
        prop_assert!(matches!(transfer.outcome(), Some(Outcome::Complete | Outcome::Gone)), "{:?}", transfer.outcome());
        let blocks = size as u64 / u64::from(agreed.block_size) + 1;
        // Each fault costs at most a resend by the client's report and one by the timer.
        let bound = blocks + 2 * (world.faults + 1) * u64::from(agreed.window);
        prop_assert!(world.data_packets <= bound, "{} DATA packets, bound {bound}", world.data_packets);
    }

    /// Whatever the client's side says, each of its packets buys at most two windows.
    #[test]
    fn no_sequence_of_packets_multiplies(
        acks in proptest::collection::vec((0..200_u16, 0..300_u64), 0..300),
        window in 1..17_u16,
    ) {
        let request = ReadRequest::parse(format!("\0\u{1}f\0octet\0windowsize\0{window}\0").as_bytes()).unwrap();
        let agreed = request.negotiate(&LIMITS, 100_000);
        let mut now = Now::after_origin(Duration::ZERO);
        let mut transfer = Transfer::new(now, &agreed, 100_000);
        let mut wakes = 1;
        for (block, pause) in acks {
            let arrival = now + Duration::from_millis(pause);
            while let Some(deadline) = transfer.next_deadline().filter(|&deadline| deadline < arrival) {
                while transfer.poll(deadline).is_some() {}
                transfer.on_timer(deadline);
                wakes += 1;
            }
            now = arrival;
            transfer.on_packet(now, &tftp_engine::Packet::Ack { block }.encode());
            wakes += 1;
            while transfer.poll(now).is_some() {}
        }
        prop_assert!(transfer.stats().blocks_sent <= wakes * u64::from(agreed.window));
    }
}

#[test]
fn a_clean_channel_carries_every_block_once() {
    for (window, size) in [(None, 100_000), (Some(16), 100_000), (Some(4), 512 * 8), (None, 0)] {
        let world = download(size, Wishes { block_size: None, window, timeout: None }, vec![]);
        let (_, transfer, _) = world.server.as_ref().unwrap();
        assert_eq!(transfer.outcome(), Some(&Outcome::Complete));
        assert_eq!(world.data_packets, size as u64 / 512 + 1);
        assert_eq!(world.arrived, world.file);
    }
}

#[test]
fn the_client_refuses_options_it_did_not_ask() {
    let mut fetch = Fetch::new(Now::after_origin(Duration::ZERO), FileName::parse(b"f").unwrap(), Wishes::default());
    let now = Now::after_origin(Duration::from_millis(1));
    assert_eq!(fetch.poll(now), Some(FetchSend::Request));
    fetch.on_packet(now, b"\0\x06blksize\x001468\0");
    assert_eq!(fetch.poll(now), Some(FetchSend::RefuseOptions));
    assert_eq!(fetch.outcome(), Some(&Err(tftp_engine::FetchError::Options)));
}
