use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boot_model::generation::{FileDigest, Generation, InvalidGeneration};
use boot_model::{Architecture, GenerationId, GenerationRef, RoleName, Sha256Digest};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::Layout;

/// Everything that was published at one moment. Immutable: a new scan makes a new one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The roles that have a folder, by name.
    pub roles: BTreeMap<RoleName, Role>,
    /// What was found and left out, with the reason.
    pub problems: Vec<Problem>,
}

/// One role's generations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Role {
    /// Newest (highest number) first.
    pub generations: Vec<Arc<Published>>,
    default: Option<GenerationId>,
}

/// One published generation whose files were all there and had their digests when it was first seen.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// What its generation.json says.
    pub generation: Generation,
    stamp: Stamp,
}

/// An entry of the directory that readers leave out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it lies.
    pub path: PathBuf,
    /// Why it is left out and what would mend it.
    pub reason: String,
}

/// What tells a directory that was replaced from the one seen before, without reading it again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
    files: Vec<(u64, u64, i64, i64)>,
}

#[derive(Debug, Error)]
enum Unusable {
    #[error("its name is neither a generation (<number>-<8 characters>) nor one of the role's own files; remove it")]
    Name,
    #[error("cannot read {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("generation.json: {0}")]
    Invalid(#[from] InvalidGeneration),
    #[error("its generation.json says {0}; it was moved or renamed by hand, publish it again")]
    Elsewhere(GenerationRef),
    #[error("{name} has {found} bytes, generation.json says {wanted}; publish the generation again")]
    Size { name: String, found: u64, wanted: u64 },
    #[error("{name} does not have the digest that generation.json says; publish the generation again")]
    Digest { name: String },
}

impl Snapshot {
    /// The published generation with this name.
    pub fn find(&self, generation: &GenerationRef) -> Option<&Arc<Published>> {
        self.roles.get(&generation.role)?.generations.iter().find(|p| p.generation.id == generation.id)
    }

    /// Whether a client of this role and architecture has anything to boot.
    pub fn servable(&self, role: &RoleName, architecture: Architecture) -> bool {
        let fits = |p: &Arc<Published>| p.generation.architecture == architecture;
        self.roles.get(role).is_some_and(|role| role.generations.iter().any(fits))
    }

    /// The problems that an earlier snapshot did not have, so that each is logged once.
    pub fn new_problems<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a Problem> {
        self.problems.iter().filter(|problem| !earlier.problems.contains(problem))
    }
}

/// The form in which every service's `check` and log name it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl Role {
    /// What the menu boots unasked: what `default` names, or the newest where it names nothing that is published.
    pub fn default_generation(&self) -> Option<&Arc<Published>> {
        let named = self.generations.iter().find(|p| Some(p.generation.id) == self.default);
        named.or_else(|| self.generations.first())
    }
}

/// Reads what is published. A directory that an `earlier` snapshot holds and that has not changed is not read again.
///
/// # Errors
/// If the generations directory is there and cannot be listed, or this process is out of descriptors or memory, which says nothing
/// about what is published. That the directory is not there (yet) is an empty snapshot, and what is wrong with one entry is a
/// [`Problem`] of that entry alone.
pub fn scan(layout: &Layout, earlier: &Snapshot) -> io::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let generations = layout.generations();
    for entry in list(&generations).map_err(|error| named(&generations, &error))? {
        let name = entry.file_name();
        match name.to_str().map(str::parse::<RoleName>) {
            _ if hidden(&entry) => {}
            Some(Ok(role)) => {
                let seen = earlier.roles.get(&role);
                let read = scan_role(layout, &role, seen, &mut snapshot.problems)?;
                snapshot.roles.insert(role, read);
            }
            Some(Err(error)) => snapshot.problems.push(Problem { path: entry.path(), reason: error.to_string() }),
            None => snapshot.problems.push(Problem { path: entry.path(), reason: "its name is not UTF-8".to_owned() }),
        }
    }
    snapshot.problems.sort();
    Ok(snapshot)
}

