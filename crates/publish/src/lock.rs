//! The one lock of all writers: publish, follow, default, remove, gc; and the one of those who make bundles.

use std::fs::{File, TryLockError};
use std::path::Path;

use generations::Layout;
use thiserror::Error;

use crate::durable::{self, WriteError};

/// Held while the published state is changed; released when dropped, also by the kernel when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// The lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Its file can't be made.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Lock {
    /// Waits for the lock; `waiting` is called if another process holds it.
    pub(crate) fn acquire(layout: &Layout, waiting: impl FnOnce()) -> Result<Self, LockError> {
        durable::make_directories(&layout.generations())?;
        Self::of(&layout.publisher_lock(), waiting)
    }

    /// Likewise the lock of those who make or collect bundles. Whoever holds it and means to take the other too takes this one
    /// first.
    pub(crate) fn bundles(layout: &Layout, waiting: impl FnOnce()) -> Result<Self, LockError> {
        durable::make_directories(&layout.bundles())?;
        Self::of(&layout.bundles_lock(), waiting)
    }

    fn of(path: &Path, waiting: impl FnOnce()) -> Result<Self, LockError> {
        let file = File::create(path).map_err(|error| WriteError::new("open the lock", path, error))?;
        match file.try_lock() {
            Ok(()) => return Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => waiting(),
            Err(TryLockError::Error(error)) => return Err(WriteError::new("lock", path, error).into()),
        }
        file.lock().map_err(|error| WriteError::new("lock", path, error))?;
        Ok(Self { _file: file })
    }
}
