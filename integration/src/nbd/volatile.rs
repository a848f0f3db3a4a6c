use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::Counts;
use crate::dice::Dice;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

/// Two files of the same size: what a client reads back (the cache), and what survives a power cut (the platter). A bit
/// per sector says where they may differ.
#[derive(Debug)]
pub(super) struct Volatile {
    cache: File,
    platter: File,
    size: u64,
    dirty: Vec<u64>,
    counts: Counts,
}

impl Volatile {
    /// Two files of `size` bytes with equal content.
    pub(super) fn new(cache: File, platter: File, size: u64) -> Self {
        let words = size.div_ceil(SECTOR).div_ceil(64);
        Self { cache, platter, size, dirty: vec![0; words as usize], counts: Counts::default() }
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.counts.read += buffer.len() as u64;
        self.cache.read_exact_at(buffer, offset)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.counts.written += bytes.len() as u64;
        self.cache.write_all_at(bytes, offset)?;
        for sector in sectors(offset, bytes.len() as u64) {
            self.dirty[(sector / 64) as usize] |= 1 << (sector % 64);
        }
        Ok(())
    }

    /// Zeros a range, as a write would.
    pub(super) fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        const PIECE: u64 = 1 << 20;
        let zeros = vec![0; PIECE.min(length) as usize];
        let mut at = offset;
        while at < offset + length {
            let piece = PIECE.min(offset + length - at);
            self.write(at, &zeros[..piece as usize])?;
            at += piece;
        }
        Ok(())
    }

    /// Everything written so far becomes durable.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.counts.flushes += 1;
        let all = 0..self.size.div_ceil(SECTOR);
        self.settle(all)
    }

    /// One range becomes durable, as a write with FUA asks for.
    pub(super) fn flush_range(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.settle(sectors(offset, length))
    }

    /// Cache and platter get `bytes`, past all counters.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.cache.write_all_at(bytes, offset)?;
        self.platter.write_all_at(bytes, offset)
    }

    /// Each dirty sector survives in `percent` of 100 cases, or is again what the platter has. Says how many did which.
    pub(super) fn cut(&mut self, dice: &mut Dice, percent: f64) -> io::Result<(u64, u64)> {
        let (mut kept, mut lost) = (0, 0);
        for sector in self.dirty_sectors(0..self.size.div_ceil(SECTOR)) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            if dice.hits(percent) {
                kept += 1;
                copy(&self.cache, &self.platter, range)?;
            } else {
                lost += 1;
                copy(&self.platter, &self.cache, range)?;
            }
        }
        self.dirty.fill(0);
        Ok((kept, lost))
    }

    /// Makes two files what cache and platter would be after a cut now, and leaves this disk as it is. Both must hold what the platter
    /// has already. The sectors of one block, of so many bytes, share their fate. Returns how many sectors were kept and lost.
    pub(super) fn survive(
        &self,
        dice: &mut Dice,
        percent: f64,
        block: u64,
        files: [&File; 2],
    ) -> io::Result<(u64, u64)> {
        let (mut kept, mut lost) = (0, 0);
        let (mut decided, mut survives) = (None, false);
        for sector in self.dirty_sectors(0..self.size.div_ceil(SECTOR)) {
            let this = Some(sector * SECTOR / block);
            if decided != this {
                (decided, survives) = (this, dice.hits(percent));
            }
            if survives {
                kept += 1;
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                files.into_iter().try_for_each(|file| copy(&self.cache, file, range.clone()))?;
            } else {
                lost += 1;
            }
        }
        Ok((kept, lost))
    }

    pub(super) fn fingerprint(&self) -> io::Result<[u8; 32]> {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.size {
            let count = buffer.len().min((self.size - offset) as usize);
            self.platter.read_exact_at(&mut buffer[..count], offset)?;
            hash.update(&buffer[..count]);
            offset += count as u64;
        }
        Ok(hash.finalize().into())
    }

    fn settle(&mut self, range: Range<u64>) -> io::Result<()> {
        for run in runs(&self.dirty_sectors(range)) {
            copy(&self.cache, &self.platter, run.start * SECTOR..run.end * SECTOR)?;
            for sector in run {
                self.dirty[(sector / 64) as usize] &= !(1 << (sector % 64));
            }
        }
        Ok(())
    }

    fn dirty_sectors(&self, range: Range<u64>) -> Vec<u64> {
        let mut found = Vec::new();
        for word in range.start / 64..range.end.div_ceil(64) {
            let mut bits = self.dirty[word as usize];
            while bits != 0 {
                let sector = word * 64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if range.contains(&sector) {
                    found.push(sector);
                }
            }
        }
        found
    }
}

fn sectors(offset: u64, length: u64) -> Range<u64> {
    offset / SECTOR..(offset + length).div_ceil(SECTOR)
}

/// Ascending numbers as runs without gaps.
fn runs(sectors: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &sector in sectors {
        match runs.last_mut() {
            Some(run) if run.end == sector => run.end += 1,
            _ => runs.push(sector..sector + 1),
        }
    }
    runs
}

