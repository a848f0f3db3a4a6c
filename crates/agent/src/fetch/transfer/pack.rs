//! One packed NAR: from the server through zstd into the staging place.

use std::os::fd::BorrowedFd;

use boot_model::StorePath;
use nix_format::narinfo::{Compression, NarInfo};
use zstd::{
    stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer},
    zstd_safe::DParameter,
};

use super::{
    Counters,
    unpack::{UnpackError, Unpacker},
};
use crate::fetch::stream::{Server, StreamError};

/// Why a pack did not become a path.
#[derive(Debug, thiserror::Error)]
pub(in crate::fetch) enum PackError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("{path}: {source}")]
    Unpack { path: StorePath, source: UnpackError },
    #[error("{path} is packed with {compression}, which this program does not read; publish it with `rookery publish`")]
    Compression { path: StorePath, compression: Compression },
    #[error("{path}: its pack is damaged: {cause}")]
    Pack { path: StorePath, cause: String },
    #[error("{path}: the NAR that the server has for it is not the signed one")]
    Hash { path: StorePath },
}

/// The largest window of a zstd frame, and so the most memory that one decoder takes: as much as a frame of our packs holds.
const WINDOW_LOG: u32 = 24;
const CONTENT: usize = 256 << 10;

/// The buffers of one worker, used again for each path.
pub(super) struct Buffers {
    packed: Vec<u8>,
    content: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { packed: vec![0; 64 << 10], content: vec![0; CONTENT] }
    }
}

/// Brings one path to its base name in `staging`, and checks that it is what was signed. What is left behind after an error is
/// the caller's to remove.
pub(super) fn fetch(
    server: &Server,
    info: &NarInfo,
    staging: BorrowedFd<'_>,
    buffers: &mut Buffers,
    counters: &Counters,
) -> Result<(), PackError> {
    let mut unpacker = Unpacker::new(staging, info.store_path.base_name(), info.nar_size);
    let unpack = |source| PackError::Unpack { path: info.store_path.clone(), source };
    let mut taken = 0;
    let mut sink = |bytes: &[u8]| {
        taken += bytes.len() as u64;
        counters.bytes(bytes.len() as u64);
        unpacker.take(bytes).map_err(unpack)
    };
    let unpacked = match info.compression {
        Compression::Zstd => decompress(server, info, buffers, &mut sink),
        Compression::None => copy(server, info, buffers, &mut sink),
        compression => Err(PackError::Compression { path: info.store_path.clone(), compression }),
    };
    let hashed = unpacked.and_then(|()| unpacker.finish().map_err(unpack));
    let checked = hashed.and_then(|found| match found == info.nar_hash {
        true => Ok(()),
        false => Err(PackError::Hash { path: info.store_path.clone() }),
    });
    checked.inspect_err(|_| counters.undo(taken))
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), PackError>;

fn copy(server: &Server, info: &NarInfo, buffers: &mut Buffers, sink: Sink<'_>) -> Result<(), PackError> {
    let mut stream = server.stream(&info.url, info.file_size);
    loop {
        match stream.read(&mut buffers.content)? {
            0 => return Ok(()),
            read => sink(&buffers.content[..read])?,
        }
    }
}

fn decompress(server: &Server, info: &NarInfo, buffers: &mut Buffers, sink: Sink<'_>) -> Result<(), PackError> {
    let damaged = |cause: String| PackError::Pack { path: info.store_path.clone(), cause };
    let mut decoder = Decoder::new().map_err(|error| damaged(error.to_string()))?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|error| damaged(error.to_string()))?;
    let mut stream = server.stream(&info.url, info.file_size);
    // Whether the last frame is whole; zstd's hint is 0 then.
    let mut between_frames = true;
    loop {
        let read = stream.read(&mut buffers.packed)?;
        if read == 0 && between_frames {
            return Ok(());
        }
        if read == 0 {
            return Err(damaged("its last frame is cut off".to_owned()));
        }
        let mut input = InBuffer::around(&buffers.packed[..read]);
        loop {
            let mut output = OutBuffer::around(buffers.content.as_mut_slice());
            let hint = decoder.run(&mut input, &mut output).map_err(|error| damaged(error.to_string()))?;
            between_frames = hint == 0;
            let written = output.pos();
            sink(&buffers.content[..written])?;
            // A full output may mean that there is more to come, unless the frame is whole.
            if input.pos() == read && (written < CONTENT || between_frames) {
                break;
            }
        }
    }
}
