//! Compression into independent zstd frames, with both digests on the way.
//!
//! Each frame holds at most 16 MiB and says how many, so that a reader can seek, decompress in parallel and allocate once.
//! One after another they are an ordinary .zst file.
//!
//! For they are independent, frames of one NAR are compressed by several threads too: one path may be as large as all others together.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};

use boot_model::Sha256Digest;
use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;

/// Bytes of content in every frame but the last.
pub(crate) const FRAME_SIZE: usize = 16 << 20;

/// Frames of one path that may wait for one before them: what bounds the memory if that one is slow.
const MAX_PENDING: usize = 8;

/// What went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) nar_hash: Sha256Digest,
    pub(crate) file_hash: Sha256Digest,
    pub(crate) file_size: u64,
}

/// Takes a NAR and writes the packed file. `on_bytes` hears how many bytes of the NAR are packed since the last call and may
/// end the work by an error.
pub(crate) struct FrameWriter<'a, W, F> {
    out: W,
    compressor: &'a mut Compressor<'static>,
    helpers: &'a SyncSender<Job>,
    on_bytes: F,
    frame: Vec<u8>,
    /// Frames that aren't written yet, in their order.
    pending: VecDeque<Pending>,
    nar_hash: Sha256,
    file_hash: Sha256,
    file_size: u64,
    any: bool,
    failure: Option<io::Error>,
}

/// A frame to compress, offered to the threads that have nothing else to do.
pub(crate) struct Job {
    frame: Vec<u8>,
    packed: SyncSender<io::Result<Vec<u8>>>,
}

impl Job {
    /// Compresses the frame.
    pub(crate) fn run(self, compressor: &mut Compressor<'static>) {
        // Nobody takes it if the path was given up meanwhile.
        let _ = self.packed.send(compressor.compress(&self.frame));
    }
}

/// A frame on its way.
struct Pending {
    /// Bytes of content.
    size: usize,
    packed: Receiver<io::Result<Vec<u8>>>,
}

impl<'a, W: Write, F: FnMut(u64) -> io::Result<()>> FrameWriter<'a, W, F> {
    /// A frame is offered to `helpers`, a channel without places, so that only a thread that waits takes it; else it is
    /// compressed here.
    pub(crate) fn new(
        out: W,
        compressor: &'a mut Compressor<'static>,
        helpers: &'a SyncSender<Job>,
        on_bytes: F,
    ) -> Self {
        Self {
            out,
            compressor,
            helpers,
            on_bytes,
            frame: Vec::new(),
            pending: VecDeque::new(),
            nar_hash: Sha256::new(),
            file_hash: Sha256::new(),
            file_size: 0,
            any: false,
            failure: None,
        }
    }

    /// The error of the file written to, if that was what failed: seen from the tree walk, reading and writing look alike.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Writes the last frame.
    pub(crate) fn finish(mut self) -> io::Result<Sums> {
        if !self.frame.is_empty() || !self.any {
            self.end_frame()?;
        }
        self.write_pending(0)?;
        Ok(Sums {
            nar_hash: Sha256Digest::new(self.nar_hash.finalize().into()),
            file_hash: Sha256Digest::new(self.file_hash.finalize().into()),
            file_size: self.file_size,
        })
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.any = true;
        self.nar_hash.update(&self.frame);
        let size = self.frame.len();
        let (sender, packed) = mpsc::sync_channel(1);
        self.pending.push_back(Pending { size, packed });
        let next = if size == FRAME_SIZE { Vec::with_capacity(FRAME_SIZE) } else { Vec::new() };
        let job = Job { frame: std::mem::replace(&mut self.frame, next), packed: sender };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.helpers.try_send(job) {
            job.run(self.compressor);
        }
        self.write_pending(MAX_PENDING)
    }

