use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use boot_model::GenerationRef;
use serde::Deserialize;

use crate::log::Log;
use crate::process::run;
use crate::{Error, Result, Workspace};

/// The administrator at the command line.
#[derive(Debug)]
pub(super) struct Admin {
    rookery: PathBuf,
    config: PathBuf,
    store: PathBuf,
    log: Log,
}

/// The part of `rookery publish --json` that the lab reads.
#[derive(Deserialize)]
struct Published {
    generation: GenerationRef,
}

impl Admin {
    pub(super) fn new(workspace: &Workspace, config: PathBuf, store: PathBuf, log: Log) -> Result<Self> {
        Ok(Self { rookery: workspace.program("rookery")?, config, store, log })
    }

    /// Publishes a toplevel of the store and returns what it has become.
    pub(super) fn publish(&self, toplevel: &str) -> Result<GenerationRef> {
        let store = self.store.as_os_str();
        let words = ["publish", crate::servers::ROLE, toplevel, "--json", "--store"].map(OsStr::new);
        let printed = self.rookery(words.into_iter().chain([store]))?;
        let published: Published = serde_json::from_str(&printed)
            .map_err(|error| Error::Wrong(format!("rookery publish --json printed {printed:?}: {error}")))?;
        self.log.note("lab", format!("{toplevel} is published as {}", published.generation));
        Ok(published.generation)
    }

    fn rookery<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<String> {
        run(Command::new(&self.rookery).arg("--config").arg(&self.config).args(arguments))
    }
}
