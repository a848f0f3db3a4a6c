//! The closure manifest of a generation: believed because the signed description says its digest.

use boot_model::{
    GenerationRef, Sha256Digest, StorePath,
    generation::{CLOSURE_FILE, FileDigest, Generation},
};
use nix_format::closure::Closure;
use sha2::{Digest as _, Sha256};

use super::{
    held::Held,
    store::Store,
    stream::{Server, StreamError},
    transfer::{plan::Names, received::Received},
};
use crate::{Exit, Failure};

/// A manifest that is the signed one.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) text: String,
    pub(super) closure: Closure,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("{0}; check the server and the cable, then boot again")]
    Unreachable(StreamError),
    #[error("{0}; run `rookery verify` on the server, then boot again")]
    NotServed(StreamError),
    #[error("generation {0} lists a closure manifest of {1} bytes, more than this program takes; update the initrd")]
    Size(String, u64),
    #[error(
        "the closure manifest of generation {0} is not the one that was signed; run `rookery verify` on the server"
    )]
    Digest(String),
    #[error("the closure manifest of generation {generation} is signed but not understood: {cause}; update the initrd")]
    Content { generation: String, cause: String },
}

/// Some 100 000 paths.
const MAX_SIZE: u64 = 64 << 20;
/// A flipped bit on the way is not the server's fault.
const ATTEMPTS: u32 = 3;

impl Manifest {
    /// Gets it from the server.
    pub(super) fn download(server: &Server, generation: &Generation) -> Result<Self, ManifestError> {
        let name = generation.reference();
        let Some(listed) = generation.files.get(CLOSURE_FILE).filter(|listed| listed.size <= MAX_SIZE) else {
            let size = generation.files.get(CLOSURE_FILE).map_or(0, |listed| listed.size);
            return Err(ManifestError::Size(name.to_string(), size));
        };
        for _ in 0..ATTEMPTS {
            let stream = server.stream(&format!("generations/{name}/{CLOSURE_FILE}"), listed.size);
            let bytes = stream.read_all().map_err(|error| match error {
                StreamError::Unreachable { .. } => ManifestError::Unreachable(error),
                error => ManifestError::NotServed(error),
            })?;
            if is(&bytes, listed) {
                return Self::parse(bytes, generation);
            }
        }
        Err(ManifestError::Digest(name.to_string()))
    }

    /// Takes the text that the disk has, if it is the right one.
    pub(super) fn held(text: &str, generation: &Generation) -> Option<Self> {
        let listed = generation.files.get(CLOSURE_FILE)?;
        if !is(text.as_bytes(), listed) {
            return None;
        }
        Self::parse(text.as_bytes().to_vec(), generation).ok()
    }

    /// The manifest of a generation that is recorded, if something is there under each name of its closure.
    pub(super) fn recorded(store: &Store, generation: &GenerationRef, names: &Names) -> Option<Self> {
        let held = Held::read(store, generation)?;
        let generation = Generation::from_json(held.json.as_bytes()).ok()?;
        Self::held(&held.closure, &generation).filter(|manifest| manifest.has_names(names))
    }

    /// Is something there under each name of the closure? It need not be what was received.
    pub(super) fn has_names(&self, names: &Names) -> bool {
        self.closure.paths().iter().all(|info| names.has(info))
    }

    /// Is all of the closure received and there?
    pub(super) fn is_here(&self, names: &Names, received: &Received) -> bool {
        self.closure.paths().iter().all(|info| names.complete(info, received))
    }

    /// Every toplevel must be in it: what is not there would be missed only by the system that needs it.
    fn parse(bytes: Vec<u8>, generation: &Generation) -> Result<Self, ManifestError> {
        let content = |cause: String| ManifestError::Content { generation: generation.reference().to_string(), cause };
        let text = String::from_utf8(bytes).map_err(|error| content(error.to_string()))?;
        let closure: Closure = text.parse().map_err(|error| content(format!("{error}")))?;
        let in_it = |toplevel: &StorePath| closure.paths().iter().any(|info| info.store_path == *toplevel);
        match generation.entries.iter().find(|entry| !in_it(&entry.toplevel)) {
            Some(entry) => Err(content(format!("{} is not in it", entry.toplevel))),
            None => Ok(Self { text, closure }),
        }
    }
}

fn is(bytes: &[u8], listed: &FileDigest) -> bool {
    bytes.len() as u64 == listed.size && Sha256Digest::new(Sha256::digest(bytes).into()) == listed.sha256
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let exit = match error {
            ManifestError::Unreachable(_) => Exit::Unavailable,
            ManifestError::Digest(_) => Exit::Refused,
            _ => Exit::Failure,
        };
        let failure = Self::new(exit, &error);
        match error {
            ManifestError::NotServed(cause) => failure.with_spoilt(cause),
            ManifestError::Digest(name) => {
                failure.with_spoilt(format!("the closure manifest of generation {name} is not the one that was signed"))
            }
            _ => failure,
        }
    }
}
