//! narinfo: what a binary cache says of one store path.
//!
//! A signature covers the fingerprint only (path, NarHash, NarSize, references). URL, FileHash and FileSize are not
//! covered, and differ from one zstd to the next; whoever unpacks checks the NarHash.

use std::fmt;
use std::str::FromStr;

use boot_model::{Sha256Digest, StorePath};
use thiserror::Error;

use crate::hash;
use crate::signature::{PublicKey, PublicKeys, SecretKey, Signature};

/// One narinfo. Its `Display` is the file as Nix writes it, fields in Nix's order, every line with its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The path described.
    pub store_path: StorePath,
    /// The packed NAR, relative to the cache: `nar/<FileHash>.nar.zst`.
    pub url: String,
    /// How the file is compressed.
    pub compression: Compression,
    /// SHA-256 of the compressed file.
    pub file_hash: Sha256Digest,
    /// Bytes of the compressed file.
    pub file_size: u64,
    /// SHA-256 of the NAR.
    pub nar_hash: Sha256Digest,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// The paths it refers to, sorted, itself included if it does.
    pub references: Vec<StorePath>,
    /// The derivation that built it, if the store knows.
    pub deriver: Option<StorePath>,
    /// Who vouches for it; the site's own key and whoever signed it before.
    pub signatures: Vec<Signature>,
    /// The content address (`fixed:…`, `text:…`) of a path whose name follows from its content.
    pub content_address: Option<String>,
}

/// Nix's names of compressions. Rookery writes zstd and reads what others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The NAR as it is.
    None,
    /// Zstandard, any number of frames.
    Zstd,
    /// xz, which other caches prefer.
    Xz,
    /// bzip2, the value where a narinfo has no such line.
    Bzip2,
}

impl NarInfo {
    /// What signatures cover: `1;<path>;<NarHash>;<NarSize>;<references, comma-separated>`, with whole paths.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.store_path, &self.nar_hash, self.nar_size, &self.references)
    }

    /// Adds the signature by `key`, unless it is there already. One of the same name does not count: it may be by an earlier
    /// key of that name, or damaged.
    pub fn sign(&mut self, key: &SecretKey) {
        let signature = key.sign(self.fingerprint().as_bytes());
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Returns the trusted key that signed this path, if any did.
    pub fn verify<'k>(&self, keys: &'k PublicKeys) -> Option<&'k PublicKey> {
        keys.verify(self.fingerprint().as_bytes(), &self.signatures)
    }
}

/// The text that a signature of a store path covers; `references` must be sorted.
pub fn fingerprint(path: &StorePath, nar_hash: &Sha256Digest, nar_size: u64, references: &[StorePath]) -> String {
    let references = join(references.iter().map(StorePath::as_str), ",");
    format!("1;{path};{};{nar_size};{references}", hash::to_nix(nar_hash))
}

impl fmt::Display for NarInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StorePath: {}", self.store_path)?;
        writeln!(f, "URL: {}", self.url)?;
        writeln!(f, "Compression: {}", self.compression)?;
        writeln!(f, "FileHash: {}", hash::to_nix(&self.file_hash))?;
        writeln!(f, "FileSize: {}", self.file_size)?;
        writeln!(f, "NarHash: {}", hash::to_nix(&self.nar_hash))?;
        writeln!(f, "NarSize: {}", self.nar_size)?;
        writeln!(f, "References: {}", join(self.references.iter().map(StorePath::base_name), " "))?;
        if let Some(deriver) = &self.deriver {
            writeln!(f, "Deriver: {}", deriver.base_name())?;
        }
        self.signatures.iter().try_for_each(|signature| writeln!(f, "Sig: {signature}"))?;
        self.content_address.iter().try_for_each(|address| writeln!(f, "CA: {address}"))
    }
}

impl FromStr for NarInfo {
    type Err = NarInfoError;

