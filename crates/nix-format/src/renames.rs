//! Renames of store hashes within file contents.
//!
//! A rebuilt path differs from the one before in the hash parts of the store paths it mentions, often in nothing else.
//! [`Renames`] puts the new hash parts in the place of the old ones; both have 32 characters, so no byte moves.
//!
//! Matches are found from left to right and do not overlap. As in Nix' own search for references, every occurrence of a
//! hash counts, whatever stands around it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use boot_model::{StoreHash, StorePath};
use thiserror::Error;

use crate::base32;

/// Characters of a hash part.
const HASH: usize = 32;
/// With 1500 renames, one lookup in twenty is made in vain.
const BEGINNINGS: u32 = 15;
/// What is read at a time where contents pass through.
const CHUNK: usize = 256 << 10;

/// Which hash part takes whose place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renames {
    /// Ascending, each old hash once.
    old: Vec<[u8; HASH]>,
    /// The new hash of each old one.
    new: Vec<[u8; HASH]>,
    /// One bit for each beginning that an old hash has; empty without renames. Long runs of base32, as in a file of
    /// checksums, would else be looked up at every byte.
    beginnings: Vec<u64>,
}

impl Renames {
    /// Makes a table of pairs (old, new) in any order.
    ///
    /// # Errors
    /// [`Ambiguous`] if one hash is to become two different ones.
    pub fn new(pairs: impl IntoIterator<Item = (StoreHash, StoreHash)>) -> Result<Self, Ambiguous> {
        let mut sorted = BTreeMap::new();
        for (old, new) in pairs {
            if let Some(other) = sorted.insert(old, new).filter(|&other| other != new) {
                return Err(Ambiguous { old, one: other, two: new });
            }
        }
        let bytes = |hash: StoreHash| -> [u8; HASH] {
            hash.as_str().as_bytes().try_into().expect("a hash part has 32 characters, checked when it was read")
        };
        let (old, new): (Vec<_>, _) = sorted.into_iter().map(|(old, new)| (bytes(old), bytes(new))).unzip();
        let mut beginnings = vec![0; if old.is_empty() { 0 } else { 1 << (BEGINNINGS - 6) }];
        for hash in &old {
            let beginning = beginning(hash);
            beginnings[beginning / 64] |= 1 << (beginning % 64);
        }
        Ok(Self { old, new, beginnings })
    }

    /// Makes a table of paths (old, new).
    ///
    /// # Errors
    /// [`Ambiguous`] if one path is to become two different ones.
    pub fn of_paths<'a>(pairs: impl IntoIterator<Item = (&'a StorePath, &'a StorePath)>) -> Result<Self, Ambiguous> {
        Self::new(pairs.into_iter().map(|(old, new)| (old.hash(), new.hash())))
    }

    /// The pairs (old, new), ascending by the old hash.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (StoreHash, StoreHash)> {
        let hash = |bytes: &[u8; HASH]| -> StoreHash {
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            text.parse().expect("the bytes come from a hash part")
        };
        self.old.iter().zip(&self.new).map(move |(old, new)| (hash(old), hash(new)))
    }

    /// Whether nothing is renamed.
    pub fn is_empty(&self) -> bool {
        self.old.is_empty()
    }

    /// Renames in whole contents.
    pub fn apply(&self, contents: &mut [u8]) {
        self.settle(contents);
    }

    /// Renames in the beginning of contents, and says how many bytes from the front are final. The others, 31 at most, may
    /// begin a hash that goes on: bring them before the next bytes and call again.
    pub fn settle(&self, contents: &mut [u8]) -> usize {
        if self.is_empty() {
            return contents.len();
        }
        let mut at = 0;
        // Everything from `at` up to here is known to be base32.
        let mut known = 0_usize;
        while let Some(window) = contents.get_mut(at..at + HASH) {
            // From the far end: one byte that can't stand in a hash rules out all windows that hold it.
            let unknown = known.saturating_sub(at);
            let foreign = window[unknown..].iter().rposition(|&byte| !base32::is_digit(byte));
            known = at + HASH;
            if let Some(foreign) = foreign {
                at += unknown + foreign + 1;
                continue;
            }
            match self.place(window) {
                Some(place) => {
                    window.copy_from_slice(&self.new[place]);
                    at += HASH;
                }
                None => at += 1,
            }
        }
        at
    }

    /// Which of the old hashes this is.
    fn place(&self, window: &[u8]) -> Option<usize> {
        let beginning = beginning(window);
        if self.beginnings.get(beginning / 64).is_none_or(|bits| bits >> (beginning % 64) & 1 == 0) {
            return None;
        }
        self.old.binary_search_by(|old| old[..].cmp(window)).ok()
    }

    /// Passes contents through with their hashes renamed; holds 256 KiB.
    pub fn reading<R: Read>(&self, contents: R) -> Renamed<'_, R> {
        Renamed { renames: self, contents, buffer: vec![0; CHUNK], done: 0, settled: 0, filled: 0 }
    }
}

