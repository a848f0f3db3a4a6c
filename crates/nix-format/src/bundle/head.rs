use super::{BundleError, MAX_INDEX, max_frame};

const MAGIC: &[u8; 16] = b"rookery-bundle-1";

/// The first bytes of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    index: u32,
    frame: u32,
}

impl Head {
    /// Bytes of a head.
    pub const SIZE: usize = 24;

    /// The head of a bundle whose index has `index` bytes, and `frame` bytes compressed.
    ///
    /// # Errors
    /// [`BundleError::IndexSize`] if that is more than a bundle may have.
    pub fn new(index: usize, frame: usize) -> Result<Self, BundleError> {
        let error = BundleError::IndexSize { index: index as u64, frame: frame as u64 };
        match (u32::try_from(index), u32::try_from(frame)) {
            (Ok(index @ ..=MAX_INDEX), Ok(frame)) if u64::from(frame) <= max_frame(index.into()) => {
                Ok(Self { index, frame })
            }
            _ => Err(error),
        }
    }

    /// Parses the first bytes of a file.
    ///
    /// # Errors
    /// [`BundleError::Magic`] and [`BundleError::IndexSize`].
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Result<Self, BundleError> {
        let (magic, sizes) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(BundleError::Magic);
        }
        let number = |at: usize| u32::from_le_bytes([sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]]);
        Self::new(number(0) as usize, number(4) as usize)
    }

    /// The bytes that a file begins with.
    pub fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..20].copy_from_slice(&self.index.to_le_bytes());
        bytes[20..].copy_from_slice(&self.frame.to_le_bytes());
        bytes
    }

    /// Bytes of the index, uncompressed.
    pub fn index_size(&self) -> u32 {
        self.index
    }

    /// Bytes of the index's frame, which follows the head.
    pub fn index_frame(&self) -> u32 {
        self.frame
    }

    /// Where the records' frames begin in the file.
    pub fn frames_begin(&self) -> u64 {
        Self::SIZE as u64 + u64::from(self.frame)
    }
}
