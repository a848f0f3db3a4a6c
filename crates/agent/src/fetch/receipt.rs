//! The receipt of a fetch: this generation is on this disk, complete and synced. It holds the signed description itself, so that
//! the claim can be checked without the server.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use boot_model::GenerationRef;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::{Failure, machine::failed};

/// See the module's description.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// `generation.json`, byte for byte.
    pub(super) json: String,
    /// `generation.json.sig`.
    pub(super) signature: String,
}

impl Receipt {
    /// The receipt, if there is one that can be read. What it says is still to be verified.
    pub(super) fn read(store: &Store, generation: &GenerationRef) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(store, generation)).ok()?).ok()
    }

    /// Writes the receipt so that it is there as a whole or not at all. Only for what has been synced before.
    pub(super) fn write(&self, store: &Store, generation: &GenerationRef) -> Result<(), Failure> {
        let path = path(store, generation);
        self.persist(&path).map_err(|error| failed("writing the receipt", &path, &error, "check the disk"))
    }

    fn persist(&self, path: &PathBuf) -> io::Result<()> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(directory)?;
        let staged = path.with_extension("tmp");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        File::open(directory)?.sync_all()
    }
}

fn path(store: &Store, generation: &GenerationRef) -> PathBuf {
    store.state().join("rookery/receipts").join(format!("{}-{}.json", generation.role, generation.id))
}