/// A number of [`BEGINNINGS`] bits for the first characters of a hash.
fn beginning(hash: &[u8]) -> usize {
    let first = hash.first_chunk().copied().map_or(0, u32::from_le_bytes);
    // Multiplying mixes all four characters into the highest bits.
    (first.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BEGINNINGS)) as usize
}

/// Contents with renamed hashes; see [`Renames::reading`].
#[derive(Debug)]
pub struct Renamed<'a, R> {
    renames: &'a Renames,
    contents: R,
    buffer: Vec<u8>,
    /// The buffer up to here was handed on, then up to `settled` it may be, then up to `filled` it may still change.
    done: usize,
    settled: usize,
    filled: usize,
}

impl<R: Read> Read for Renamed<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.done == self.settled {
            self.buffer.copy_within(self.settled..self.filled, 0);
            self.filled -= self.settled;
            (self.done, self.settled) = (0, 0);
            let read = self.contents.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                // What is left is shorter than a hash.
                self.settled = self.filled;
                break;
            }
            self.filled += read;
            self.settled = self.renames.settle(&mut self.buffer[..self.filled]);
        }
        let handed = out.len().min(self.settled - self.done);
        out[..handed].copy_from_slice(&self.buffer[self.done..self.done + handed]);
        self.done += handed;
        Ok(handed)
    }
}

/// One hash was to become two different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{old} can't be renamed to both {one} and {two}")]
pub struct Ambiguous {
    old: StoreHash,
    one: StoreHash,
    two: StoreHash,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(character: char) -> StoreHash {
        character.to_string().repeat(HASH).parse().unwrap()
    }

    fn renames() -> Renames {
        Renames::new([(hash('a'), hash('x')), (hash('b'), hash('y')), (hash('c'), hash('a'))]).unwrap()
    }

    fn applied(contents: &[u8]) -> Vec<u8> {
        let mut contents = contents.to_vec();
        renames().apply(&mut contents);
        contents
    }

    /// The definition: at each place from the left, the first hash that stands there.
    fn naive(renames: &Renames, contents: &[u8]) -> Vec<u8> {
        let pairs: Vec<_> = renames.pairs().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        let (mut out, mut rest) = (Vec::new(), contents);
        while let Some((first, after)) = rest.split_first() {
            match pairs.iter().find(|(old, _)| rest.starts_with(old.as_bytes())) {
                Some((old, new)) => {
                    out.extend(new.as_bytes());
                    rest = &rest[old.len()..];
                }
                None => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    }

    #[test]
    fn hashes_in_text() {
        let text = |a: char, b: char| format!("#!/nix/store/{}-bash/bin/sh\n/nix/store/{}\0", hash(a), hash(b));
        assert_eq!(applied(text('a', 'b').as_bytes()), text('x', 'y').as_bytes());
        assert_eq!(applied(text('d', 'x').as_bytes()), text('d', 'x').as_bytes(), "others stay");
        assert_eq!(applied(text('c', 'c').as_bytes()), text('a', 'a').as_bytes(), "no rename follows another");
        let run = format!("{}{}", "a".repeat(31), hash('b'));
        assert_eq!(applied(run.as_bytes()), format!("{}{}", "a".repeat(31), hash('y')).as_bytes());
        assert_eq!(applied(b"a".repeat(70).as_slice()), [b"x".repeat(64), b"a".repeat(6)].concat());
    }

    #[test]
    fn one_hash_has_one_future() {
        assert!(Renames::new([(hash('a'), hash('x')), (hash('a'), hash('x'))]).is_ok());
        let error = Renames::new([(hash('a'), hash('x')), (hash('a'), hash('y'))]).unwrap_err();
        assert!(error.to_string().ends_with(&format!("to both {} and {}", hash('x'), hash('y'))));
    }

    #[test]
    fn pairs_come_back() {
        let pairs = [(hash('a'), hash('x')), (hash('b'), hash('y')), (hash('c'), hash('a'))];
        assert_eq!(renames().pairs().collect::<Vec<_>>(), pairs);
        assert!(Renames::default().is_empty());
    }

    /// Contents full of near misses: pieces of hashes, whole ones, and other bytes.
    fn contents() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"a".repeat(32)),
            Just(b"b".repeat(32)),
            (1..40_usize).prop_map(|n| b"a".repeat(n)),
            (1..40_usize).prop_map(|n| b"c".repeat(n)),
            proptest::collection::vec(any::<u8>(), 0..5),
            Just(b"/".to_vec()),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    /// Yields its contents in pieces of the given sizes, over and over.
    struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let size = self.1.next().copied().unwrap_or(1).min(out.len()).min(self.0.len());
            out[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    proptest! {
        #[test]
        fn as_the_definition_says(contents in contents()) {
            prop_assert_eq!(applied(&contents), naive(&renames(), &contents));
        }

        #[test]
        fn however_contents_are_cut(contents in contents(), sizes in proptest::collection::vec(1..50_usize, 1..5)) {
            let renames = renames();
            let mut read = Vec::new();
            renames.reading(Pieces(&contents, sizes.iter().cycle())).read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, naive(&renames, &contents));
        }
    }
}
