//! One of several workers: takes one path after the other and sends it on when it is whole.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::{Mutex, mpsc::SyncSender},
};

use nix_format::{narinfo::NarInfo, signature::PublicKeys};

use super::{
    Counters, TransferError, bundle,
    commit::Ready,
    pack::{self, Buffers, PackError},
    plan::Task,
    tree,
};
use crate::{
    backoff::Backoff,
    console,
    fetch::{store::Store, stream::Server},
};

/// What all workers share.
pub(super) struct Shop<'a> {
    pub(super) store: &'a Store,
    pub(super) staging: &'a File,
    pub(super) server: &'a Server,
    pub(super) keys: &'a PublicKeys,
    pub(super) bundle: Option<bundle::Paths<'a>>,
    pub(super) tasks: Mutex<Vec<Task>>,
    pub(super) counters: &'a Counters,
}

/// Wrong content may be a bit flipped on the way; content that is wrong thrice is wrong on the server.
const ATTEMPTS_AT_WRONG_CONTENT: u32 = 3;

impl Shop<'_> {
    /// Works until there is nothing to do, or something failed here or elsewhere.
    pub(super) fn work(&self, ready: &SyncSender<Ready>) -> Result<(), TransferError> {
        let mut buffers = Buffers::new();
        while let Some(task) = self.next() {
            let in_place = self.bring(&task, &mut buffers)?;
            self.counters.path();
            let info = task.info;
            let whole = Ready { path: info.store_path, nar_hash: info.nar_hash, nar_size: info.nar_size, in_place };
            // The committer only goes away when it failed, and says so itself.
            if ready.send(whole).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<Task> {
        if self.server.is_stopped() {
            return None;
        }
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    /// Makes the path whole, in the staging place or, if it was there already, in the store: then it returns true.
    fn bring(&self, task: &Task, buffers: &mut Buffers) -> Result<bool, TransferError> {
        let info = &task.info;
        if info.verify(self.keys).is_none() {
            return Err(TransferError::Signature(info.store_path.clone()));
        }
        if task.in_the_way && self.adopt(task)? {
            return Ok(true);
        }
        let name = info.store_path.base_name();
        if self.rebuild(info)? {
            return Ok(false);
        }
        let mut backoff = Backoff::default();
        let mut wrong = 0;
        loop {
            let Err(error) = pack::fetch(self.server, info, self.staging.as_fd(), buffers, self.counters) else {
                return Ok(false);
            };
            self.remove_staged(name)?;
            let error = TransferError::from(error);
            wrong += 1;
            if !error.is_wrong_content() || wrong == ATTEMPTS_AT_WRONG_CONTENT {
                return Err(error);
            }
            let delay = backoff.next_delay(crate::backoff::random());
            console::say(&format!("rookery: {error}; trying again in {:.1} s", delay.as_secs_f64()));
            self.server.sleep(delay).map_err(PackError::from)?;
        }
    }

    /// Makes the path from the bundle, if there is one that has it and is right.
    fn rebuild(&self, info: &NarInfo) -> Result<bool, TransferError> {
        let rebuild = |paths: &bundle::Paths<'_>| {
            paths.rebuild(self.server, self.store, info, self.staging.as_fd(), self.counters)
        };
        match self.bundle.as_ref().and_then(rebuild) {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => {
                self.remove_staged(info.store_path.base_name())?;
                if self.server.is_stopped() {
                    return Err(TransferError::Stopped);
                }
                console::say(&format!("rookery: {} by the update: {error}; it is fetched whole", info.store_path));
                Ok(false)
            }
        }
    }

    /// Keeps what lies under the path's name if it is the path, and takes it away if not.
    fn adopt(&self, task: &Task) -> Result<bool, TransferError> {
        let place = self.store.below_root(task.info.store_path.as_str());
        if tree::hash(&place).is_ok_and(|found| found == task.info.nar_hash) {
            self.counters.bytes(task.info.nar_size);
            return Ok(true);
        }
        remove(&place).map_err(|source| TransferError::disk("removing what lies in a path's place", source))?;
        Ok(false)
    }

    fn remove_staged(&self, name: &str) -> Result<(), TransferError> {
        let staged = self.store.staging().join(name);
        remove(&staged).map_err(|source| TransferError::disk("removing a path that is not whole", source))
    }
}

/// Removes whatever lies there; nothing is fine.
pub(in crate::fetch) fn remove(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
