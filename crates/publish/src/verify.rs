//! Checking what is published, byte by byte: digests, hashes, signatures.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use boot_model::generation::{FileDigest, Generation};
use boot_model::{GenerationRef, RoleName, Sha256Digest, StorePath};
use generations::Layout;
use nix_format::closure::{Closure, ClosureError};
use nix_format::detached::Document;
use nix_format::narinfo::{Compression, NarInfo};
use nix_format::signature::PublicKeys;
use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::role::{self, RoleError};

/// Something that isn't as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// Checks one generation, one role or all: every file of the generations, and everything in the cache that they name, down to
/// the NAR inside each packed file. `checked` hears each generation's name before it is read.
pub fn verify(
    layout: &Layout,
    generations: &[GenerationRef],
    keys: &PublicKeys,
    mut checked: impl FnMut(&GenerationRef),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for generation in generations {
        checked(generation);
        let mut check = Check { layout, keys, findings: &mut findings };
        check.generation(generation, &mut seen);
    }
    findings
}

/// All generations of a role, or of all roles.
///
/// # Errors
/// [`RoleError::List`].
pub fn all_generations(layout: &Layout, role: Option<&RoleName>) -> Result<Vec<GenerationRef>, RoleError> {
    let roles = match role {
        Some(role) => vec![role.clone()],
        None => role::roles(layout)?,
    };
    let mut all = Vec::new();
    for role in roles {
        let ids = role::published_ids(layout, &role)?;
        all.extend(ids.into_iter().map(|id| GenerationRef { role: role.clone(), id }));
    }
    Ok(all)
}

/// Whether a generation can be served: each file of its directory has its digest, and the cache offers each path of its closure.
/// Signatures and the bytes of packed files are not looked at.
pub(crate) fn is_servable(layout: &Layout, generation: &GenerationRef) -> bool {
    let directory = layout.generation(generation);
    let Ok(described) = role::read_generation(layout, generation) else { return false };
    let sound = directory.join(Layout::SIGNATURE_NAME).is_file()
        && described.reference() == *generation
        && described.files.iter().all(|(name, wanted)| file_problem(&directory.join(name), wanted).is_none());
    let cache = Cache::new(layout);
    sound && read_closure(&directory).is_ok_and(|closure| closure.paths().iter().all(|info| cache.offers(info)))
}

struct Check<'a> {
    layout: &'a Layout,
    keys: &'a PublicKeys,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn generation(&mut self, generation: &GenerationRef, seen: &mut BTreeSet<StorePath>) {
        let directory = self.layout.generation(generation);
        let Some(described) = self.description(generation, &directory) else { return };
        for (name, wanted) in &described.files {
            let path = directory.join(name);
            if let Some(problem) = file_problem(&path, wanted) {
                self.find(path, problem);
            }
        }
        match read_closure(&directory) {
            Ok(closure) => {
                let new = closure.paths().iter().filter(|info| seen.insert(info.store_path.clone()));
                new.for_each(|info| self.cached(info));
            }
            Err(problem) => self.find(directory.join(Layout::CLOSURE_NAME), problem),
        }
    }

    fn description(&mut self, generation: &GenerationRef, directory: &Path) -> Option<Generation> {
        let path = directory.join(Layout::GENERATION_NAME);
        let signature = directory.join(Layout::SIGNATURE_NAME);
        let bytes = self.or_find(&path, fs::read(&path))?;
        let signatures = self.or_find(&signature, fs::read_to_string(&signature))?;
        if let Err(error) = Document::Generation.verify(&bytes, &signatures, self.keys) {
            self.find(signature, error.to_string());
        }
        let described = self.or_find(&path, Generation::from_json(&bytes))?;
        if described.reference() != *generation {
            self.find(path, format!("it describes {}", described.reference()));
        }
        Some(described)
    }

    fn cached(&mut self, info: &NarInfo) {
        let cache = Cache::new(self.layout);
        let narinfo = cache.narinfo(&info.store_path);
        let read = cache.read(&info.store_path).map_err(|error| error.to_string());
        match read.and_then(|text| text.parse::<NarInfo>().map_err(|error| error.to_string())) {
            Ok(cached) if cached.verify(self.keys).is_none() => {
                self.find(narinfo, "no trusted key has signed it".to_owned())
            }
            Ok(cached) if cached.nar_hash != info.nar_hash => {
                self.find(narinfo, "it has another NarHash than the closure manifest".to_owned());
            }
            // Packed once more since, as clients will be told.
            Ok(cached) if cached.url != info.url => self.packed(&cache, &cached),
            Ok(_) => {}
            Err(problem) => self.find(narinfo, problem),
        }
        self.packed(&cache, info);
    }

    fn packed(&mut self, cache: &Cache, info: &NarInfo) {
        let packed = cache.packed(info);
        if let Some(problem) = packed_problem(&packed, info) {
            self.find(packed, problem);
        }
    }

    fn or_find<T>(&mut self, path: &Path, result: Result<T, impl std::fmt::Display>) -> Option<T> {
        result.map_err(|error| self.find(path.to_owned(), error.to_string())).ok()
    }

    fn find(&mut self, path: PathBuf, problem: String) {
        self.findings.push(Finding { path, problem });
    }
}

pub(crate) fn read_closure(directory: &Path) -> Result<Closure, String> {
    let text = fs::read_to_string(directory.join(Layout::CLOSURE_NAME)).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: ClosureError| error.to_string())
}

fn file_problem(path: &Path, wanted: &FileDigest) -> Option<String> {
    match File::open(path).and_then(digest) {
        Err(error) => Some(error.to_string()),
        Ok((_, size)) if size != wanted.size => Some(format!("it has {size} bytes instead of {}", wanted.size)),
        Ok((found, _)) if found != wanted.sha256 => {
            Some(format!("its SHA-256 is {found} instead of {}", wanted.sha256))
        }
        Ok(_) => None,
    }
}

fn packed_problem(path: &Path, info: &NarInfo) -> Option<String> {
    let wanted = FileDigest { sha256: info.file_hash, size: info.file_size };
    if let Some(problem) = file_problem(path, &wanted) {
        return Some(problem);
    }
    let unpacked = File::open(path).and_then(|file| match info.compression {
        Compression::Zstd => digest(zstd::Decoder::new(file)?),
        Compression::None => digest(file),
        other => Err(io::Error::other(format!("{other} is not what Rookery packs with"))),
    });
    match unpacked {
        Err(error) => Some(format!("it cannot be unpacked: {error}")),
        Ok(found) if found != (info.nar_hash, info.nar_size) => {
            Some("the NAR in it has not the NarHash of its narinfo".to_owned())
        }
        Ok(_) => None,
    }
}

fn digest(mut from: impl Read) -> io::Result<(Sha256Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((Sha256Digest::new(hasher.finalize().into()), size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}