    /// Parses a narinfo. Fields may come in any order; unknown ones are passed over, as Nix does.
    fn from_str(text: &str) -> Result<Self, NarInfoError> {
        let mut fields = Fields::default();
        for (index, line) in text.lines().enumerate() {
            fields.read(line).map_err(|(field, problem)| NarInfoError::Line { line: index + 1, field, problem })?;
        }
        fields.finish()
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// Why a text is no narinfo.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NarInfoError {
    /// One line is wrong.
    #[error("line {line}, {field}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The field's name, or the line's beginning where no field can be made out.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field that must be there isn't.
    #[error("the field {0} is missing")]
    Missing(&'static str),
}

#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<Sha256Digest>,
    file_size: Option<u64>,
    nar_hash: Option<Sha256Digest>,
    nar_size: Option<u64>,
    references: Option<Vec<StorePath>>,
    deriver: Option<Option<StorePath>>,
    signatures: Vec<Signature>,
    content_address: Option<String>,
}

impl Fields {
    fn read(&mut self, line: &str) -> Result<(), (String, String)> {
        let Some((field, value)) = line.split_once(':') else {
            let start = line.chars().take(20).collect();
            return Err((start, "a line must be `Field: value`".to_owned()));
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        self.set(field, value).map_err(|problem| (field.to_owned(), problem))
    }

    fn set(&mut self, field: &str, value: &str) -> Result<(), String> {
        match field {
            "StorePath" => once(&mut self.store_path, value.parse().map_err(text)),
            "URL" => once(&mut self.url, parse_url(value)),
            "Compression" => once(&mut self.compression, parse_compression(value)),
            "FileHash" => once(&mut self.file_hash, hash::from_nix(value).map_err(text)),
            "FileSize" => once(&mut self.file_size, parse_size(value)),
            "NarHash" => once(&mut self.nar_hash, hash::from_nix(value).map_err(text)),
            "NarSize" => once(&mut self.nar_size, parse_size(value)),
            "References" => once(&mut self.references, parse_references(value)),
            "Deriver" => once(&mut self.deriver, parse_deriver(value)),
            "CA" => once(&mut self.content_address, Ok(value.to_owned())),
            "Sig" => {
                self.signatures.push(value.parse().map_err(text)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<NarInfo, NarInfoError> {
        Ok(NarInfo {
            store_path: self.store_path.ok_or(NarInfoError::Missing("StorePath"))?,
            url: self.url.ok_or(NarInfoError::Missing("URL"))?,
            compression: self.compression.unwrap_or(Compression::Bzip2),
            file_hash: self.file_hash.ok_or(NarInfoError::Missing("FileHash"))?,
            file_size: self.file_size.ok_or(NarInfoError::Missing("FileSize"))?,
            nar_hash: self.nar_hash.ok_or(NarInfoError::Missing("NarHash"))?,
            nar_size: self.nar_size.ok_or(NarInfoError::Missing("NarSize"))?,
            references: self.references.ok_or(NarInfoError::Missing("References"))?,
            deriver: self.deriver.flatten(),
            signatures: self.signatures,
            content_address: self.content_address,
        })
    }
}

fn once<T>(slot: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    if slot.is_some() {
        return Err("the field stands here a second time".to_owned());
    }
    *slot = Some(value?);
    Ok(())
}

/// Only below the cache itself: our own tools read these texts, and none of them may be led elsewhere.
fn parse_url(value: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._=/".contains(&byte);
    let within = value.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !within || !value.bytes().all(plain) {
        return Err(format!("{value:?} must be a plain path relative to the cache, as nar/<hash>.nar.zst"));
    }
    Ok(value.to_owned())
}

fn parse_compression(value: &str) -> Result<Compression, String> {
    Ok(match value {
        "none" => Compression::None,
        "zstd" => Compression::Zstd,
        "xz" => Compression::Xz,
        "bzip2" => Compression::Bzip2,
        _ => return Err(format!("{value:?} is unknown; none, zstd, xz and bzip2 are known")),
    })
}

fn parse_size(value: &str) -> Result<u64, String> {
    // `u64::from_str` takes a plus sign; Nix doesn't write one.
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{value:?} is no number of bytes"));
    }
    value.parse().map_err(|_| format!("{value:?} is no number of bytes"))
}

fn parse_references(value: &str) -> Result<Vec<StorePath>, String> {
    let mut references =
        value.split_ascii_whitespace().map(StorePath::from_base_name).collect::<Result<Vec<_>, _>>().map_err(text)?;
    // The fingerprint has them sorted, however they were written.
    references.sort();
    references.dedup();
    Ok(references)
}

/// Old caches write `unknown-deriver` where there is none.
fn parse_deriver(value: &str) -> Result<Option<StorePath>, String> {
    match value {
        "" | "unknown-deriver" => Ok(None),
        _ => StorePath::from_base_name(value).map(Some).map_err(text),
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

fn join<'a>(parts: impl Iterator<Item = &'a str>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Written by `nix copy --to file://` of Nix 2.8.0; the public key is the one it was signed with.
    const NARINFO: &str = include_str!("../tests/data/nix-2.8.narinfo");
    const PUBLIC_KEY: &str = include_str!("../tests/data/nix-2.8.pub");

    #[test]
    fn a_file_by_nix_round_trips_and_verifies() {
        let info: NarInfo = NARINFO.parse().unwrap();
        assert_eq!(info.to_string(), NARINFO);
        let keys: PublicKeys = PUBLIC_KEY.parse().unwrap();
        assert_eq!(info.verify(&keys).unwrap().name().as_str(), "lab-1");

        let mut forged = info.clone();
        forged.nar_size += 1;
        assert_eq!(forged.verify(&keys), None);
        let mut moved = info;
        moved.url = "nar/elsewhere.nar.zst".to_owned();
        assert!(moved.verify(&keys).is_some(), "the URL isn't covered");
    }

    #[test]
    fn signs_once_per_key() {
        let mut info: NarInfo = NARINFO.parse().unwrap();
        let key = SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32]);
        info.sign(&key);
        info.sign(&key);
        assert_eq!(info.signatures.len(), 2);
        assert!(info.verify(&PublicKeys::new(vec![key.public_key()])).is_some());

        let replaced = SecretKey::from_seed("site-1".parse().unwrap(), &[2; 32]);
        info.sign(&replaced);
        assert!(info.verify(&PublicKeys::new(vec![replaced.public_key()])).is_some(), "a new key of the old name");
    }

    #[test]
    fn refusals_name_line_and_field() {
        let with = |from: &str, to: &str| NARINFO.replacen(from, to, 1).parse::<NarInfo>().unwrap_err().to_string();
        assert_eq!(with("NarSize: ", "NarSize: -"), format!("line 7, NarSize: \"-{}\" is no number of bytes", size()));
        assert_eq!(with("Compression: zstd", "Compression"), "line 3, Compression: a line must be `Field: value`");
        assert_eq!(
            with("Compression: zstd", "Compression: lzip"),
            "line 3, Compression: \"lzip\" is unknown; none, zstd, xz and bzip2 are known"
        );
        assert_eq!(with("Compression: zstd", "NarSize: 1"), "line 7, NarSize: the field stands here a second time");
        assert_eq!(with("NarHash", "Unheard-of"), "the field NarHash is missing");
        for url in ["/etc/passwd", "http://evil/x", "nar/../../x", "", "a b", "nar//x"] {
            assert!(with("URL: nar/", &format!("URL: {url} nar/")).starts_with("line 2, URL: "), "{url}");
        }
    }

    fn size() -> u64 {
        NARINFO.parse::<NarInfo>().unwrap().nar_size
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reaches_a_fixpoint(
            position in 0..NARINFO.len(), removed in 0..40_usize, inserted in "[ -~\n]{0,8}",
        ) {
            let end = (position + removed).min(NARINFO.len());
            let text = format!("{}{inserted}{}", &NARINFO[..position], &NARINFO[end..]);
            if let Ok(info) = text.parse::<NarInfo>() {
                prop_assert_eq!(info.to_string().parse::<NarInfo>(), Ok(info));
            }
        }
    }
}
