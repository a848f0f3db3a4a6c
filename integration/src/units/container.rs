//! A Debian with systemd, in a container of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Process, run};
use crate::{Error, Lab, Result, Workspace};

/// How long the container's systemd may take for one step; 0.3 s for its start where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A small Debian with these packages besides the least, made once for each set of them.
pub(super) fn debian(workspace: &Workspace, packages: &[&str]) -> Result<PathBuf> {
    let root = workspace.target().join("lab").join(format!("debian+{}", packages.join("+")));
    if root.exists() {
        return Ok(root);
    }
    let staged = root.with_extension("staged");
    if staged.exists() {
        fs::remove_dir_all(&staged).map_err(Error::io(format!("removing {}", staged.display())))?;
    }
    fs::create_dir_all(&staged).map_err(Error::io(format!("creating {}", staged.display())))?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase"]).arg(format!("--include={}", packages.join(",")));
    run(mmdebstrap.arg("bookworm").arg(&staged))?;
    fs::rename(&staged, &root).map_err(Error::io(format!("renaming {}", staged.display())))?;
    Ok(root)
}

/// A booted container. Its network is its own.
pub(super) struct Container {
    nspawn: Process,
    /// The process id, here, of its process 1.
    leader: String,
    powered_off: bool,
}

impl Container {
    pub(super) fn boot(lab: &Lab, root: &Path) -> Result<Self> {
        let mut command = Command::new("systemd-nspawn");
        command.arg("--directory").arg(root).args(["--boot", "--private-network", "--register=no", "--keep-unit"]);
        command.args(["--console=pipe", &format!("--machine=rookery-{}", std::process::id())]);
        // cgroup v2 inside, also where this machine has the older hierarchy.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let nspawn = Process::start(lab.log(), "nspawn", &mut command)?;
        let leader = lab.poll("the container's process 1", PATIENCE, || Ok(leader_below(nspawn.id())))?;
        let container = Self { nspawn, leader, powered_off: false };
        lab.poll("the container's systemd", PATIENCE, || {
            // Exits with failure while it says "starting".
            let state = container.command("systemctl", &["is-system-running"]).output();
            let state = state.map_err(Error::io("running systemctl"))?.stdout;
            Ok(matches!(state.trim_ascii(), b"running" | b"degraded").then_some(()))
        })?;
        Ok(container)
    }

    /// Runs a program in the container; returns what it prints.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(program, arguments))
    }

    /// Runs a program of this machine in the container's network.
    pub(super) fn run_in_network(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(Command::new("nsenter").args(["-t", &self.leader, "-n", "--", program]).args(arguments))
    }

    pub(super) fn systemctl(&self, verb: &str, units: &[&str]) -> Result<()> {
        run(self.command("systemctl", &[verb]).args(units)).map(drop)
    }

    /// Values of a unit's properties, in the order asked for (systemctl prints them in one of its own).
    pub(super) fn properties(&self, unit: &str, names: &[&str]) -> Result<Vec<String>> {
        let value = |name: &&str| Ok(self.run("systemctl", &["show", "--value", "-p", name, unit])?.trim().to_owned());
        names.iter().map(value).collect()
    }

    pub(super) fn power_off(&mut self) -> Result<()> {
        // It may say "Connection reset by peer": the one that was asked is gone.
        let _ = self.run("systemctl", &["poweroff"]);
        self.nspawn.wait(PATIENCE)?;
        self.powered_off = true;
        Ok(())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader, "-a", "--", program]).args(arguments);
        command
    }
}

/// Process 1 takes its container with it; without this, a nspawn that is killed leaves the container running.
impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(leader) = self.leader.parse()
            && !self.powered_off
        {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// The descendant that is process 1 in a process id namespace of its own.
fn leader_below(parent: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        match ids.split_whitespace().next_back() {
            Some("1") => Some(child.to_owned()),
            _ => leader_below(child.parse().ok()?),
        }
    })
}
