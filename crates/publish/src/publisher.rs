//! From a toplevel to a generation.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use boot_model::generation::{Closure, Entry, Generation, InvalidGeneration};
use boot_model::{CommandLine, GenerationId, GenerationRef, RoleName, StorePath, Timestamp, TooLong};
use generations::Layout;
use nix_format::closure::{self, ClosureError};
use nix_format::detached::Document;
use nix_format::signature::SecretKey;
use thiserror::Error;

use crate::bundle;
use crate::cache::Cache;
use crate::durable::{self, WriteError};
use crate::lock::{Lock, LockError};
use crate::pack::{PackError, Packer};
use crate::removed;
use crate::role::{self, RoleError};
use crate::source::{Source, SourceError};
use crate::stage::Stage;
use crate::store::{Store, StoreError};
use crate::system::{Bootable, System, SystemError};
use crate::verify;

/// Publishes systems of one store into one state directory.
pub struct Publisher<'a> {
    /// Where to.
    pub layout: &'a Layout,
    /// Where from.
    pub store: &'a Store,
    /// The site's keys; every signature is made by each of them.
    pub keys: &'a [SecretKey],
    /// zstd's level for what is packed; see [`crate::DEFAULT_LEVEL`].
    pub level: i32,
    /// Hears what is going on, from several threads.
    pub report: &'a (dyn Fn(Event<'_>) + Sync),
}

/// What to publish.
#[derive(Debug, Clone)]
pub struct Request {
    /// For which kind of machine.
    pub role: RoleName,
    /// The system.
    pub toplevel: StorePath,
    /// Its number; without one the role's highest plus one.
    pub number: Option<u32>,
    /// Its date.
    pub date: Timestamp,
}

/// What publishing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The generation that the system has now.
    pub generation: GenerationRef,
    /// False if it was published already.
    pub new: bool,
}