fn scan_role(layout: &Layout, role: &RoleName, seen: Option<&Role>, problems: &mut Vec<Problem>) -> io::Result<Role> {
    let path = layout.role(role);
    let entries = match list(&path) {
        Err(error) if is_exhaustion(&error) => return Err(named(&path, &error)),
        Err(error) => {
            problems.push(Problem { path: path.clone(), reason: format!("cannot list it: {error}") });
            Vec::new()
        }
        Ok(entries) => entries,
    };
    let mut found = Role { default: read_default(layout, role), ..Role::default() };
    for entry in entries {
        let name = entry.file_name();
        if hidden(&entry) || name == Layout::DEFAULT_NAME || name == Layout::SOURCE_NAME {
            continue;
        }
        let id = name.to_str().and_then(|name| name.parse::<GenerationId>().ok()).ok_or(Unusable::Name);
        let read = id.and_then(|id| {
            let earlier = seen.and_then(|role| role.generations.iter().find(|p| p.generation.id == id));
            read_generation(&entry.path(), &GenerationRef { role: role.clone(), id }, earlier)
        });
        match read {
            Ok(published) => found.generations.push(published),
            // Removed between the listing and the reading: the next scan, which that removal causes, does not list it.
            Err(Unusable::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound && !entry.path().exists() => {}
            Err(Unusable::Io { path, error }) if is_exhaustion(&error) => return Err(named(&path, &error)),
            Err(reason) => problems.push(Problem { path: entry.path(), reason: reason.to_string() }),
        }
    }
    found.generations.sort_by_key(|p| std::cmp::Reverse(p.generation.id));
    Ok(found)
}

fn read_default(layout: &Layout, role: &RoleName) -> Option<GenerationId> {
    fs::read_link(layout.default_link(role)).ok()?.to_str()?.parse().ok()
}

fn read_generation(
    path: &Path,
    expected: &GenerationRef,
    earlier: Option<&Arc<Published>>,
) -> Result<Arc<Published>, Unusable> {
    if let Some(earlier) = earlier
        && stamp(path, &earlier.generation).is_ok_and(|stamp| stamp == earlier.stamp)
    {
        return Ok(Arc::clone(earlier));
    }
    let json = path.join(Layout::GENERATION_NAME);
    let generation = Generation::from_json(&fs::read(&json).map_err(at(&json))?)?;
    if generation.reference() != *expected {
        return Err(Unusable::Elsewhere(generation.reference()));
    }
    let signature = path.join(Layout::SIGNATURE_NAME);
    fs::metadata(&signature).map_err(at(&signature))?;
    for (name, wanted) in &generation.files {
        check_file(path, name, wanted)?;
    }
    let stamp = stamp(path, &generation)?;
    Ok(Arc::new(Published { generation, stamp }))
}

fn check_file(directory: &Path, name: &str, wanted: &FileDigest) -> Result<(), Unusable> {
    let path = directory.join(name);
    let mut file = File::open(&path).map_err(at(&path))?;
    let found = file.metadata().map_err(at(&path))?.len();
    if found != wanted.size {
        return Err(Unusable::Size { name: name.to_owned(), found, wanted: wanted.size });
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(at(&path))? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    match Sha256Digest::new(hasher.finalize().into()) == wanted.sha256 {
        true => Ok(()),
        false => Err(Unusable::Digest { name: name.to_owned() }),
    }
}

fn stamp(path: &Path, generation: &Generation) -> Result<Stamp, Unusable> {
    let directory = fs::metadata(path).map_err(at(path))?;
    let own = [Layout::GENERATION_NAME, Layout::SIGNATURE_NAME];
    let names = own.into_iter().chain(generation.files.keys().map(String::as_str));
    let files = names.map(|name| {
        let path = path.join(name);
        let m = fs::metadata(&path).map_err(at(&path))?;
        Ok((m.ino(), m.len(), m.ctime(), m.ctime_nsec()))
    });
    let files = files.collect::<Result<_, Unusable>>()?;
    Ok(Stamp { inode: directory.ino(), changed: (directory.mtime(), directory.mtime_nsec()), files })
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(path) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The publisher's own business: the lock, and what it is staging.
fn hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Whether this process, or the system, lacks what it takes to look: descriptors or memory.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Unusable {
    let path = path.to_owned();
    move |error| Unusable::Io { path, error }
}
