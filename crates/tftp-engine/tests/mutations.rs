//! What real clients and servers send, bent: nothing panics, and what is answered keeps its bounds. `integration/fuzz` holds the same
//! functions to whatever libFuzzer finds.

#![allow(clippy::unwrap_used, reason = "allow-unwrap-in-tests does not reach the helpers of an integration test")]

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use tftp_engine::{
    Asked, Fetch, FetchSend, FileName, Limits, Now, Packet, ReadRequest, Repeated, Transfer, Transmit, Wishes,
};

const LIMITS: Limits = Limits { block_size_max: 1468, window_max: 64, in_flight_max: 65_507, timeout_max: 10 };

/// Requests as loaders send them, from captures and from their sources.
const REQUESTS: [&[u8]; 12] = [
    b"\0\x01lpxelinux.0\0octet\0blksize\x001432\0tsize\x000\0",
    b"\0\x01pxelinux.cfg/01-52-54-00-77-00-01\0octet\0tsize\x000\0blksize\x001408\0",
    b"\0\x01undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0multicast\0\0",
    b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0",
    b"\0\x01snponly.efi\0octet\0blksize\x001468\0windowsize\x004\0",
    b"\0\x01revocations_sku.efi\0octet\0blksize\x00512\0windowsize\x004\0",
    b"\0\x01/grub/x86_64-efi/command.lst\0octet\0blksize\x001024\0tsize\x000\0",
    b"\0\x01loader/\xffOnboard\0octet\0tsize\x000\0blksize\x00512\0",
    b"\0\x01uImage\0octet\0timeout\x005\0tsize\x000\0blksize\x001468\0windowsize\x0016\0",
    b"\0\x01bootcode.bin\0octet\0tsize\x000\0",
    b"\0\x01menu\0netascii\0",
    b"\0\x02upload\0octet\0tsize\x0099\0",
];

/// What arrives once a transfer has begun.
const PACKETS: [&[u8]; 10] = [
    b"\0\x04\0\0",
    b"\0\x04\0\x01",
    b"\0\x04\0\x04",
    b"\0\x04\xff\xff",
    b"\0\x05\0\x08User aborted the transfer\0",
    b"\0\x05\0\0closed\0",
    b"\0\x03\0\x01data of the first block",
    b"\0\x06tsize\x00700\0blksize\x001468\0windowsize\x004\0",
    b"\0\x06blksize\x001468\0",
    b"\0\x01again\0octet\0",
];

/// One step away from a seed.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| if bytes.is_empty() { 0 } else { index.index(bytes.len()) };
        match self {
            Self::Flip(index, bits) => {
                let at = at(index);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bits);
            }
            Self::Cut(index) => bytes.truncate(at(index)),
            Self::Remove(index, count) => {
                let at = at(index);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Insert(index, more) => {
                let at = at(index);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(index, count) => {
                let at = at(index);
                let piece = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Pieces that mean something to a parser are likelier to get past its first line than noise is.
fn mutated(seeds: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&[u8]; 12] = [
        b"\0",
        b"\0\0",
        b"../",
        b"/",
        b"\\",
        b"blksize\x008\0",
        b"blksize\x0065464\0",
        b"windowsize\x0065535\0",
        b"tsize\0",
        b"timeout\x00255\0",
        b"99999999999999999999\0",
        b"\xff\xfe",
    ];
    let mutation = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (any::<Index>(), select(&WORDS[..])).prop_map(|(at, word)| Mutation::Insert(at, word.to_vec())),
        (any::<Index>(), 1..200_usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ];
    (select(seeds), proptest::collection::vec(mutation, 0..6)).prop_map(|(seed, mutations)| {
        let mut bytes = seed.to_vec();
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    })
}

fn at(ms: u64) -> Now {
    Now::after_origin(Duration::from_millis(ms))
}

/// The name and value pairs of an OACK.
fn answered(oack: &[u8]) -> Vec<(String, u64)> {
    let Ok(Packet::Oack { options }) = Packet::parse(oack) else { panic!("no OACK: {}", oack.escape_ascii()) };
    let fields: Vec<_> =
        options.split(|&byte| byte == 0).map(|field| String::from_utf8(field.to_vec()).unwrap()).collect();
    fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].parse().unwrap())).collect()
}

