use std::path::PathBuf;
use std::process::Command;

use boot_model::GenerationRef;
use serde::Deserialize;

use crate::log::Log;
use crate::process::run;
use crate::servers::ROLE;
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
#[serde(rename_all = "kebab-case")]
struct Published {
    generation: GenerationRef,
    bootable_seconds: f64,
}

impl Admin {
    pub(super) fn new(workspace: &Workspace, config: PathBuf, store: PathBuf, log: Log) -> Result<Self> {
        Ok(Self { rookery: workspace.program("rookery")?, config, store, log })
    }

    /// Puts the boot loaders of Debian's packages into the state directory; `wishes` are words of its command line.
    pub(super) fn install_loaders(&self, wishes: &[&str]) -> Result<()> {
        let mut install = Command::new(&self.rookery);
        run(install.arg("--config").arg(&self.config).args(["loaders", "install"]).args(wishes)).map(|_| ())
    }

    /// Publishes a toplevel of the store. Returns what it has become, and after how many seconds clients could have booted it; its
    /// bundles took longer.
    pub(super) fn publish(&self, toplevel: &str) -> Result<(GenerationRef, f64)> {
        let store = self.store.display().to_string();
        let printed = self.rookery(["publish", ROLE, toplevel, "--json", "--store", &store])?;
        let published: Published = serde_json::from_str(&printed)
            .map_err(|error| Error::Wrong(format!("rookery publish --json printed {printed:?}: {error}")))?;
        self.log.note("lab", format!("{toplevel} is published as {}", published.generation));
        Ok((published.generation, published.bootable_seconds))
    }

    pub(super) fn set_default(&self, number: u64) -> Result<()> {
        self.rookery(["default", ROLE, &number.to_string()]).map(|_| ())
    }

    pub(super) fn reinstall_once(&self, host: &str, serial: &str) -> Result<()> {
        self.rookery(["boot-once", host, "reinstall", "--disk-serial", serial]).map(|_| ())
    }

    fn rookery<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        run(Command::new(&self.rookery).arg("--config").arg(&self.config).args(arguments))
    }
}