/// Something that happened while publishing, or while what is published was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Another process holds the lock; this one waits.
    Waiting,
    /// Packing begins.
    Packing {
        /// Paths to pack.
        paths: usize,
        /// Paths that the cache has already.
        reused: usize,
        /// Bytes of NAR to pack.
        bytes: u64,
    },
    /// So many bytes of NAR more are packed.
    Packed {
        /// Bytes since the last such event.
        bytes: u64,
    },
    /// Making a bundle begins.
    Bundling {
        /// From which generation.
        old: &'a GenerationRef,
        /// To which.
        new: &'a GenerationRef,
        /// Bytes of NAR to go through.
        bytes: u64,
    },
    /// So many bytes of NAR more are done.
    Bundled {
        /// Bytes since the last such event.
        bytes: u64,
    },
    /// This file or directory of no more use was removed.
    Collected(&'a Path),
    /// This file or directory stands on disk (or is gone from it) from now on, whatever happens next.
    Persisted(&'a Path),
}

/// Why a system was not published. Nothing of it is visible then.
#[derive(Debug, Error)]
pub enum PublishError {
    /// There is no key to sign with.
    #[error("there is no secret key to sign with; `rookery keys generate <name>` makes one")]
    NoKey,
    /// The number is another generation's.
    #[error("the number {number} of role {role} is already {taken}; leave --number away, or remove that one first")]
    NumberTaken {
        /// The role.
        role: RoleName,
        /// The number asked for.
        number: u32,
        /// Who has it.
        taken: GenerationId,
    },
    /// All numbers are used up.
    #[error("the role {0} has reached the highest number; give a free one with --number")]
    NumbersExhausted(RoleName),
    /// A profile's link leads to a system that the store has no longer.
    #[error("{0} is gone from the store, collected as garbage; remove the link with `nix-env --delete-generations`")]
    Gone(StorePath),
    /// The command line of an entry would be cut.
    #[error("{entry}: {source}")]
    CommandLine {
        /// The entry's toplevel.
        entry: StorePath,
        /// By how much.
        source: TooLong,
    },
    /// The system can't be booted.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The store can't tell its closure.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A path can't be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The store's references make no closure.
    #[error(
        "the paths in the cache make no closure: {0}; remove the narinfo of the first from the cache and publish again"
    )]
    Closure(#[from] ClosureError),
    /// The parts don't agree, which is a fault of this program or of the store.
    #[error("the generation contradicts itself: {0}")]
    Generation(#[from] InvalidGeneration),
    /// Another source publishes this role.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The role can't be read or changed.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// No lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Publisher<'_> {
    /// Publishes a system by hand and makes it the role's default. If it is the role's newest already and can be served, only
    /// the default moves; what is missing or damaged of it is made again.
    ///
    /// # Errors
    /// [`PublishError`]; nothing of the system is visible then.
    pub fn publish(&self, request: &Request) -> Result<Outcome, PublishError> {
        let _lock = self.lock()?;
        Source::Manual.check(self.layout, &request.role)?;
        let outcome = self.publish_locked(request, &Source::Manual)?;
        role::point_default(self.layout, &outcome.generation, self.report)?;
        Ok(outcome)
    }

    pub(crate) fn lock(&self) -> Result<Lock, LockError> {
        Lock::acquire(self.layout, || (self.report)(Event::Waiting))
    }

    /// Everything except the default. The caller holds the lock.
    pub(crate) fn publish_locked(&self, request: &Request, source: &Source) -> Result<Outcome, PublishError> {
        if self.keys.is_empty() {
            return Err(PublishError::NoKey);
        }
        let generation = self.choose_id(request, source)?;
        let target = self.layout.generation(&generation);
        if target.exists() && verify::is_servable(self.layout, &generation) {
            return Ok(Outcome { generation, new: false });
        }
        // First of all, for a full disk may be full of them.
        role::remove_leftovers(self.layout, &request.role)?;
        let system = System::read(self.store, &request.toplevel)?;
        check_command_lines(&system, &generation)?;
        let manifest = self.pack(&system)?;

        let stage = self.stage(request, &generation, system, &manifest)?;
        let role = self.layout.role(&request.role);
        durable::make_directories(&role)?;
        source.claim(self.layout, &request.role)?;
        (self.report)(Event::Persisted(&self.layout.source(&request.role)));
        removed::remember(self.layout, &generation, &manifest.to_string())?;
        bundle::forget(self.layout, &generation)?;
        stage.place(&target)?;
        (self.report)(Event::Persisted(&target));
        Ok(Outcome { generation, new: true })
    }

    fn choose_id(&self, request: &Request, source: &Source) -> Result<GenerationRef, PublishError> {
        let ids = role::published_ids(self.layout, &request.role)?;
        let numbered = |number| {
            let id = GenerationId::new(number, &request.toplevel);
            GenerationRef { role: request.role.clone(), id }
        };
        let Some(number) = request.number else {
            let Some(newest) = ids.first() else { return Ok(numbered(1)) };
            let same = numbered(newest.number());
            if same.id == *newest {
                return Ok(same);
            }
            let next = newest.number().checked_add(1);
            return next.map(numbered).ok_or_else(|| PublishError::NumbersExhausted(request.role.clone()));
        };
        let wanted = numbered(number);
        match ids.into_iter().find(|id| id.number() == number && *id != wanted.id) {
            // A profile may use a number again: its earlier owner is removed when this one stands.
            Some(taken) if *source == Source::Manual => {
                Err(PublishError::NumberTaken { role: request.role.clone(), number, taken })
            }
            _ => Ok(wanted),
        }
    }

    fn pack(&self, system: &System) -> Result<closure::Closure, PublishError> {
        let toplevels: Vec<StorePath> = system.entries.iter().map(|entry| entry.toplevel.clone()).collect();
        let boot_files = system.entries.iter().flat_map(|entry| [&entry.kernel, &entry.initrd]);
        let holders = boot_files.map(|path| self.store.holder(path)).collect::<Result<Vec<_>, _>>()?;
        let mut boot = self.store.closure(&holders)?;
        boot.retain(|info| holders.contains(&info.path));
        let cache = Cache::new(self.layout);
        cache.prepare()?;
        let packer =
            Packer { store: self.store, cache: &cache, keys: self.keys, level: self.level, report: self.report };
        let infos = packer.pack(self.store.closure(&toplevels)?, &boot)?;
        Ok(closure::Closure::new(infos)?)
    }

    fn stage(
        &self,
        request: &Request,
        generation: &GenerationRef,
        system: System,
        manifest: &closure::Closure,
    ) -> Result<Stage, PublishError> {
        // Beside the roles: no role appears before its first generation is whole.
        let generations = self.layout.generations();
        let mut stage = Stage::create(&generations, &format!("{}-{}", generation.role, generation.id))?;
        let entries = system
            .entries
            .into_iter()
            .map(|entry| self.stage_entry(&mut stage, entry))
            .collect::<Result<Vec<_>, PublishError>>()?;
        stage.add_closure(&manifest.to_string())?;
        (self.report)(Event::Persisted(&generations));
        let totals = Closure {
            paths: manifest.paths().len() as u64,
            nar_size: manifest.nar_size(),
            file_size: manifest.file_size(),
        };
        let files = stage.files().clone();
        let description =
            Generation::new(generation.clone(), request.date, system.architecture, entries, totals, files)?;
        let json = description.to_json();
        stage.add_description(&json, &Document::Generation.sign(&json, self.keys))?;
        (self.report)(Event::Persisted(&generations));
        Ok(stage)
    }

    fn stage_entry(&self, stage: &mut Stage, entry: Bootable) -> Result<Entry, PublishError> {
        let kernel = stage.add_boot_file(self.store, &entry.kernel)?;
        let initrd = stage.add_boot_file(self.store, &entry.initrd)?;
        (self.report)(Event::Persisted(&entry.initrd));
        Ok(Entry {
            specialisation: entry.specialisation,
            label: entry.label,
            toplevel: entry.toplevel,
            init: entry.init,
            kernel_parameters: entry.kernel_parameters,
            kernel_version: entry.kernel_version,
            kernel,
            initrd,
        })
    }
}

/// Each entry's command line must fit for the longest address that a server can have.
fn check_command_lines(system: &System, generation: &GenerationRef) -> Result<(), PublishError> {
    const LONGEST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, u16::MAX);
    for entry in &system.entries {
        CommandLine::new(&entry.init, generation, LONGEST, &entry.kernel_parameters)
            .map_err(|source| PublishError::CommandLine { entry: entry.toplevel.clone(), source })?;
    }
    Ok(())
}
