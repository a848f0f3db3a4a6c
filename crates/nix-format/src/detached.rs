//! Signatures that lie beside a document, in a file of their own: one `name:base64` line per key.
//!
//! What is signed is the document behind a prefix that names its kind, so that a signature over one kind of document (or
//! over a narinfo's fingerprint, made with the same key) can never be passed off as one over another.

use crate::signature::{KeyError, PublicKey, PublicKeys, SecretKey, Signature};

/// A kind of document that is signed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `generation.json` of a published generation, signed into `generation.json.sig`.
    Generation,
}

impl Document {
    /// The bytes in front of the document when it is signed; the version changes with the meaning of the signature.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Generation => "rookery generation.json v1\n",
        }
    }

    /// Signs `bytes` with each key; the result is the content of the signature file.
    pub fn sign<'a>(self, bytes: &[u8], keys: impl IntoIterator<Item = &'a SecretKey>) -> String {
        let message = self.message(bytes);
        keys.into_iter().map(|key| format!("{}\n", key.sign(&message))).collect()
    }

    /// Verifies `bytes` against the content of the signature file; returns the key that made a good signature.
    ///
    /// # Errors
    /// [`DetachedError`] says whether the file is no signature file or nobody trusted has signed.
    pub fn verify<'k>(
        self,
        bytes: &[u8],
        signature_file: &str,
        keys: &'k PublicKeys,
    ) -> Result<&'k PublicKey, DetachedError> {
        let signatures = parse_lines(signature_file)?;
        keys.verify(&self.message(bytes), &signatures).ok_or_else(|| DetachedError::Untrusted {
            signers: join(signatures.iter().map(Signature::name)),
            trusted: join(keys.iter().map(PublicKey::name)),
        })
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [self.prefix().as_bytes(), bytes].concat()
    }
}

/// Why a document isn't believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetachedError {
    /// A line of the signature file isn't a signature.
    #[error("line {line} of the signature file: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The file is well formed, and none of its signatures is a good one by a trusted key.
    #[error("no trusted key has signed exactly these bytes (signed by: {signers}; trusted: {trusted})")]
    Untrusted {
        /// The names in the signature file.
        signers: String,
        /// The names of the trusted keys.
        trusted: String,
    },
}

fn parse_lines(signature_file: &str) -> Result<Vec<Signature>, DetachedError> {
    signature_file
        .lines()
        .enumerate()
        .map(|(index, line)| line.parse().map_err(|source| DetachedError::Line { line: index + 1, source }))
        .collect()
}

fn join<T: ToString>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, seed: u8) -> SecretKey {
        SecretKey::from_seed(name.parse().unwrap(), &[seed; 32])
    }

    #[test]
    fn one_line_per_key_and_any_trusted_one_is_enough() {
        let (old, new, stranger) = (key("site-1", 1), key("site-2", 2), key("other", 3));
        let file = Document::Generation.sign(b"{}", [&old, &new]);
        assert_eq!(file.lines().count(), 2);
        assert!(file.starts_with("site-1:") && file.ends_with('\n'));

        for trusted in [&old, &new] {
            let keys = PublicKeys::new(vec![trusted.public_key()]);
            assert_eq!(Document::Generation.verify(b"{}", &file, &keys), Ok(&trusted.public_key()));
        }
        let keys = PublicKeys::new(vec![stranger.public_key()]);
        let refusal = Document::Generation.verify(b"{}", &file, &keys).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "no trusted key has signed exactly these bytes (signed by: site-1, site-2; trusted: other)"
        );
    }

    #[test]
    fn a_signature_over_the_bare_bytes_is_no_signature_of_the_document() {
        let site = key("site-1", 1);
        let bare = format!("{}\n", site.sign(b"{}"));
        let keys = PublicKeys::new(vec![site.public_key()]);
        assert!(Document::Generation.verify(b"{}", &bare, &keys).is_err());
    }

    #[test]
    fn a_changed_byte_an_empty_file_and_a_torn_line_are_refused() {
        let site = key("site-1", 1);
        let keys = PublicKeys::new(vec![site.public_key()]);
        let file = Document::Generation.sign(b"{}", [&site]);
        assert!(Document::Generation.verify(b"{} ", &file, &keys).is_err());
        assert!(matches!(Document::Generation.verify(b"{}", "", &keys), Err(DetachedError::Untrusted { .. })));
        let torn = &file[..file.len() / 2];
        assert!(matches!(Document::Generation.verify(b"{}", torn, &keys), Err(DetachedError::Line { line: 1, .. })));
    }
}
