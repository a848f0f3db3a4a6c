//! Compression into independent zstd frames, with both digests on the way.
//!
//! Each frame holds at most 16 MiB and says how many, so that a reader can seek, decompress in parallel and allocate once.
//! One after another they are an ordinary .zst file.

use std::io::{self, Write};

use boot_model::Sha256Digest;
use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;

/// Bytes of content in every frame but the last.
pub(crate) const FRAME_SIZE: usize = 16 << 20;

/// What went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) nar_hash: Sha256Digest,
    pub(crate) file_hash: Sha256Digest,
    pub(crate) file_size: u64,
}

/// Takes a NAR and writes the packed file. `on_bytes` hears how many bytes of the NAR came in since the last call and may
/// end the work by an error.
pub(crate) struct FrameWriter<'a, W, F> {
    out: W,
    compressor: &'a mut Compressor<'static>,
    on_bytes: F,
    frame: Vec<u8>,
    nar_hash: Sha256,
    file_hash: Sha256,
    file_size: u64,
    any: bool,
    failure: Option<io::Error>,
}

impl<'a, W: Write, F: FnMut(u64) -> io::Result<()>> FrameWriter<'a, W, F> {
    pub(crate) fn new(out: W, compressor: &'a mut Compressor<'static>, on_bytes: F) -> Self {
        Self {
            out,
            compressor,
            on_bytes,
            frame: Vec::new(),
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
            self.write_frame()?;
        }
        Ok(Sums {
            nar_hash: Sha256Digest::new(self.nar_hash.finalize().into()),
            file_hash: Sha256Digest::new(self.file_hash.finalize().into()),
            file_size: self.file_size,
        })
    }

    fn write_frame(&mut self) -> io::Result<()> {
        self.any = true;
        self.nar_hash.update(&self.frame);
        let packed = self.compressor.compress(&self.frame)?;
        self.file_hash.update(&packed);
        self.file_size += packed.len() as u64;
        self.out.write_all(&packed)?;
        (self.on_bytes)(self.frame.len() as u64)?;
        self.frame.clear();
        Ok(())
    }
}

impl<W: Write, F: FnMut(u64) -> io::Result<()>> Write for FrameWriter<'_, W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(FRAME_SIZE - self.frame.len());
        self.frame.extend_from_slice(&bytes[..taken]);
        if self.frame.len() == FRAME_SIZE
            && let Err(error) = self.write_frame()
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
        let mut packed = Vec::new();
        let mut compressor = Compressor::new(1).unwrap();
        let mut frames = FrameWriter::new(&mut packed, &mut compressor, |_| Ok(()));
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
        let mut frames = FrameWriter::new(Full, &mut compressor, |_| Ok(()));
        assert!(frames.write_all(&vec![0; FRAME_SIZE]).is_err());
        assert_eq!(frames.take_failure().unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
