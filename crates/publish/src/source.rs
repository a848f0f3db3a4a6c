//! Where a role's generations come from: one source, or two writers would number against each other.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use boot_model::RoleName;
use generations::Layout;
use thiserror::Error;

use crate::durable::{self, WriteError};

/// Who publishes a role. Remembered in the role's folder as `manual` or `follow <directory>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `rookery publish`.
    Manual,
    /// `rookery follow` of this directory of profiles.
    Follow(PathBuf),
}

/// A role's source is another, or can't be told.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Somebody else publishes this role.
    #[error("the role {role} is published by {current}, not by {wanted}; {advice}")]
    Other {
        /// The role.
        role: RoleName,
        /// Who publishes it.
        current: Source,
        /// Who tried to.
        wanted: Source,
        /// What to do.
        advice: String,
    },
    /// The file that remembers it can't be read or makes no sense.
    #[error("cannot tell who publishes the role: {} {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Source {
    /// The source of `role`, if it has one yet.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub fn of(layout: &Layout, role: &RoleName) -> Result<Option<Self>, SourceError> {
        let path = layout.source(role);
        let unreadable = |problem: String| SourceError::Unreadable { path: path.clone(), problem };
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text)
                .map(Some)
                .ok_or_else(|| unreadable("says neither `manual` nor `follow …`".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(format!("cannot be read: {error}"))),
        }
    }

    /// Makes this the source of `role`, or finds that it is already.
    pub(crate) fn claim(&self, layout: &Layout, role: &RoleName) -> Result<(), SourceError> {
        match Self::of(layout, role)? {
            Some(current) if current == *self => Ok(()),
            Some(current) => Err(self.refusal(layout, role, current)),
            None => Ok(durable::write_file(&layout.source(role), format!("{self}\n").as_bytes())?),
        }
    }

    /// Checks, without writing, that nobody else is the source of `role`.
    pub(crate) fn check(&self, layout: &Layout, role: &RoleName) -> Result<(), SourceError> {
        match Self::of(layout, role)? {
            Some(current) if current != *self => Err(self.refusal(layout, role, current)),
            _ => Ok(()),
        }
    }

    fn refusal(&self, layout: &Layout, role: &RoleName, current: Self) -> SourceError {
        let file = layout.source(role).display().to_string();
        let advice = match &current {
            Self::Manual => format!("use `rookery publish`, or delete {file} to hand the role over"),
            Self::Follow(profiles) => format!(
                "use `nix-env --profile {} --set`, --rollback or --delete-generations, or delete {file} to hand the role over",
                profiles.join(role.as_str()).display()
            ),
        };
        SourceError::Other { role: role.clone(), current, wanted: self.clone(), advice }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('\n').unwrap_or(text) {
            "manual" => Some(Self::Manual),
            text => text.strip_prefix("follow ").map(|profiles| Self::Follow(profiles.into())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manual => f.write_str("manual"),
            Self::Follow(profiles) => write!(f, "follow {}", profiles.display()),
        }
    }
}
