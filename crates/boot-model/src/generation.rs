//! `generation.json`: what one published generation is. The schema is a contract between the publisher and every reader, the
//! agent in older initrds among them; each number has a frozen golden file in this crate's tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::serde_as_text;
use crate::{
    Architecture, GenerationId, GenerationRef, KernelParameter, Label, RoleName, STORE_DIR, Sha256Digest,
    SpecialisationName, StorePath, Timestamp,
};

/// The schema that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// The name of the closure manifest in [`Generation::files`] and in the generation's directory.
pub const CLOSURE_FILE: &str = "closure";

/// One published generation. Fields that a reader does not know are ignored, so adding one needs no new schema number;
/// changing the meaning of one does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Generation {
    schema: u32,
    /// The kind of machine it is for.
    pub role: RoleName,
    /// Its number and hash.
    pub id: GenerationId,
    /// When it was made: for a followed profile the date of the profile's link.
    pub date: Timestamp,
    /// The machines that can run it.
    pub architecture: Architecture,
    /// What can be booted: the system first, then its specialisations by name.
    pub entries: Vec<Entry>,
    /// The size of what a client without anything must bring.
    pub closure: Closure,
    /// Every other file of the generation's directory (except the signature), by its name there.
    pub files: BTreeMap<String, FileDigest>,
}

/// One thing to boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// `None` for the system itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<SpecialisationName>,
    /// What NixOS calls it, such as `NixOS 26.05.20261118.abc1234 (Linux 6.12.58)`.
    pub label: Label,
    /// Its system closure's root.
    pub toplevel: StorePath,
    /// What stage 1 hands over to.
    pub init: InitPath,
    /// Its own kernel parameters, without those that Rookery adds.
    pub kernel_parameters: Vec<KernelParameter>,
    /// The kernel's version where it is known, such as `6.12.58`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<Label>,
    /// The kernel: `boot/<digest>` in the generation's directory.
    pub kernel: Sha256Digest,
    /// The initrd, likewise.
    pub initrd: Sha256Digest,
}

/// Totals over the closures of all entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closure {
    /// Number of store paths.
    pub paths: u64,
    /// Bytes of their NARs, unpacked.
    pub nar_size: u64,
    /// Bytes of their packs in the cache.
    pub file_size: u64,
}

/// What a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileDigest {
    /// Its SHA-256.
    pub sha256: Sha256Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A program inside a store path, such as `/nix/store/…-nixos-system-lab/init`: made of the characters that store paths use,
/// so that it is one word on any command line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InitPath {
    text: Box<str>,
    store_path_len: usize,
}

/// The text names no file inside a store path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no path inside a store path, such as /nix/store/<hash>-<name>/init")]
pub struct InvalidInitPath(String);

/// The bytes are no `generation.json` of the known schema.
#[derive(Debug, Error)]
pub enum InvalidGeneration {
    /// Not JSON, or a field is missing or wrong.
    #[error("not a generation.json: {0}")]
    Json(#[from] serde_json::Error),
    /// A later Rookery wrote it.
    #[error("schema {0}, but this program knows schema {SCHEMA}: update the program that reads it")]
    Schema(u32),
    /// The fields contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

impl Generation {
    /// Puts a generation together and checks that its parts agree.
    pub fn new(
        generation: GenerationRef,
        date: Timestamp,
        architecture: Architecture,
        entries: Vec<Entry>,
        closure: Closure,
        files: BTreeMap<String, FileDigest>,
    ) -> Result<Self, InvalidGeneration> {
        let GenerationRef { role, id } = generation;
        let made = Self { schema: SCHEMA, role, id, date, architecture, entries, closure, files };
        made.check()?;
        Ok(made)
    }

    /// Reads `generation.json`. Whoever acts on it has verified the signature over the same bytes first.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidGeneration> {
        #[derive(Deserialize)]
        struct Header {
            schema: u32,
        }
        let Header { schema } = serde_json::from_slice(bytes)?;
        if schema != SCHEMA {
            return Err(InvalidGeneration::Schema(schema));
        }
        let read: Self = serde_json::from_slice(bytes)?;
        read.check()?;
        Ok(read)
    }

    /// The bytes to write and to sign.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a generation has only string keys and finite numbers");
        bytes.push(b'\n');
        bytes
    }

    /// Role and id.
    pub fn reference(&self) -> GenerationRef {
        GenerationRef { role: self.role.clone(), id: self.id }
    }

    /// The system itself: the entry that is no specialisation.
    pub fn system(&self) -> &Entry {
        &self.entries[0]
    }

