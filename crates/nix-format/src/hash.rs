//! SHA-256 as Nix writes it in front of a NAR or file: `sha256:` and base32.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boot_model::Sha256Digest;
use thiserror::Error;

use crate::base32;

/// Writes `sha256:` and 52 characters of base32, the spelling of narinfo files and fingerprints.
pub fn to_nix(digest: &Sha256Digest) -> String {
    format!("sha256:{}", base32::encode(digest.bytes()))
}

/// Reads any of Nix's spellings: `sha256:` with base32 (narinfo) or base16 (the store's database), or the
/// `sha256-` with base64 of newer command lines.
///
/// # Errors
/// [`InvalidHash`] for another algorithm or a malformed digest.
pub fn from_nix(text: &str) -> Result<Sha256Digest, InvalidHash> {
    let invalid = || InvalidHash(text.to_owned());
    if let Some(encoded) = text.strip_prefix("sha256-") {
        let bytes = STANDARD.decode(encoded).map_err(|_| invalid())?;
        return bytes.try_into().map(Sha256Digest::new).map_err(|_| invalid());
    }
    let encoded = text.strip_prefix("sha256:").ok_or_else(invalid)?;
    if encoded.len() == 64 {
        return encoded.parse().map_err(|_| invalid());
    }
    base32::decode(encoded).map(Sha256Digest::new).map_err(|_| invalid())
}

/// The text is no SHA-256 in one of Nix's spellings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no SHA-256 as Nix writes it (`sha256:` and 52 characters of base32 or 64 of base16)")]
pub struct InvalidHash(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spellings_of_one_digest() {
        let base32 = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let digest = from_nix(base32).unwrap();
        assert_eq!(to_nix(&digest), base32);
        assert_eq!(from_nix(&format!("sha256:{digest}")), Ok(digest));
        assert_eq!(from_nix("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), Ok(digest));
    }

    #[test]
    fn refusals() {
        for bad in ["", "sha256:", "sha256-AAAA", "sha1:0mdqa9w1p6cmli6976v4wi0sw9r4p5pr", "sha512:00", "sha256:é"] {
            assert!(from_nix(bad).is_err(), "{bad}");
        }
    }
}
