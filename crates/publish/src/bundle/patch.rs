//! zstd as the bundle needs it: whole files in memory, and large ones as they pass.

use std::io::{self, Read, Write};

use nix_format::bundle::MAX_WINDOW_LOG;
use zstd::stream::read::Encoder;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

/// A tenth smaller than 3 for nearly five times the CPU, and hardly larger than 12 (docs/decisions/0005-update-bundles.md): nobody waits for
/// a bundle, and everybody fetches it.
pub(super) const LEVEL: i32 = 9;

/// The largest window that zstd has on every platform.
const MAX_PATCH_WINDOW_LOG: u32 = 27;

/// From this size of both files together on, zstd's search for long matches finds what its tables have forgotten.
const LONG: usize = 8 << 20;

/// A frame with `contents` that can be read only with `base` before it.
pub(super) fn patch(base: &[u8], contents: &[u8]) -> io::Result<Vec<u8>> {
    let mut context = CCtx::create();
    let both = base.len() + contents.len();
    let window = both.max(1 << 10).next_power_of_two().ilog2().min(MAX_PATCH_WINDOW_LOG);
    set(&mut context, CParameter::WindowLog(window))?;
    set(&mut context, CParameter::EnableLongDistanceMatching(both >= LONG))?;
    context.ref_prefix(base).map_err(zstd_error)?;
    compress(&mut context, contents)
}

/// A frame with `contents`.
pub(super) fn data(contents: &[u8]) -> io::Result<Vec<u8>> {
    compress(&mut CCtx::create(), contents)
}

/// Writes a frame with what `contents` yields; returns its size.
pub(super) fn stream(contents: impl Read, size: u64, mut out: impl Write) -> io::Result<u64> {
    let mut encoder = Encoder::with_buffer(io::BufReader::with_capacity(1 << 20, contents), LEVEL)?;
    encoder.window_log(MAX_WINDOW_LOG)?;
    encoder.set_pledged_src_size(Some(size))?;
    io::copy(&mut encoder, &mut out)
}

/// Undoes [`patch`], or [`data`] with an empty base.
pub(super) fn unpatch(base: &[u8], frame: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let mut context = DCtx::create();
    context.ref_prefix(base).map_err(zstd_error)?;
    let mut contents = Vec::with_capacity(size);
    context.decompress(&mut contents, frame).map_err(zstd_error)?;
    Ok(contents)
}

fn compress(context: &mut CCtx<'_>, contents: &[u8]) -> io::Result<Vec<u8>> {
    set(context, CParameter::CompressionLevel(LEVEL))?;
    let mut frame = Vec::with_capacity(compress_bound(contents.len()));
    context.compress2(&mut frame, contents).map_err(zstd_error)?;
    frame.shrink_to_fit();
    Ok(frame)
}

fn set(context: &mut CCtx<'_>, parameter: CParameter) -> io::Result<()> {
    context.set_parameter(parameter).map(|_| ()).map_err(zstd_error)
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that zstd alone can't make smaller.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    #[test]
    fn a_patch_holds_the_difference_however_far_it_lies() {
        for size in [0, 1, 100, 1 << 20, 12 << 20] {
            let base = noise(size);
            let mut contents = base.clone();
            contents.extend_from_slice(b"the end");
            let frame = patch(&base, &contents).unwrap();
            assert!(frame.len() < 2000, "{size}: {}", frame.len());
            assert_eq!(unpatch(&base, &frame, contents.len()).unwrap(), contents);
        }
    }

    #[test]
    fn a_stream_is_the_same_frame_for_readers() {
        let contents = noise(3 << 20);
        let mut frame = Vec::new();
        let written = stream(&contents[..], contents.len() as u64, &mut frame).unwrap();
        assert_eq!(written, frame.len() as u64);
        assert_eq!(unpatch(b"", &frame, contents.len()).unwrap(), contents);
        assert_eq!(unpatch(b"", &data(&contents).unwrap(), contents.len()).unwrap(), contents);
    }
}
