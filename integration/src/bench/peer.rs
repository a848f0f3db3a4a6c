//! Stock Nix of today as a client: what a room would fetch with if there were no agent.

use std::fs;
use std::path::{Path, PathBuf};

use super::Peer;
use super::web::Web;
use crate::process::{Process, run};
use crate::room::{Room, Systems};
use crate::system::{NewerNix, Toplevel, Work};
use crate::{Error, Result, Workspace};

/// A Nix that takes whole closures from one cache.
pub(super) struct StockNix {
    program: PathBuf,
    configuration: String,
    version: String,
}

impl StockNix {
    /// From this server, whose packs the site signed. Everything that can be set has its default, `settings` excepted.
    pub(super) fn from(workspace: &Workspace, server: &Web, settings: &str) -> Result<Self> {
        let newer = NewerNix::obtain(&Work::at(&workspace.logs("systems"))?)?;
        let key = Systems::secret_key(workspace)?.with_extension("public");
        let key = fs::read_to_string(&key).map_err(Error::io(format!("reading {}", key.display())))?;
        let configuration = format!(
            "substituters = http://{}\ntrusted-public-keys = {}\nbuild-users-group =\nsandbox = false\n{settings}\n",
            server.address,
            key.trim(),
        );
        let said = run(std::process::Command::new(newer.program("nix")).arg("--version"))?;
        let version = said.split_whitespace().last().unwrap_or_default().to_owned();
        Ok(Self { program: newer.program("nix-store"), configuration, version })
    }

    /// Begins to bring a closure into the store below `root`, with nothing known of the cache.
    pub(super) fn realise(&self, room: &Room, toplevel: &Toplevel, root: &Path) -> Result<Process> {
        let home = root.with_extension("home");
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).map_err(Error::io(format!("creating {}", home.display())))?;
        let mut command = room.lab.namespace().command(&self.program);
        command.args(["--realise", &toplevel.path]);
        command.env("NIX_REMOTE", format!("local?root={}", root.display()));
        command.env("NIX_CONFIG", &self.configuration).env("NIX_CONF_DIR", &home).env("NIX_USER_CONF_FILES", "");
        command.env("HOME", &home).env("XDG_CACHE_HOME", home.join("cache"));
        Process::start(room.lab.log(), "nix", &mut command)
    }

    /// For a row.
    pub(super) fn peer(&self, value: f64) -> Peer {
        Peer { value, name: "Nix from nginx,".into(), version: self.version.clone() }
    }
}
