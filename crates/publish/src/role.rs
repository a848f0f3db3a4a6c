//! A role's generations as they are on disk, and what the admin changes about them without publishing.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use boot_model::generation::{Generation, InvalidGeneration};
use boot_model::{GenerationId, GenerationRef, RoleName};
use generations::Layout;
use thiserror::Error;

use crate::durable::{self, WriteError};
use crate::lock::{Lock, LockError};
use crate::publisher::Event;
use crate::removed;
use crate::source::{Source, SourceError};

/// Changes the defaults and removes generations, under the publishers' lock.
pub struct Roles<'a> {
    /// The state directory.
    pub layout: &'a Layout,
    /// Hears what is going on; above all that another process holds the lock, which may be publishing for minutes.
    pub report: &'a (dyn Fn(Event<'_>) + Sync),
}

/// A role can't be read or changed.
#[derive(Debug, Error)]
pub enum RoleError {
    /// The folder can't be listed.
    #[error("cannot list {}: {source}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The generation's description can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The generation's description makes no sense.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidGeneration,
    },
    /// There is no such generation.
    #[error("{0} is not published; `rookery list` shows what is")]
    Unknown(GenerationRef),
    /// The role has no generation below the default one.
    #[error("the role {0} has nothing older than its default to go back to; `rookery list` shows what there is")]
    NothingOlder(RoleName),
    /// It is what the room boots.
    #[error("{0} is what the room boots unasked; choose another with `rookery default {role} <id>` first", role = .0.role)]
    IsDefault(GenerationRef),
    /// A followed profile still has it, so that it would come back.
    #[error("{generation} still has its profile link {}; remove it there: `nix-env --delete-generations`", link.display())]
    StillFollowed {
        /// The generation.
        generation: GenerationRef,
        /// The link.
        link: PathBuf,
    },
    /// Another source decides.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The roles that have a folder, by name.
///
/// # Errors
/// [`RoleError::List`]; a state directory without generations has no roles.
pub fn roles(layout: &Layout) -> Result<Vec<RoleName>, RoleError> {
    let names = list(layout.generations())?;
    let mut roles: Vec<RoleName> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    roles.sort_unstable();
    Ok(roles)
}

/// The ids of a role's generations, highest number first. Only names are looked at.
///
/// # Errors
/// [`RoleError::List`]; a role that isn't there has no generations.
pub fn published_ids(layout: &Layout, role: &RoleName) -> Result<Vec<GenerationId>, RoleError> {
    let names = list(layout.role(role))?;
    let mut ids: Vec<GenerationId> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    ids.reverse();
    Ok(ids)
}

/// What a generation says of itself. Neither its signature nor its files are checked.
///
/// # Errors
/// [`RoleError::Unknown`], [`RoleError::Read`], [`RoleError::Invalid`].
pub fn read_generation(layout: &Layout, generation: &GenerationRef) -> Result<Generation, RoleError> {
    let path = layout.generation(generation).join(Layout::GENERATION_NAME);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RoleError::Unknown(generation.clone())),
        Err(source) => return Err(RoleError::Read { path, source }),
        Ok(bytes) => bytes,
    };
    Generation::from_json(&bytes).map_err(|source| RoleError::Invalid { path, source })
}

/// What the role's menu boots unasked, as its link says.
pub fn default_of(layout: &Layout, role: &RoleName) -> Option<GenerationId> {
    fs::read_link(layout.default_link(role)).ok()?.to_str()?.parse().ok()
}

impl Roles<'_> {
    /// Makes `generation` what its role's menu boots unasked.
    ///
    /// # Errors
    /// If it isn't published, or the role follows profiles: then the profile's own link decides.
    pub fn set_default(&self, generation: &GenerationRef) -> Result<(), RoleError> {
        let _lock = self.lock()?;
        Source::Manual.check(self.layout, &generation.role)?;
        read_generation(self.layout, generation)?;
        point_default(self.layout, generation, self.report)
    }

    /// Moves the role's default to the next older generation, as `nix-env --rollback` does; returns it.
    ///
    /// # Errors
    /// If there is none older, or the role follows profiles.
    pub fn rollback(&self, role: &RoleName) -> Result<GenerationRef, RoleError> {
        let _lock = self.lock()?;
        Source::Manual.check(self.layout, role)?;
        let ids = published_ids(self.layout, role)?;
        let current = default_of(self.layout, role).or_else(|| ids.first().copied());
        let older = ids.into_iter().find(|id| current.is_some_and(|current| *id < current));
        let id = older.ok_or_else(|| RoleError::NothingOlder(role.clone()))?;
        let generation = GenerationRef { role: role.clone(), id };
        read_generation(self.layout, &generation)?;
        point_default(self.layout, &generation, self.report)?;
        Ok(generation)
    }

    /// Removes a generation; with the last one the role goes too. Its packs stay in the cache until they are collected
    /// ([`crate::Collector`]): other generations share them, and clients may be fetching them this minute.
    ///
    /// # Errors
    /// If it isn't published, is the default of a role that has others, or would come back from its profile.
    pub fn remove(&self, generation: &GenerationRef) -> Result<(), RoleError> {
        let _lock = self.lock()?;
        remove_leftovers(self.layout, &generation.role)?;
        let ids = published_ids(self.layout, &generation.role)?;
        if !ids.contains(&generation.id) {
            return Err(RoleError::Unknown(generation.clone()));
        }
        if let Some(Source::Follow(profiles)) = Source::of(self.layout, &generation.role)? {
            let link = profiles.join(format!("{}-{}-link", generation.role, generation.id.number()));
            if fs::symlink_metadata(&link).is_ok() {
                return Err(RoleError::StillFollowed { generation: generation.clone(), link });
            }
        }
        if ids.len() == 1 {
            let role = &generation.role;
            return Ok(removed::set_aside(self.layout, &self.layout.role(role), role.as_str(), self.report)?);
        }
        if default_of(self.layout, &generation.role) == Some(generation.id) {
            return Err(RoleError::IsDefault(generation.clone()));
        }
        remove_generation(self.layout, generation, self.report)
    }

    fn lock(&self) -> Result<Lock, LockError> {
        Lock::acquire(self.layout, || (self.report)(Event::Waiting))
    }
}

pub(crate) fn point_default(
    layout: &Layout,
    generation: &GenerationRef,
    report: &dyn Fn(Event<'_>),
) -> Result<(), RoleError> {
    let link = layout.default_link(&generation.role);
    if default_of(layout, &generation.role) != Some(generation.id) {
        durable::write_link(&link, &generation.id.to_string())?;
        report(Event::Persisted(&link));
    }
    Ok(())
}

pub(crate) fn remove_generation(
    layout: &Layout,
    generation: &GenerationRef,
    report: &dyn Fn(Event<'_>),
) -> Result<(), RoleError> {
    let name = removed::generation_name(generation);
    Ok(removed::set_aside(layout, &layout.generation(generation), &name, report)?)
}

/// Removes what killed runs left beside a role and in it.
pub(crate) fn remove_leftovers(layout: &Layout, role: &RoleName) -> Result<(), WriteError> {
    durable::remove_leftovers(&layout.generations())?;
    durable::remove_leftovers(&layout.role(role))
}

fn list(path: PathBuf) -> Result<Vec<OsString>, RoleError> {
    let names = fs::read_dir(&path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    match names {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|source| RoleError::List { path, source }),
    }
}
