use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use config::Config;
use dhcp_engine::Policy;
use generations::{Layout, Problem, Snapshot};
use service::{EventWriter, Failure, Options, Process};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::explain::explain;
use crate::policy::{ServableRoles, engine_policy};
use crate::port::Port;
use crate::serve::{Site, serve};
use crate::store::LeaseStore;
use crate::{leases, pcap};

/// Gives addresses and boot files to the machines of a room
#[derive(Debug, Parser)]
#[command(name = "rookery-dhcpd", version)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve until told to stop (the default)
    Run,
    /// Load everything, change nothing, and say what would be served
    Check,
    /// Print the configuration with all defaults
    PrintConfig,
    /// List the leases
    Leases {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what would be answered to each message of a capture, and why
    Explain {
        /// A classic pcap file of Ethernet frames
        capture: PathBuf,
        /// The interface that the messages count as coming in by; the first subnet's unless given
        #[arg(long)]
        interface: Option<String>,
    },
}

/// Does what the command line says.
///
/// # Errors
/// With the exit code that belongs to it; see [`Failure`].
pub fn run(cli: Cli) -> Result<(), Failure> {
    let config = config::load(&cli.options.config).map_err(Failure::configuration)?;
    let layout = Layout::new(&config.state_directory);
    match cli.verb.unwrap_or(Verb::Run) {
        Verb::Run => service::run(&cli.options, |process| start(config, layout, cli.options.config.clone(), process)),
        Verb::Check => check(&config, &layout),
        Verb::PrintConfig => print(&config.to_toml()),
        Verb::Leases { json } => print(&leases::list(&layout, json, service::unix_millis() / 1000)?),
        Verb::Explain { capture, interface } => {
            let bytes = std::fs::read(&capture)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", capture.display())))?;
            let packets =
                pcap::packets(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", capture.display())))?;
            let policy = current_policy(&config, &layout)?;
            let first = || policy.subnets.first().map(|subnet| subnet.interface.clone()).unwrap_or_default();
            let interface = interface.unwrap_or_else(first);
            print(&explain(policy, &interface, &packets))
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn current_policy(config: &Config, layout: &Layout) -> Result<Policy, Failure> {
    let snapshot = generations::scan(layout, &Snapshot::default())?;
    engine_policy(config, &config.hosts, &ServableRoles::read(layout, &snapshot)?)
}

fn check(config: &Config, layout: &Layout) -> Result<(), Failure> {
    let snapshot = generations::scan(layout, &Snapshot::default())?;
    let servable = ServableRoles::read(layout, &snapshot)?;
    let policy = engine_policy(config, &config.hosts, &servable)?;
    let mut text = String::new();
    for subnet in &policy.subnets {
        let pool: u32 = subnet.pools.iter().map(dhcp_engine::AddressRange::count).sum();
        let present = nix::net::if_::if_nametoindex(subnet.interface.as_str()).is_ok();
        let note = if present { "" } else { " (there is no such interface now)" };
        text += &format!(
            "{}{note}: {} as {}, {pool} addresses in pools, leases of {} s\n",
            subnet.interface, subnet.network, subnet.server, subnet.lease_seconds
        );
    }
    text += &format!("{} hosts\n", config.hosts.len());
    for (firmware, file) in &servable.loaders {
        text += &format!("{firmware} boots {file}\n");
    }
    for role in &config.roles {
        let built: Vec<String> =
            servable.roles.iter().filter(|(name, _)| *name == role.name).map(|(_, a)| a.to_string()).collect();
        let built = if built.is_empty() { "no generation: no boot file is named".to_owned() } else { built.join(", ") };
        text += &format!("role {}: {built}\n", role.name);
    }
    let loaded = leases::load(layout)?;
    text += &format!("{} records of leases\n", loaded.leases.len());
    let problems: Vec<Problem> =
        snapshot.problems.into_iter().chain(loaded.damage).chain(missing_loaders(layout, &servable)).collect();
    for problem in &problems {
        text += &format!("cannot serve {problem}\n");
    }
    print(&text)?;
    service::checked(problems.len())
}

/// The loaders that the table names and that are not there: their machines would be sent to a file that tftpd does not have.
fn missing_loaders(layout: &Layout, servable: &ServableRoles) -> Vec<Problem> {
    if !layout.loaders_table().exists() {
        return Vec::new();
    }
    let files = servable.loaders.values().map(|file| layout.loaders().join(file));
    let missing: BTreeSet<PathBuf> = files.filter(|path| !path.is_file()).collect();
    let reason = "loaders.json names it and it is not there; run `rookery loaders install`";
    missing.into_iter().map(|path| Problem { path, reason: reason.to_owned() }).collect()
}

/// Binds, restores, says that it is ready, and serves.
async fn start(config: Config, layout: Layout, file: PathBuf, process: Process) -> Result<(), Failure> {
    let interfaces: BTreeSet<&str> = config.subnets.iter().map(|subnet| subnet.interface.as_str()).collect();
    if interfaces.is_empty() {
        return Err(Failure::configuration(format!("{}: no [[subnet]] says where to serve", file.display())));
    }
    let open = |interface: &&str| Port::open(interface).map_err(|error| port_failure(interface, &error));
    let ports = interfaces.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let (store, leases) = LeaseStore::open(&layout).map_err(Failure::runtime)?;
    let events = Arc::new(EventWriter::new(layout.events("dhcpd")));

    let (snapshots, mut changed) = watch::channel(Arc::new(Snapshot::default()));
    let (first, watching) = generations::watch(layout.clone(), move |snapshot| {
        snapshots.send_replace(Arc::clone(snapshot));
    })?;
    let servable = ServableRoles::read(&layout, &first)?;
    let mut inputs =
        Inputs { hosts: config.hosts.clone(), config, layout, file, snapshot: first, servable, failing: false };
    let status = format!("serving DHCP on {}", interfaces_text(&ports));
    let (policies, policy) = watch::channel(Arc::new(inputs.policy()?));
    let mut reloads = process.reloads();
    let mut look = tokio::time::interval(LOADERS);
    let refresh = async move {
        loop {
            let fresh = tokio::select! {
                Ok(()) = changed.changed() => {
                    inputs.snapshot = Arc::clone(&changed.borrow_and_update());
                    inputs.look_again()
                }
                Ok(()) = reloads.changed() => inputs.reload_hosts(),
                _ = look.tick() => inputs.look_again(),
            };
            if fresh {
                match inputs.policy() {
                    Ok(policy) => drop(policies.send_replace(Arc::new(policy))),
                    Err(error) => warn!(%error, "the last good state stays"),
                }
            }
        }
    };
    process.ready(&status);
    let site = Site { policy, store, leases, events };
    let served = tokio::select! {
        served = serve(site, ports, process.stopped()) => served,
        () = refresh => Ok(()),
    };
    drop(watching);
    served
}

fn interfaces_text(ports: &[Port]) -> String {
    ports.iter().map(Port::interface).collect::<Vec<_>>().join(", ")
}

/// What to do about a socket that cannot be had.
fn port_failure(interface: &str, error: &std::io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => "there is no such interface; name another in its [[subnet]]",
        Some(libc::EADDRINUSE) => "another DHCP server has port 67 on it; stop that one",
        Some(libc::EPERM | libc::EACCES) => "CAP_NET_BIND_SERVICE and CAP_NET_RAW are needed",
        _ => "see the system's message",
    };
    Failure::runtime(format!("cannot serve on {interface}: {error}: {cure}"))
}

/// What the engine's policy follows from.
struct Inputs {
    config: Config,
    hosts: config::Hosts,
    layout: Layout,
    file: PathBuf,
    snapshot: Arc<Snapshot>,
    servable: ServableRoles,
    /// The table of loaders cannot be read, and that was said.
    failing: bool,
}

impl Inputs {
    fn policy(&self) -> Result<Policy, Failure> {
        engine_policy(&self.config, &self.hosts, &self.servable)
    }

    /// Whether there is something else to boot than before.
    fn look_again(&mut self) -> bool {
        match ServableRoles::read(&self.layout, &self.snapshot) {
            Ok(servable) => {
                self.failing = false;
                let changed = servable != self.servable;
                self.servable = servable;
                changed
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(%error, "what can be booted is not known; the last good state stays");
                }
                false
            }
        }
    }

    /// Whether the hosts could be read.
    fn reload_hosts(&mut self) -> bool {
        match self.config.reload_hosts(&self.file) {
            Ok(hosts) => {
                info!(hosts = hosts.len(), "the hosts were read again");
                self.hosts = hosts;
                true
            }
            Err(error) => {
                error!(%error, "the hosts could not be read again; the old ones stay");
                false
            }
        }
    }
}

/// How often the table of loaders is looked at: it changes once in a year, and nobody should have to know that this service has read it.
const LOADERS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_installed_later_are_seen_and_a_bad_table_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rookery.toml");
        std::fs::write(&file, format!("state-directory = {:?}\n", directory.path())).unwrap();
        let config = config::load(&file).unwrap();
        let layout = Layout::new(directory.path());
        let servable = ServableRoles::read(&layout, &Snapshot::default()).unwrap();
        let mut inputs = Inputs {
            hosts: config.hosts.clone(),
            config,
            layout: layout.clone(),
            file,
            snapshot: Arc::default(),
            servable,
            failing: false,
        };
        let loaders = |inputs: &Inputs| inputs.policy().unwrap().boot.loaders.into_values().collect::<Vec<_>>();
        assert!(!inputs.look_again());
        assert_eq!(loaders(&inputs), ["lpxelinux.0"]);
        std::fs::create_dir(layout.loaders()).unwrap();
        let table = r#"{"bios":"lpxelinux.0","uefi-x64":"snponly.efi"}"#;
        std::fs::write(layout.loaders_table(), table).unwrap();
        assert!(inputs.look_again());
        std::fs::write(layout.loaders_table(), "{").unwrap();
        assert!(!inputs.look_again());
        assert_eq!(loaders(&inputs), ["lpxelinux.0", "snponly.efi"]);
    }
}
