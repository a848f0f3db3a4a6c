//! The next few blocks of a file, read at once.

use std::io;

use crate::source::Source;

/// With a window of one, a read for each block would be every fourth system call of a transfer.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    bytes: Vec<u8>,
    /// Where in the file they begin.
    offset: u64,
}

impl Ahead {
    /// Fills `buffer` from `offset` on, as [`Source::read_cached`] does, or, if the bytes are `warm`, as [`Source::read`].
    pub(crate) fn read(&mut self, source: &Source, buffer: &mut [u8], offset: u64, warm: bool) -> io::Result<()> {
        let read = if warm { Source::read } else { Source::read_cached };
        if 2 * buffer.len() > LENGTH {
            return read(source, buffer, offset);
        }
        if self.part(offset, buffer.len()).is_none() {
            let rest = usize::try_from(source.size().saturating_sub(offset)).unwrap_or(usize::MAX);
            self.bytes.resize(rest.min(LENGTH).max(buffer.len()), 0);
            self.offset = offset;
            read(source, &mut self.bytes, offset).inspect_err(|_| self.bytes.clear())?;
        }
        let part = self.part(offset, buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn part(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let begin = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(begin..)?.get(..length)
    }
}

/// In bytes. A thousand transfers have eight megabytes of it.
const LENGTH: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use tftp_engine::Mode;

    use super::*;

    #[test]
    fn every_block_is_what_the_file_has_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..=250).cycle().take(3 * LENGTH + 100).collect();
        std::fs::write(&path, &content).unwrap();
        let source = Source::new(File::open(&path).unwrap(), content.len() as u64, Mode::Octet).unwrap();
        let mut ahead = Ahead::default();
        let mut check = |offset: usize, length: usize| {
            let mut block = vec![0; length];
            ahead.read(&source, &mut block, offset as u64, true).unwrap();
            assert!(block == content[offset..][..length], "{length} bytes at {offset}");
        };
        for (number, block) in content.chunks(1468).enumerate() {
            check(number * 1468, block.len());
        }
        // What was lost is sent again, and larger windows come between.
        for (offset, length) in [(0, 512), (LENGTH, LENGTH), (512, 512), (content.len(), 0), (content.len() - 1, 1)] {
            check(offset, length);
        }
        let mut beyond = [0; 8];
        assert!(ahead.read(&source, &mut beyond, content.len() as u64, true).is_err());
        assert!(ahead.read(&source, &mut beyond, content.len() as u64 - 4, true).is_err());
    }
}