    /// The entry that hands over to `init`.
    pub fn entry_for(&self, init: &InitPath) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.init == *init)
    }

    fn check(&self) -> Result<(), InvalidGeneration> {
        let wrong = |text: String| Err(InvalidGeneration::Contradiction(text));
        let Some(system) = self.entries.first() else {
            return wrong("it has no entry".to_owned());
        };
        if system.specialisation.is_some() {
            return wrong("its first entry is a specialisation, not the system".to_owned());
        }
        let id = GenerationId::new(self.id.number(), &system.toplevel);
        if id != self.id {
            return wrong(format!("its id is {}, but its system {} makes it {id}", self.id, system.toplevel));
        }
        let mut names = BTreeSet::new();
        for entry in &self.entries {
            if !names.insert(&entry.specialisation) {
                return wrong(format!("two entries are called {:?}", entry.specialisation));
            }
            if entry.init.store_path() != entry.toplevel.as_str() {
                return wrong(format!("init {} lies outside its toplevel {}", entry.init, entry.toplevel));
            }
            for digest in [entry.kernel, entry.initrd] {
                if self.files.get(&boot_file(digest)).is_none_or(|file| file.sha256 != digest) {
                    return wrong(format!("the file {} that an entry boots is not listed", boot_file(digest)));
                }
            }
        }
        if !self.files.contains_key(CLOSURE_FILE) {
            return wrong(format!("the file {CLOSURE_FILE} is not listed"));
        }
        let listed = |name: &str| {
            name == CLOSURE_FILE || name.strip_prefix("boot/").is_some_and(|d| d.parse::<Sha256Digest>().is_ok())
        };
        match self.files.keys().find(|name| !listed(name)) {
            Some(name) => wrong(format!("it lists the file {name:?}, which has no place in a generation")),
            None => Ok(()),
        }
    }
}

/// The name of a kernel or initrd within the generation's directory.
pub fn boot_file(digest: Sha256Digest) -> String {
    format!("boot/{digest}")
}

impl InitPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The store path that it lies in.
    pub fn store_path(&self) -> &str {
        &self.text[..self.store_path_len]
    }
}

impl FromStr for InitPath {
    type Err = InvalidInitPath;

    fn from_str(text: &str) -> Result<Self, InvalidInitPath> {
        let invalid = || InvalidInitPath(text.to_owned());
        let after_store = STORE_DIR.len() + 1;
        let inside = text.get(after_store..).and_then(|rest| rest.find('/')).ok_or_else(invalid)?;
        let (store_path, components) = text.split_at(after_store + inside);
        let store_path: StorePath = store_path.parse().map_err(|_| invalid())?;
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        let component = |c: &str| !matches!(c, "" | "." | "..") && c.bytes().all(safe);
        if !components.split('/').skip(1).all(component) {
            return Err(invalid());
        }
        Ok(Self { text: text.into(), store_path_len: store_path.as_str().len() })
    }
}

impl fmt::Display for InitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for InitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(InitPath);

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: if a test over it fails, the reader is wrong, not the file. A new schema gets a file of its own.
    const GOLDEN_1: &str = include_str!("../golden/generation-1.json");

    fn edited(from: &str, to: &str) -> Result<Generation, InvalidGeneration> {
        assert!(GOLDEN_1.contains(from), "{from}");
        Generation::from_json(GOLDEN_1.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn schema_1_reads_and_writes_the_same_bytes() {
        let generation = Generation::from_json(GOLDEN_1.as_bytes()).unwrap();
        assert_eq!(generation.reference().to_string(), "lab/42-9f3k2xq1");
        assert_eq!(generation.entries.len(), 2);
        assert_eq!(String::from_utf8(generation.to_json()).unwrap(), GOLDEN_1);
    }

    #[test]
    fn init_selects_its_entry_and_no_other() {
        let generation = Generation::from_json(GOLDEN_1.as_bytes()).unwrap();
        let debug = generation.entry_for(&generation.entries[1].init).unwrap();
        assert_eq!(debug.specialisation.as_ref().unwrap().as_str(), "debug");
        let foreign = "/nix/store/00000000000000000000000000000000-other/init".parse().unwrap();
        assert_eq!(generation.entry_for(&foreign), None);
    }

    #[test]
    fn contradictions_are_refused() {
        for (from, to, why) in [
            ("\"schema\": 1", "\"schema\": 2", "update the program"),
            ("42-9f3k2xq1", "42-00000000", "makes it 42-9f3k2xq1"),
            ("-debug/init", "-other/init", "lies outside its toplevel"),
            ("\"closure\": {\n      \"sha256\"", "\"shadow\": {\n      \"sha256\"", "file closure"),
            ("\"boot/", "\"boot/0", "is not listed"),
            ("lab", "../lab", "no role name"),
            ("console=ttyS0", "init=/bin/sh", "Rookery sets itself"),
        ] {
            let error = edited(from, to).unwrap_err().to_string();
            assert!(error.contains(why), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn fields_of_a_later_minor_change_are_ignored() {
        assert!(edited("\"schema\": 1,", "\"schema\": 1, \"season\": \"winter\",").is_ok());
    }

    #[test]
    fn init_paths() {
        let path: InitPath = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos/init".parse().unwrap();
        assert_eq!(path.store_path(), "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos");
        for bad in [
            "",
            "/bin/sh",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos/../x",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos//init",
            "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos/init x",
        ] {
            assert!(bad.parse::<InitPath>().is_err(), "{bad}");
        }
    }
}
