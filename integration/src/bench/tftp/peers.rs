//! The servers that are measured, each at an address of its own and at port 69.

use std::cell::RefCell;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{Peer, unpacked};
use crate::namespace::SERVER;
use crate::process::Process;
use crate::servers::Site;
use crate::{Error, Lab, Result, Workspace};

/// A server that runs.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) address: Ipv4Addr,
    command: RefCell<Command>,
    process: RefCell<Process>,
}

impl Server {
    /// Rookery's own, as it is installed: all limits have their defaults.
    pub(super) fn ours(lab: &Lab, workspace: &Workspace, site: &Site) -> Result<Self> {
        let program = workspace.program("rookery-tftpd")?;
        let mut command = lab.namespace().command(&program);
        command.arg("--config").arg(site.config()).arg("run");
        Self::start(lab, "tftpd", SERVER, &program, command)
    }

    /// tftp-hpa: a process for each transfer.
    pub(super) fn hpa(lab: &Lab, workspace: &Workspace, root: &Path) -> Result<Self> {
        let (program, address) = (unpacked::server(workspace, "tftpd-hpa", "in.tftpd")?, Ipv4Addr::new(10, 77, 0, 2));
        let mut command = lab.namespace().command(&program);
        command.args(["-L", "--secure", "--address", &format!("{address}:69")]).arg(root);
        Self::start(lab, "tftpd-hpa", address, &program, command)
    }

    /// atftpd: a thread for each transfer.
    pub(super) fn atftpd(lab: &Lab, workspace: &Workspace, root: &Path) -> Result<Self> {
        let (program, address) = (unpacked::server(workspace, "atftpd", "atftpd")?, Ipv4Addr::new(10, 77, 0, 3));
        let mut command = lab.namespace().command(&program);
        command.args(["--daemon", "--no-fork", "--no-multicast", "--maxthread", "2000", "--verbose=3"]);
        command.args(["--user", "root", "--group", "root", "--bind-address", &address.to_string()]).arg(root);
        Self::start(lab, "atftpd", address, &program, command)
    }

    /// dnsmasq: one thread for all.
    pub(super) fn dnsmasq(lab: &Lab, root: &Path) -> Result<Self> {
        let (program, address) = (PathBuf::from("dnsmasq"), Ipv4Addr::new(10, 77, 0, 4));
        let mut command = lab.namespace().command(&program);
        command.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0", "--bind-interfaces"]);
        command.args(["--enable-tftp", "--tftp-max=2000", "--quiet-tftp", &format!("--listen-address={address}")]);
        command.arg(format!("--tftp-root={}", root.display()));
        Self::start(lab, "dnsmasq", address, &program, command)
    }

    /// Starts it anew if it has broken down; true if so.
    pub(super) fn revive(&self, lab: &Lab) -> Result<bool> {
        let mut process = self.process.borrow_mut();
        let Some(status) = process.exited()? else { return Ok(false) };
        lab.log().note("lab", format!("{} has ended: {status}", self.name));
        *process = Process::start(lab.log(), self.name, &mut self.command.borrow_mut())?;
        Ok(true)
    }

    /// For a row.
    pub(super) fn peer(&self, value: f64) -> Peer {
        Peer { value, name: self.name.to_owned(), version: self.version.clone() }
    }

    /// The most memory that it has held at once, in MB.
    pub(super) fn peak_memory(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.process.borrow().id());
        let status = fs::read_to_string(&path).map_err(Error::io(format!("reading {path}")))?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        let kib: f64 = peak.ok_or_else(|| Error::Wrong(format!("{path} names no VmHWM")))?;
        Ok(kib * 1024.0 / 1e6)
    }

    fn start(lab: &Lab, name: &'static str, address: Ipv4Addr, program: &Path, mut command: Command) -> Result<Self> {
        let version = unpacked::version(Command::new(program).arg("--version"))?;
        let process = RefCell::new(Process::start(lab.log(), name, &mut command)?);
        Ok(Self { name, version, address, command: RefCell::new(command), process })
    }
}