fn copy(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut buffer = vec![0; PIECE.min(range.end - range.start) as usize];
    let mut at = range.start;
    while at < range.end {
        let piece = &mut buffer[..PIECE.min(range.end - at) as usize];
        from.read_exact_at(piece, at)?;
        to.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 256 * SECTOR;

    fn disk() -> Volatile {
        let file = || {
            let file = tempfile::tempfile().unwrap();
            file.set_len(SIZE).unwrap();
            file
        };
        Volatile::new(file(), file(), SIZE)
    }

    fn content(disk: &mut Volatile) -> Vec<u8> {
        let mut all = vec![0; SIZE as usize];
        disk.read(0, &mut all).unwrap();
        all
    }

    #[test]
    fn what_was_flushed_survives_and_the_rest_does_not() {
        let mut disk = disk();
        disk.write(0, &[1; 1024]).unwrap();
        disk.flush().unwrap();
        disk.write(512, &[2; 1024]).unwrap();
        assert_eq!(disk.cut(&mut Dice::new(1), 0.0).unwrap(), (0, 2));
        let content = content(&mut disk);
        assert!(content[..1024].iter().all(|&byte| byte == 1));
        assert!(content[1024..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn fua_saves_its_own_range_only() {
        let mut disk = disk();
        disk.write(0, &[1; 512]).unwrap();
        disk.write(4096, &[2; 512]).unwrap();
        disk.flush_range(4096, 512).unwrap();
        disk.cut(&mut Dice::new(1), 0.0).unwrap();
        let content = content(&mut disk);
        assert_eq!((content[0], content[4096]), (0, 2));
    }

    #[test]
    fn a_cut_may_tear_a_write_at_a_sector() {
        let mut disk = disk();
        disk.write(0, &[1; 64 * 512]).unwrap();
        let (kept, lost) = disk.cut(&mut Dice::new(9), 50.0).unwrap();
        assert_eq!(kept + lost, 64);
        assert!(kept > 0 && lost > 0);
        assert_eq!(content(&mut disk).iter().filter(|&&byte| byte == 1).count() as u64, kept * 512);
    }

    #[test]
    fn a_survivor_is_what_a_cut_would_leave_and_the_disk_goes_on() {
        let mut disk = disk();
        disk.write(0, &[1; 512]).unwrap();
        disk.flush().unwrap();
        disk.write(0, &[2; 64 * 512]).unwrap();
        let files = [(); 2].map(|()| tempfile::tempfile().unwrap());
        for file in &files {
            file.set_len(SIZE).unwrap();
            copy(&disk.platter, file, 0..SIZE).unwrap();
        }
        let counted = disk.survive(&mut Dice::new(9), 50.0, SECTOR, [&files[0], &files[1]]).unwrap();
        assert_eq!(content(&mut disk)[..64 * 512], [2; 64 * 512]);
        assert_eq!(disk.cut(&mut Dice::new(9), 50.0).unwrap(), counted);
        let [cache, platter] = files;
        assert_eq!(content(&mut Volatile::new(cache, platter, SIZE)), content(&mut disk));
    }

    #[test]
    fn a_block_survives_as_a_whole_or_not_at_all() {
        let mut disk = disk();
        disk.write(0, &[1; 64 * 512]).unwrap();
        let files = [(); 2].map(|()| tempfile::tempfile().unwrap());
        files.iter().for_each(|file| file.set_len(SIZE).unwrap());
        let (kept, lost) = disk.survive(&mut Dice::new(9), 50.0, 4096, [&files[0], &files[1]]).unwrap();
        assert!(kept > 0 && lost > 0);
        let mut platter = vec![0; SIZE as usize];
        files[1].read_exact_at(&mut platter, 0).unwrap();
        assert!(platter.chunks(4096).all(|block| block.iter().all(|&byte| byte == block[0])));
    }

    proptest! {
        /// Against a model: two byte vectors.
        #[test]
        fn behaves_like_two_vectors(steps in prop::collection::vec((0..SIZE, 0..3000_u64, 0..5_u8), 1..40)) {
            let mut disk = disk();
            let (mut cache, mut platter) = (vec![0; SIZE as usize], vec![0; SIZE as usize]);
            for (number, (offset, length, kind)) in steps.into_iter().enumerate() {
                match kind {
                    0..3 => {
                        let end = (offset + length).min(SIZE);
                        let byte = number as u8 + 1;
                        disk.write(offset, &vec![byte; (end - offset) as usize]).unwrap();
                        cache[offset as usize..end as usize].fill(byte);
                    }
                    3 => {
                        disk.flush().unwrap();
                        platter.clone_from(&cache);
                    }
                    _ => {
                        disk.cut(&mut Dice::new(0), 0.0).unwrap();
                        cache.clone_from(&platter);
                    }
                }
                prop_assert_eq!(&content(&mut disk), &cache);
            }
        }
    }
}