    /// Writes what is ready, and waits until no more than `most` frames are left.
    fn write_pending(&mut self, most: usize) -> io::Result<()> {
        while let Some(Pending { size, packed }) = self.pending.front() {
            let packed = match packed.try_recv() {
                Err(TryRecvError::Empty) if self.pending.len() <= most => break,
                Err(TryRecvError::Empty) => packed.recv().map_err(io::Error::other)?,
                received => received.map_err(io::Error::other)?,
            }?;
            self.file_hash.update(&packed);
            self.file_size += packed.len() as u64;
            self.out.write_all(&packed)?;
            (self.on_bytes)(*size as u64)?;
            self.pending.pop_front();
        }
        Ok(())
    }
}

impl<W: Write, F: FnMut(u64) -> io::Result<()>> Write for FrameWriter<'_, W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(FRAME_SIZE - self.frame.len());
        self.frame.extend_from_slice(&bytes[..taken]);
        if self.frame.len() == FRAME_SIZE
            && let Err(error) = self.end_frame()
        {
            let told = io::Error::from(error.kind());
            self.failure = Some(error);
            return Err(told);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(content: &[u8]) -> (Vec<u8>, Sums) {
        pack_with(&mpsc::sync_channel(0).0, content)
    }

    fn pack_with(helpers: &SyncSender<Job>, content: &[u8]) -> (Vec<u8>, Sums) {
        let mut packed = Vec::new();
        let mut compressor = Compressor::new(1).unwrap();
        let mut frames = FrameWriter::new(&mut packed, &mut compressor, helpers, |_| Ok(()));
        frames.write_all(content).unwrap();
        let sums = frames.finish().unwrap();
        (packed, sums)
    }

    fn digest(bytes: &[u8]) -> Sha256Digest {
        Sha256Digest::new(Sha256::digest(bytes).into())
    }

    #[test]
    fn frames_say_their_size_and_join_to_the_whole() {
        let content: Vec<u8> = (0..FRAME_SIZE + 1000).map(|i| (i / 7) as u8).collect();
        let (packed, sums) = pack(&content);
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), content);
        assert_eq!((sums.nar_hash, sums.file_hash), (digest(&content), digest(&packed)));
        assert_eq!(sums.file_size, packed.len() as u64);

        let first = zstd::zstd_safe::find_frame_compressed_size(&packed).unwrap();
        let sizes =
            [&packed[..], &packed[first..]].map(|frame| zstd::zstd_safe::get_frame_content_size(frame).unwrap());
        assert_eq!(sizes, [Some(FRAME_SIZE as u64), Some(1000)]);
    }

    /// Whoever compresses which frame, and whenever it is done: it is the same file.
    #[test]
    fn helpers_change_nothing() {
        let content: Vec<u8> = (0..3 * FRAME_SIZE + 1000).map(|i| (i / 11) as u8).collect();
        let alone = pack(&content);
        // One place lets every second job wait for a thread that is late.
        let (helpers, jobs) = mpsc::sync_channel::<Job>(1);
        let together = std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut compressor = Compressor::new(1).unwrap();
                while let Ok(job) = jobs.recv() {
                    std::thread::yield_now();
                    job.run(&mut compressor);
                }
            });
            let together = pack_with(&helpers, &content);
            drop(helpers);
            together
        });
        assert_eq!(together, alone);
    }

    #[test]
    fn a_frame_that_a_helper_loses_is_an_error() {
        let (helpers, jobs) = mpsc::sync_channel::<Job>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || drop(jobs.recv()));
            let mut compressor = Compressor::new(1).unwrap();
            let mut frames = FrameWriter::new(Vec::new(), &mut compressor, &helpers, |_| Ok(()));
            frames.write_all(b"x").unwrap();
            assert!(frames.finish().is_err());
        });
    }

    #[test]
    fn nothing_is_one_empty_frame() {
        let (packed, sums) = pack(b"");
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), b"");
        assert_eq!(sums.nar_hash, digest(b""));
    }

    #[test]
    fn a_failure_of_the_packed_file_is_told_apart() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut compressor = Compressor::new(1).unwrap();
        let helpers = mpsc::sync_channel(0).0;
        let mut frames = FrameWriter::new(Full, &mut compressor, &helpers, |_| Ok(()));
        assert!(frames.write_all(&vec![0; FRAME_SIZE]).is_err());
        assert_eq!(frames.take_failure().unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
