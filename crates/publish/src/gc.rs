//! Collecting what no published generation needs any more.
//!
//! Needed is what the closure manifests of all published generations name, and of those that were removed less than the grace time
//! ago: clients may be fetching them. What is named by none stays for the grace time after it came too, for it may be the
//! beginning of something: a copy from another server brings the cache before the generations, and a publishing that was
//! cut off goes on with the packs it has.

mod plan;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use boot_model::{GenerationRef, Timestamp};
use generations::Layout;
use thiserror::Error;

use crate::durable::{self, WriteError};
use crate::lock::{Lock, LockError};
use crate::publisher::Event;
use crate::removed;
use crate::role::RoleError;
use plan::Plan;

/// Removes what nothing needs, under the publishers' lock.
pub struct Collector<'a> {
    /// The state directory.
    pub layout: &'a Layout,
    /// Hears of each file that is gone, and that another process holds the lock.
    pub report: &'a (dyn Fn(Event<'_>) + Sync),
}

/// How to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// What was needed this short a time ago stays.
    pub grace: Duration,
    /// The moment to which that is compared.
    pub now: Timestamp,
    /// Remove nothing, only tell what would be.
    pub dry_run: bool,
}

/// What was collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packed store paths.
    pub packs: Tally,
    /// Their narinfos and listings.
    pub narinfos: Tally,
    /// Update bundles to generations that are gone.
    pub bundles: Tally,
    /// What killed runs left unfinished; a directory counts as one file of no size.
    pub leftovers: Tally,
    /// Not needed any more, and kept for the grace time.
    pub waiting: Tally,
}

/// A number of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// Their sizes in bytes.
    pub bytes: u64,
}

/// Why nothing was collected, or not all.
#[derive(Debug, Error)]
pub enum CollectError {
    /// What a published generation needs can't be told.
    #[error(
        "nothing is collected, for what {generation} needs cannot be told: {problem}; publish it again, or remove it (`rookery remove`)"
    )]
    Manifest {
        /// The generation.
        generation: GenerationRef,
        /// What is wrong with its manifest.
        problem: String,
    },
    /// The removed generations can't be listed.
    #[error("nothing is collected, for {} cannot be listed: {source}", path.display())]
    Removed {
        /// Their directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The roles can't be listed.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// No lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file can't be removed, or a directory not listed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Collector<'_> {
    /// Collects. A reader never finds a narinfo whose pack is gone: narinfos go first, durably. Killed at any moment, the next
    /// run carries on.
    ///
    /// # Errors
    /// [`CollectError`]; if a published generation's manifest can't be read, nothing was removed.
    pub fn collect(&self, collection: &Collection) -> Result<Collected, CollectError> {
        let waiting = || (self.report)(Event::Waiting);
        // Whoever makes bundles holds this one for minutes; the lock that an admin waits for is taken when it is free.
        let _bundles = Lock::bundles(self.layout, waiting)?;
        let _lock = Lock::acquire(self.layout, waiting)?;
        let plan = Plan::make(self.layout, collection)?;
        if !collection.dry_run {
            self.execute(&plan)?;
        }
        Ok(plan.collected())
    }

    fn execute(&self, plan: &Plan) -> Result<(), CollectError> {
        for path in plan.leftovers.iter().chain(&plan.bundles.paths) {
            self.remove(path)?;
        }
        for path in &plan.narinfos.paths {
            self.remove(path)?;
        }
        if !plan.packs.paths.is_empty() {
            durable::sync_directory(&self.layout.cache())?;
        }
        for path in &plan.packs.paths {
            self.remove(path)?;
        }
        for removed in &plan.removed {
            self.remove(removed)?;
        }
        // A removal that was cut off between its two steps.
        plan.remembered.iter().try_for_each(|path| removed::strip(path))?;
        Ok(())
    }

    fn remove(&self, path: &std::path::Path) -> Result<(), WriteError> {
        durable::remove_whatever(path)?;
        (self.report)(Event::Collected(path));
        Ok(())
    }
}
