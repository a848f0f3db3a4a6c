//! The netascii mode of RFC 1350 §1 (RFC 764): lines end in CR LF, a lone CR is CR NUL.
//!
//! No boot loader uses it; tftp-hpa's client does when a person forgets `-m binary`.

/// Translates a file whose lines end in LF. At most twice as long as `text`.
#[must_use]
pub fn encode(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len() + text.len() / 16);
    for &byte in text {
        match byte {
            b'\n' => encoded.extend_from_slice(b"\r\n"),
            b'\r' => encoded.extend_from_slice(b"\r\0"),
            other => encoded.push(other),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn line_ends() {
        assert_eq!(super::encode(b"a\nb\r\n\rc"), b"a\r\nb\r\0\r\n\r\0c");
        assert_eq!(super::encode(b""), b"");
    }
}
