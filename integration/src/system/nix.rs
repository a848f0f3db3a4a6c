//! Real `nix-build`, in a store below the work directory: the host's /nix is not touched.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use super::Work;
use crate::process::run;
use crate::{Error, Result};

/// The host's Nix with the store of a work directory.
#[derive(Debug)]
pub(super) struct Nix<'a> {
    work: &'a Work,
}

/// A path of the store, and what it weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePath {
    /// `/nix/store/...`; the file itself lies below [`Work::store`].
    pub path: String,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
}

impl StorePath {
    /// Without directory and hash.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().and_then(|base| base.split_once('-')).map_or("", |(_, name)| name)
    }
}

impl<'a> Nix<'a> {
    pub(super) fn new(work: &'a Work) -> Self {
        Self { work }
    }

    /// Builds the attribute `toplevel` of an expression below `integration/system/` and returns its store path. What the builders
    /// print goes into `<name>.log`.
    pub(super) fn build(
        &self,
        name: &str,
        expression: &str,
        options: &[(&str, &str)],
        arguments: &[(&str, &OsStr)],
    ) -> Result<String> {
        let expression = super::sources().join(expression);
        let log = self.work.path(&format!("{name}.log"));
        let temporary = self.work.path("tmp");
        fs::create_dir_all(&temporary).map_err(Error::io(format!("making {}", temporary.display())))?;

        let mut command = self.command("nix-build");
        command.arg("--no-out-link").arg(expression).args(["-A", "toplevel"]).env("TMPDIR", &temporary);
        for (option, value) in options {
            command.args(["--option", option, value]);
        }
        for (argument, value) in arguments {
            command.arg("--argstr").arg(argument).arg(value);
        }
        let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("running {command:?}")))?;
        fs::write(&log, &output.stderr).map_err(Error::io(format!("writing {}", log.display())))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(30)..].join("\n");
            let command = format!("nix-build for {name} (all of its output: {})", log.display());
            return Err(Error::Command { command, status: output.status, output: last });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Everything that a store path refers to, itself included, sorted by path.
    pub(super) fn closure(&self, path: &str) -> Result<Vec<StorePath>> {
        let listed = run(self.command("nix-store").args(["--query", "--requisites", path]))?;
        let mut paths: Vec<&str> = listed.lines().collect();
        paths.sort_unstable();
        // Answers in the order of the question, one line each.
        let sizes = run(self.command("nix-store").args(["--query", "--size"]).args(&paths))?;
        let size = |text: &str| {
            text.trim().parse().map_err(|_| Error::Wrong(format!("nix-store --query --size said {text:?}")))
        };
        paths
            .iter()
            .zip(sizes.lines())
            .map(|(path, text)| Ok(StorePath { path: (*path).into(), nar_size: size(text)? }))
            .collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        command
            .env("NIX_REMOTE", format!("local?root={}", self.work.store().display()))
            // Not the host's configuration: what is built must not depend on it.
            .env("NIX_CONF_DIR", self.work.path("no-nix-conf"))
            .env("NIX_USER_CONF_FILES", "")
            .env("NIX_CONFIG", format!("build-users-group =\nsubstituters =\nsandbox = true\nmax-jobs = {jobs}\n"))
            .env("XDG_CACHE_HOME", self.work.path("cache"))
            .env_remove("NIX_PATH");
        command
    }
}

/// A file of the store as the host sees it, links inside the store followed there.
pub(super) fn on_host(work: &Work, path: &str) -> Result<PathBuf> {
    let mut path = PathBuf::from(path);
    for _ in 0..16 {
        let here = work.store().join(path.strip_prefix("/").unwrap_or(&path));
        let Ok(target) = fs::read_link(&here) else { return Ok(here) };
        path = path.parent().unwrap_or(&path).join(target);
    }
    Err(Error::Wrong(format!("{}: too many links", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_store_path() {
        let path = StorePath { path: "/nix/store/h50yssr87riljnpd61y76gizcw63w3r0-libc6-2.36-9".into(), nar_size: 1 };
        assert_eq!(path.name(), "libc6-2.36-9");
    }
}
