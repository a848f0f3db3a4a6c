//! From the staging place into the store, so that a receipt is never written for what is not on the medium.
//!
//! A batch of paths goes through four steps, of which each needs the one before on the medium: its files are written; they are
//! synced; they are renamed into the store; the names are synced. One `syncfs` serves two batches: the files of one and the names
//! of the one before.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use boot_model::{Sha256Digest, StorePath};
use nix::{fcntl::renameat, unistd::syncfs};

use super::{
    TransferError,
    received::{Receipt, Received, Root},
};
use crate::fetch::store::Store;

/// A path that is whole.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) path: StorePath,
    pub(super) nar_hash: Sha256Digest,
    pub(super) nar_size: u64,
    /// Not in the staging place but in the store already.
    pub(super) in_place: bool,
}

/// Takes paths as they become whole, until nobody sends any more.
pub(super) struct Committer<'a> {
    staging: File,
    store: &'a Store,
    paths: File,
    received: &'a mut Received,
    ready: Vec<Ready>,
    ready_bytes: u64,
    renamed: Vec<(StorePath, Receipt)>,
    begun: Instant,
}

/// What a power cut may cost: bytes, or time.
const BATCH_BYTES: u64 = 256 << 20;
const BATCH_TIME: Duration = Duration::from_secs(5);

impl<'a> Committer<'a> {
    pub(super) fn new(store: &'a Store, staging: File, received: &'a mut Received) -> io::Result<Self> {
        let paths = File::open(store.paths())?;
        let begun = Instant::now();
        Ok(Self { staging, store, paths, received, ready: Vec::new(), ready_bytes: 0, renamed: Vec::new(), begun })
    }

    /// Works until the senders are gone; everything sent has its receipt then.
    pub(super) fn run(mut self, incoming: &Receiver<Ready>) -> Result<(), TransferError> {
        loop {
            match incoming.recv_timeout(BATCH_TIME) {
                Ok(ready) => {
                    self.ready_bytes += ready.nar_size;
                    self.ready.push(ready);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.ready_bytes >= BATCH_BYTES || self.begun.elapsed() >= BATCH_TIME {
                self.step()?;
            }
        }
        self.step()?;
        self.step()
    }

    fn step(&mut self) -> Result<(), TransferError> {
        self.begun = Instant::now();
        if self.ready.is_empty() && self.renamed.is_empty() {
            return Ok(());
        }
        let disk = |doing: &'static str| move |source: io::Error| TransferError::disk(doing, source);
        syncfs(&self.staging).map_err(io::Error::from).map_err(disk("syncing the store"))?;
        self.received.append(std::mem::take(&mut self.renamed)).map_err(disk("writing receipts"))?;
        for ready in std::mem::take(&mut self.ready) {
            if !ready.in_place {
                let name = ready.path.base_name();
                renameat(self.staging.as_fd(), name, self.paths.as_fd(), name)
                    .map_err(io::Error::from)
                    .map_err(disk("moving a path into the store"))?;
            }
            // After the rename, which changes the inode's time of change.
            let root = Root::of(&self.store.below_root(ready.path.as_str())).map_err(disk("looking at a path"))?;
            self.renamed.push((ready.path, Receipt { nar_hash: ready.nar_hash, root }));
        }
        self.ready_bytes = 0;
        Ok(())
    }
}
