//! Every parser over the fuzzers' corpus and many mutations of it: what libFuzzer does with coverage, on stable and always
//! the same.

#[path = "../../../integration/fuzz/harness.rs"]
mod harness;

/// Mutations of each seed.
const MUTATIONS: u64 = 3000;

macro_rules! corpus {
    ($($name:literal),+) => {
        &[$(($name, include_bytes!(concat!("../../../integration/fuzz/corpus/", $name)))),+]
    };
}

#[test]
fn nar() {
    mutate(corpus!("nar/directory", "nar/executable", "nar/symlink"), harness::nar);
}

#[test]
fn narinfo() {
    mutate(corpus!("narinfo/nix-2.8", "narinfo/rookery"), harness::narinfo);
}

#[test]
fn closure() {
    mutate(corpus!("closure/three-paths"), harness::closure);
}

#[test]
fn bundle() {
    mutate(corpus!("bundle/one-of-each", "bundle/empty"), harness::bundle);
}

fn mutate(corpus: &[(&str, &[u8])], promise: fn(&[u8])) {
    for (name, seed) in corpus {
        promise(seed);
        for number in 0..MUTATIONS {
            let mut dice = Dice(number);
            let mut bytes = seed.to_vec();
            for _ in 0..=dice.below(3) {
                dice.mutate(&mut bytes);
            }
            let refused = std::panic::catch_unwind(|| promise(&bytes));
            assert!(refused.is_ok(), "mutation {number} of {name}: {}", bytes.escape_ascii());
        }
    }
}

/// SplitMix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(24)).min(bytes.len());
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            // Lengths: aligned, as a NAR has them, and anything from small to absurd.
            4 => {
                let at = at / 8 * 8;
                let length = self.roll() >> self.below(64);
                if let Some(place) = bytes.get_mut(at..at + 8) {
                    place.copy_from_slice(&length.to_le_bytes());
                }
            }
            5 => bytes.insert(at, self.roll() as u8),
            kind => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = if kind == 6 { *byte ^ (1 << self.below(8)) } else { self.roll() as u8 };
                }
            }
        }
    }
}

#[test]
fn the_corpus_is_taken() {
    use nix_format::bundle::{Head, Index, Limits};
    let (head, raw) =
        include_bytes!("../../../integration/fuzz/corpus/bundle/one-of-each").split_first_chunk().unwrap();
    let index = Index::parse(&Head::parse(head).unwrap(), raw.to_vec(), Limits::NONE).unwrap();
    assert_eq!(index.paths().map(|path| path.records().count()).sum::<usize>(), 20);
    let closure = include_str!("../../../integration/fuzz/corpus/closure/three-paths");
    assert_eq!(closure.parse::<nix_format::closure::Closure>().unwrap().paths().len(), 3);
    assert!(
        include_str!("../../../integration/fuzz/corpus/narinfo/rookery")
            .parse::<nix_format::narinfo::NarInfo>()
            .is_ok()
    );
    let mut archive = &include_bytes!("../../../integration/fuzz/corpus/nar/directory")[..];
    let mut reader = nix_format::nar::NarReader::new();
    while reader.next(&mut archive).unwrap().is_some() {}
    reader.finish().unwrap();
}
