//! A generation's directory, put together out of sight.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use boot_model::Sha256Digest;
use boot_model::generation::{CLOSURE_FILE, FileDigest, boot_file};
use generations::Layout;
use sha2::{Digest as _, Sha256};

use crate::durable::{self, StagedDirectory, StagedFile, WriteError};
use crate::store::Store;

/// A directory that becomes a generation when it is placed.
pub(crate) struct Stage {
    directory: StagedDirectory,
    files: BTreeMap<String, FileDigest>,
    copied: BTreeMap<PathBuf, Sha256Digest>,
}

impl Stage {
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Self, WriteError> {
        let directory = StagedDirectory::create(parent, name)?;
        durable::make_directories(&directory.path().join(Layout::BOOT_NAME))?;
        Ok(Self { directory, files: BTreeMap::new(), copied: BTreeMap::new() })
    }

    /// The digests of all files so far, by name.
    pub(crate) fn files(&self) -> &BTreeMap<String, FileDigest> {
        &self.files
    }

    /// Copies a kernel or initrd (a resolved path of the store) and names it by its digest. Entries that share one share the copy.
    pub(crate) fn add_boot_file(&mut self, store: &Store, source: &Path) -> Result<Sha256Digest, WriteError> {
        if let Some(digest) = self.copied.get(source) {
            return Ok(*digest);
        }
        let staged = StagedFile::create(&self.directory.path().join(Layout::BOOT_NAME), "copy")?;
        let on_disk = store.on_disk(source);
        let from = File::open(&on_disk).map_err(|error| WriteError::new("read", &on_disk, error))?;
        let file = copy(from, staged.file()).map_err(|error| WriteError::new("copy to", staged.path(), error))?;
        let name = boot_file(file.sha256);
        staged.place(&self.directory.path().join(&name))?;
        self.files.insert(name, file);
        self.copied.insert(source.to_owned(), file.sha256);
        Ok(file.sha256)
    }

    /// Adds the closure manifest.
    pub(crate) fn add_closure(&mut self, text: &str) -> Result<(), WriteError> {
        durable::write_file(&self.directory.path().join(Layout::CLOSURE_NAME), text.as_bytes())?;
        let sha256 = Sha256Digest::new(Sha256::digest(text).into());
        self.files.insert(CLOSURE_FILE.to_owned(), FileDigest { sha256, size: text.len() as u64 });
        Ok(())
    }

    /// Adds generation.json and its signatures, which no digest in generation.json can cover.
    pub(crate) fn add_description(&self, json: &[u8], signatures: &str) -> Result<(), WriteError> {
        durable::write_file(&self.directory.path().join(Layout::GENERATION_NAME), json)?;
        durable::write_file(&self.directory.path().join(Layout::SIGNATURE_NAME), signatures.as_bytes())
    }

    /// Gives the directory its name.
    pub(crate) fn place(self, target: &Path) -> Result<(), WriteError> {
        durable::sync_directory(&self.directory.path().join(Layout::BOOT_NAME))?;
        self.directory.place(target)
    }
}

fn copy(mut from: File, mut to: &File) -> io::Result<FileDigest> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
    Ok(FileDigest { sha256: Sha256Digest::new(hasher.finalize().into()), size })
}
