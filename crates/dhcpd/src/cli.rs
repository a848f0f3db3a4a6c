use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use config::Config;
use dhcp_engine::Policy;
use generations::{Layout, Snapshot};
use service::{EventWriter, Failure, Options, Process};
use tokio::sync::watch;
use tracing::{error, warn};

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
        Verb::Check => print(&check(&config, &layout)?),
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

fn check(config: &Config, layout: &Layout) -> Result<String, Failure> {
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
    for problem in &snapshot.problems {
        text += &format!("left out: {}: {}\n", problem.path.display(), problem.reason);
    }
    Ok(text)
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
    let mut inputs = Inputs { hosts: config.hosts.clone(), config, layout, file, snapshot: first };
    let status = format!("serving DHCP on {}", interfaces_text(&ports));
    let (policies, policy) = watch::channel(Arc::new(inputs.policy()?));
    let mut reloads = process.reloads();
    let refresh = async move {
        loop {
            tokio::select! {
                Ok(()) = changed.changed() => inputs.snapshot = Arc::clone(&changed.borrow_and_update()),
                Ok(()) = reloads.changed() => inputs.reload_hosts(),
                else => std::future::pending().await,
            }
            match inputs.policy() {
                Ok(policy) => drop(policies.send_replace(Arc::new(policy))),
                Err(error) => warn!(%error, "what can be booted is not known; the last good state stays"),
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
}

impl Inputs {
    fn policy(&self) -> Result<Policy, Failure> {
        engine_policy(&self.config, &self.hosts, &ServableRoles::read(&self.layout, &self.snapshot)?)
    }

    fn reload_hosts(&mut self) {
        match self.config.reload_hosts(&self.file) {
            Ok(hosts) => self.hosts = hosts,
            Err(error) => error!(%error, "the hosts could not be read again; the old ones stay"),
        }
    }
}
