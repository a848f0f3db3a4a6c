//! Numbers and texts of the index.

use super::BundleError;

/// What is left of an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn malformed(&self, problem: &'static str) -> BundleError {
        BundleError::Malformed { offset: self.at, problem }
    }

    pub(super) fn byte(&mut self) -> Result<u8, BundleError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.malformed("it is cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], BundleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (bytes, _) = rest.split_at_checked(length).ok_or_else(|| self.malformed("it is cut off"))?;
        self.at += length;
        Ok(bytes)
    }

    /// A number below 2^63, in as few bytes as it can have.
    pub(super) fn number(&mut self) -> Result<u64, BundleError> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err(self.malformed("a number has leading zeros")) } else { Ok(number) };
            }
        }
        Err(self.malformed("a number is too large"))
    }

    /// A text of at most `longest` bytes.
    pub(super) fn text(&mut self, longest: usize) -> Result<&'a [u8], BundleError> {
        match usize::try_from(self.number()?) {
            Ok(length) if length <= longest => self.bytes(length),
            _ => Err(self.malformed("a text is too long")),
        }
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}
