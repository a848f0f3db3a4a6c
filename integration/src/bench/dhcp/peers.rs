//! The servers that are measured: ours as it is installed, the others with the same pool and as little else as they can do with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bench::unpacked;
use crate::log::Awaited;
use crate::namespace::{BRIDGE, PREFIX_LENGTH, SERVER};
use crate::process::Process;
use crate::{Error, Lab, Result, Workspace};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Server {
    Ours,
    /// Appends a line for each lease and never syncs.
    Kea,
    /// Writes the whole file anew for each lease and syncs it.
    Dnsmasq,
    /// Syncs each lease.
    Isc,
    /// Syncs up to 28 leases at once, after 5 ms at the latest: its own group commit, off unless configured.
    IscDelayed,
}

const POOL: (&str, &str) = ("10.77.1.0", "10.77.254.255");

impl Server {
    pub(super) const ALL: [Self; 5] = [Self::Ours, Self::Kea, Self::Dnsmasq, Self::Isc, Self::IscDelayed];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "rookery-dhcpd",
            Self::Kea => "Kea memfile",
            Self::Dnsmasq => "dnsmasq",
            Self::Isc => "ISC dhcpd",
            Self::IscDelayed => "ISC dhcpd, delayed-ack",
        }
    }

    /// Whether a lease that it has acknowledged survives a power cut (strace: Kea's memfile never calls fsync).
    pub(super) const fn is_durable(self) -> bool {
        !matches!(self, Self::Kea)
    }

    /// Exchanges a second that it is asked for first.
    pub(super) const fn begins_at(self) -> u32 {
        match self {
            Self::Ours => 8500,
            Self::Kea => 4000,
            Self::Dnsmasq | Self::Isc => 250,
            Self::IscDelayed => 500,
        }
    }

    pub(super) fn version(self, workspace: &Workspace) -> Result<String> {
        let (program, argument) = match self {
            Self::Ours => (workspace.program("rookery-dhcpd")?, "--version"),
            Self::Kea => (unpacked::server(workspace, "kea-dhcp4-server", "kea-dhcp4")?, "-v"),
            Self::Dnsmasq => ("dnsmasq".into(), "--version"),
            Self::Isc | Self::IscDelayed => (unpacked::server(workspace, "isc-dhcp-server", "dhcpd")?, "--version"),
        };
        let mut command = Command::new(program);
        unpacked::kea_libraries(&mut command, workspace);
        unpacked::version(command.arg(argument))
    }

    /// Starts it with its store in this directory and returns when it serves.
    pub(super) fn start(self, lab: &Lab, workspace: &Workspace, store: &Path) -> Result<Process> {
        let (mut command, ready) = match self {
            Self::Ours => ours(lab, workspace, store)?,
            Self::Kea => kea(lab, workspace, store)?,
            Self::Dnsmasq => dnsmasq(lab, store),
            Self::Isc => isc(lab, workspace, store, "")?,
            Self::IscDelayed => isc(lab, workspace, store, "delayed-ack 28; max-ack-delay 5000;")?,
        };
        let since = lab.log().place();
        let process = Process::start(lab.log(), self.name(), &mut command)?;
        let within = Duration::from_secs(30);
        let awaited = Awaited { what: "a server", source: self.name(), since, within, fatal: &["rror:", "annot"] };
        lab.log().wait(&awaited, |text| text.contains(ready))?;
        Ok(process)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))
}

/// A command, and what it says when it serves.
type Start = (Command, &'static str);

fn ours(lab: &Lab, workspace: &Workspace, store: &Path) -> Result<Start> {
    let (state, file) = (store.join("state"), store.join("rookery.toml"));
    fs::create_dir_all(&state).map_err(Error::io("making a state directory"))?;
    let text = format!(
        "state-directory = {state:?}\n[dhcpd]\nprobe-milliseconds = 0\n[[subnet]]\ninterface = \"{BRIDGE}\"\n\
         address = \"{SERVER}/{PREFIX_LENGTH}\"\npools = [\"{}-{}\"]\nrouter = \"10.77.0.3\"\nlease-seconds = 4000\n",
        POOL.0, POOL.1
    );
    write(&file, &text)?;
    let mut command = lab.namespace().command(workspace.program("rookery-dhcpd")?);
    command.arg("--config").arg(file).arg("run");
    Ok((command, "serving DHCP"))
}

fn kea(lab: &Lab, workspace: &Workspace, store: &Path) -> Result<Start> {
    let file = store.join("kea.json");
    let text = format!(
        r#"{{"Dhcp4":{{"interfaces-config":{{"interfaces":["{BRIDGE}"],"dhcp-socket-type":"raw"}},
"lease-database":{{"type":"memfile","persist":true,"name":"{leases}","lfc-interval":0}},
"multi-threading":{{"enable-multi-threading":true,"thread-pool-size":2,"packet-queue-size":64}},"valid-lifetime":4000,
"subnet4":[{{"id":1,"subnet":"10.77.0.0/16","pools":[{{"pool":"{}-{}"}}],"option-data":[{{"name":"routers","data":"10.77.0.3"}}]}}],
"loggers":[{{"name":"kea-dhcp4","severity":"INFO","output_options":[{{"output":"stdout"}}]}},
{{"name":"kea-dhcp4.leases","severity":"WARN","output_options":[{{"output":"stdout"}}]}}]}}}}"#,
        POOL.0,
        POOL.1,
        leases = store.join("kea-leases4.csv").display(),
    );
    write(&file, &text)?;
    let mut command = lab.namespace().command(unpacked::server(workspace, "kea-dhcp4-server", "kea-dhcp4")?);
    command.arg("-c").arg(file).env("KEA_LOCKFILE_DIR", store).env("KEA_PIDFILE_DIR", store);
    unpacked::kea_libraries(&mut command, workspace);
    Ok((command, "DHCP4_STARTED"))
}

fn dnsmasq(lab: &Lab, store: &Path) -> Start {
    let mut command = lab.namespace().command("dnsmasq");
    command.args(["--no-daemon", "--log-facility=-", "--port=0", "--conf-file=/dev/null", "--user=root"]);
    command.args(["--pid-file=", "--dhcp-authoritative", "--no-ping", "--quiet-dhcp", "--dhcp-lease-max=100000"]);
    command.args(["--bind-interfaces", &format!("--interface={BRIDGE}")]);
    command.arg(format!("--dhcp-range={},{},255.255.0.0,4000", POOL.0, POOL.1));
    command.arg(format!("--dhcp-leasefile={}", store.join("leases").display()));
    (command, "sockets bound exclusively")
}

fn isc(lab: &Lab, workspace: &Workspace, store: &Path, more: &str) -> Result<Start> {
    let (file, leases) = (store.join("dhcpd.conf"), store.join("leases"));
    let text = format!(
        "authoritative; default-lease-time 4000; max-lease-time 4000; ping-check false; {more}\n\
         subnet 10.77.0.0 netmask 255.255.0.0 {{ range {} {}; option routers 10.77.0.3; }}\n",
        POOL.0, POOL.1
    );
    write(&file, &text)?;
    write(&leases, "")?;
    let mut command = lab.namespace().command(unpacked::server(workspace, "isc-dhcp-server", "dhcpd")?);
    command.args(["-4", "-f", "--no-pid", "-user", "root", "-group", "root", "-cf"]).arg(file).arg("-lf").arg(leases);
    command.arg(BRIDGE);
    Ok((command, "Sending on   Socket/fallback"))
}