/// A request is refused with a short ERROR, or its name is harmless and its OACK says only what was asked.
pub(crate) fn check_request(bytes: &[u8], size: u64) {
    let request = match ReadRequest::parse(bytes) {
        Ok(request) => request,
        Err(error) => {
            let reply = error.reply().map(|packet| packet.encode()).unwrap_or_default();
            assert!(reply.len() <= 24, "{}", reply.escape_ascii());
            return;
        }
    };
    let components: Vec<_> = request.name.as_bytes().split(|&byte| byte == b'/').collect();
    assert!(components.iter().all(|name| ![&b""[..], b".", b".."].contains(name)), "{}", request.name);
    assert!(!request.name.as_bytes().iter().any(|byte| [0, b'\\'].contains(byte)));
    assert_eq!(ReadRequest::parse(&request.encode()), Ok(request.clone()));

    let agreed = request.negotiate(&LIMITS, size);
    let Some(oack) = agreed.oack() else { return };
    // A size has at most 20 digits; all else is at most as long as the question.
    assert!(oack.len() <= bytes.len() + 20);
    for (name, value) in answered(&oack) {
        let asked = request.options.iter().any(|asked| match (name.as_str(), *asked) {
            ("blksize", Asked::BlockSize(most)) => (8..=u64::from(most.min(1468))).contains(&value),
            ("windowsize", Asked::WindowSize(most)) => (1..=u64::from(most.min(64))).contains(&value),
            ("timeout", Asked::Timeout(seconds)) => value == u64::from(seconds) && value <= 10,
            ("tsize", Asked::TransferSize) => value == size,
            _ => false,
        });
        assert!(asked, "{name}={value} for {}", bytes.escape_ascii());
    }
}

/// Whatever arrives at a transfer (each packet so many milliseconds after the one before), it sends blocks of the file, no more than a
/// window at a time, and ends.
pub(crate) fn check_transfer(request: &[u8], packets: &[(Vec<u8>, u64)], size: u64) {
    let Ok(parsed) = ReadRequest::parse(request) else { return };
    let agreed = parsed.negotiate(&LIMITS, size);
    let mut transfer = Transfer::new(at(0), &agreed, size);
    let mut ms = 0;
    for (packet, pause) in packets {
        ms += pause;
        transfer.on_timer(at(ms));
        if ReadRequest::parse(packet).is_ok() {
            if transfer.on_request(at(ms), packet == request) == Repeated::Replace {
                assert!(transfer.outcome().is_some());
            }
        } else {
            transfer.on_packet(at(ms), packet);
        }
        while let Some(transmit) = transfer.poll(at(ms)) {
            let Transmit::Blocks { first, count } = transmit else { continue };
            assert!((1..=agreed.window).contains(&count));
            assert!(first >= 1 && first + u64::from(count) - 1 <= size / u64::from(agreed.block_size) + 1);
        }
        assert_eq!(transfer.outcome().is_none(), transfer.next_deadline().is_some());
    }
    // Left alone, it comes to an end.
    for _ in 0..1000 {
        let Some(deadline) = transfer.next_deadline() else { break };
        transfer.on_timer(deadline);
        while transfer.poll(deadline).is_some() {}
    }
    assert!(transfer.outcome().is_some());
}

/// The client's side: a server may say anything, and gets ACKs, one ERROR and silence.
pub(crate) fn check_fetch(packets: &[(Vec<u8>, u64)]) {
    let wishes = Wishes { block_size: Some(1468), window: Some(4), timeout: None };
    let mut fetch = Fetch::new(at(0), FileName::parse(b"f").unwrap(), wishes);
    let (mut ms, mut bytes) = (0, 0);
    for (packet, pause) in packets {
        ms += pause;
        fetch.on_timer(at(ms));
        let payload = fetch.on_packet(at(ms), packet).len();
        assert!(payload <= usize::from(fetch.agreed().block_size));
        bytes += payload as u64;
        while let Some(send) = fetch.poll(at(ms)) {
            assert!(send == FetchSend::Request || send.encode(fetch.request()).len() < 32);
        }
    }
    if let Some(Ok(fetched)) = fetch.outcome() {
        assert_eq!(fetched.bytes, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(bytes in mutated(&REQUESTS), size in any::<u64>()) {
        check_request(&bytes, size);
    }

    #[test]
    fn transfers(
        request in mutated(&REQUESTS[..11]),
        packets in proptest::collection::vec((mutated(&PACKETS), 0..3000_u64), 0..40),
        size in 0..100_000_u64,
    ) {
        check_transfer(&request, &packets, size);
    }

    #[test]
    fn fetches(packets in proptest::collection::vec((mutated(&PACKETS), 0..3000_u64), 0..40)) {
        check_fetch(&packets);
    }
}
