//! SHA-256 of what passes.

use std::{
    io::{self, Write},
    mem,
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use boot_model::Sha256Digest;
use sha2::{Digest as _, Sha256};

/// Hashes what is written to it; much of it in a thread of its own. Paths are brought side by side, but the largest of an update,
/// the kernel's modules, takes longer than all others together, and the other processors would wait for it.
pub(super) enum Hasher {
    Here(Sha256),
    Beside(Beside),
}

/// The thread has one chunk and another waits for it, while a third is filled.
pub(super) struct Beside {
    chunk: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
    thread: JoinHandle<Sha256>,
}

/// From so many bytes on a thread is worth what handing them over costs.
const MUCH: u64 = 64 << 20;
const CHUNK: usize = 256 << 10;

impl Hasher {
    /// For about so many bytes.
    pub(super) fn of(size: u64) -> Self {
        let beside = (size >= MUCH).then(Beside::start);
        // Without threads to spare it is done here.
        beside.and_then(Result::ok).map_or_else(|| Self::Here(Sha256::new()), Self::Beside)
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Here(hash) => hash.update(bytes),
            Self::Beside(beside) => beside.update(bytes),
        }
    }

    /// The hash of all of it.
    pub(super) fn digest(self) -> Sha256Digest {
        let hash = match self {
            Self::Here(hash) => hash,
            Self::Beside(beside) => beside.finish(),
        };
        Sha256Digest::new(hash.finalize().into())
    }
}

impl Beside {
    fn start() -> io::Result<Self> {
        let (full, to_hash) = sync_channel::<Vec<u8>>(1);
        let (done, used) = channel();
        let thread = thread::Builder::new().name("hash".to_owned()).spawn(move || {
            let mut hash = Sha256::new();
            for mut chunk in to_hash {
                hash.update(&chunk);
                chunk.clear();
                // Nobody takes it back at the end.
                let _ = done.send(chunk);
            }
            hash
        })?;
        Ok(Self { chunk: Vec::with_capacity(CHUNK), full, used, thread })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        // Refused only by a thread that has panicked, which is told at the end.
        let _ = self.full.send(mem::replace(&mut self.chunk, next));
    }

    fn finish(mut self) -> Sha256 {
        self.hand_over();
        drop(self.full);
        self.thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_its_own_hashes_the_same() {
        let content: Vec<u8> = (0..=250).cycle().take(5 * CHUNK + 7).collect();
        for pieces in [1000, CHUNK, 3 * CHUNK + 1, content.len()] {
            for used in [&content[..], &content[..2 * CHUNK], &[]] {
                let (mut here, mut beside) = (Hasher::of(0), Hasher::of(MUCH));
                assert!(matches!((&here, &beside), (Hasher::Here(_), Hasher::Beside(_))));
                for piece in used.chunks(pieces) {
                    here.update(piece);
                    beside.update(piece);
                }
                assert_eq!(here.digest(), beside.digest(), "{} bytes in pieces of {pieces}", used.len());
            }
        }
    }
}
