use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;

/// Where every store path lives. Rookery serves no other store directory: it is part of every hash and signature.
pub const STORE_DIR: &str = "/nix/store";

const HASH_LEN: usize = 32;
/// Nix's own limit for the name part (NixOS/nix src/libstore/path.cc).
const NAME_MAX: usize = 211;

/// The hash part of a store path: 32 characters of Nix's base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreHash([u8; HASH_LEN]);

/// A path directly below [`STORE_DIR`]: `/nix/store/<32 characters of base32>-<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Box<str>);

/// The text is no store path, or no hash part of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no store path: {rule}")]
pub struct InvalidStorePath {
    text: String,
    rule: &'static str,
}

impl StoreHash {
    /// The 32 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a hash part is ASCII, checked when it was read")
    }

    /// The first 8 characters, which a generation's id carries.
    pub fn short(&self) -> &str {
        &self.as_str()[..8]
    }
}

impl StorePath {
    /// The whole path, with [`STORE_DIR`].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component: hash, hyphen, name.
    pub fn base_name(&self) -> &str {
        &self.0[STORE_DIR.len() + 1..]
    }

    /// The hash part.
    pub fn hash(&self) -> StoreHash {
        let bytes = &self.base_name().as_bytes()[..HASH_LEN];
        StoreHash(bytes.try_into().expect("the hash part's length was checked when the path was read"))
    }

    /// The name without the hash: `linux-6.12.58`.
    pub fn name(&self) -> &str {
        &self.base_name()[HASH_LEN + 1..]
    }

    /// The path from its last component.
    pub fn from_base_name(base: &str) -> Result<Self, InvalidStorePath> {
        format!("{STORE_DIR}/{base}").parse()
    }
}

/// Nix's base32 alphabet leaves out e, o, u and t.
fn is_base32(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'd' | b'f'..=b'n' | b'p'..=b's' | b'v'..=b'z')
}

impl FromStr for StoreHash {
    type Err = InvalidStorePath;

    fn from_str(text: &str) -> Result<Self, InvalidStorePath> {
        match <[u8; HASH_LEN]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().copied().all(is_base32) => Ok(Self(bytes)),
            _ => Err(InvalidStorePath { text: text.to_owned(), rule: "a hash part is 32 characters of Nix's base32" }),
        }
    }
}

impl FromStr for StorePath {
    type Err = InvalidStorePath;

    fn from_str(text: &str) -> Result<Self, InvalidStorePath> {
        let invalid = |rule| InvalidStorePath { text: text.to_owned(), rule };
        let base = text.strip_prefix(STORE_DIR).and_then(|rest| rest.strip_prefix('/'));
        let base = base.ok_or_else(|| invalid("it must begin with /nix/store/"))?;
        let Some((hash, name)) = base.split_at_checked(HASH_LEN) else {
            return Err(invalid("the part after /nix/store/ is too short"));
        };
        hash.parse::<StoreHash>().map_err(|_| invalid("it must begin with 32 characters of Nix's base32"))?;
        let name =
            name.strip_prefix('-').ok_or_else(|| invalid("a hyphen must follow the 32 characters of the hash"))?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(allowed) {
            return Err(invalid("the name is 1 to 211 letters, digits and + - . _ ? ="));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StoreHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(StoreHash);
serde_as_text!(StorePath);

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos-system-lab-26.05";

    #[test]
    fn parts_of_a_path() {
        let path: StorePath = PATH.parse().unwrap();
        assert_eq!(path.hash().as_str(), "9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7");
        assert_eq!(path.hash().short(), "9f3k2xq1");
        assert_eq!(path.name(), "nixos-system-lab-26.05");
        assert_eq!(StorePath::from_base_name(path.base_name()), Ok(path));
    }

    #[test]
    fn refuses_what_nix_would_refuse() {
        let long = format!("{PATH}{}", "x".repeat(200));
        for bad in [
            "/nix/store/",
            "/nix/store/short-name",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-",
            "/nix/store/ef3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-e-is-no-base32",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-a/b",
            "/gnu/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-a",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8cé-a",
            long.as_str(),
        ] {
            assert!(bad.parse::<StorePath>().is_err(), "{bad}");
        }
    }
}
