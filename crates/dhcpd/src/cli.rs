use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use config::{Config, Mode};
use dhcp_engine::{Policy, ServerPort};
use generations::{Layout, Problem, Snapshot};
use service::{EventWriter, Failure, Options, Process};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::explain::explain;
use crate::policy::{ServableRoles, engine_policy};
use crate::port::{Hearing, Port};
use crate::probe::Prober;
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
        Verb::Run => {
            let file = cli.options.config.clone();
            service::run_in_one_thread(&cli.options, |process| start(config, layout, file, process))
        }
        Verb::Check => check(&config, &layout),
        Verb::PrintConfig => print(&config.to_toml()),
        Verb::Leases { json } => print(&leases::list(&layout, json, service::unix_millis() / 1000)?),
        Verb::Explain { capture, interface } => {
            let bytes = std::fs::read(&capture)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", capture.display())))?;
            let packets =
                pcap::packets(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", capture.display())))?;
            let policy = current_policy(&config, &layout)?;
            let answers = |subnet: &&dhcp_engine::Subnet| subnet.mode != dhcp_engine::Mode::Off;
            let first =
                || policy.subnets.iter().find(answers).map(|subnet| subnet.interface.clone()).unwrap_or_default();
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
        let gives = match subnet.mode {
            dhcp_engine::Mode::Full => format!("{pool} addresses in pools, leases of {} s", subnet.lease_seconds),
            dhcp_engine::Mode::Proxy => "boot files beside another server's addresses".to_owned(),
            dhcp_engine::Mode::Off => "no answers, another server gives them".to_owned(),
        };
        text += &format!("{}{note}: {} as {}, {gives}\n", subnet.interface, subnet.network, subnet.server);
    }
    text += &format!("{} hosts\n", config.hosts.len());
    for (firmware, file) in &servable.loaders {
        text += &format!("{firmware} boots {file}\n");
    }
    for class in &config.classes {
        let boots = match &class.boot {
            config::ClassBoot::Nothing => "nothing",
            config::ClassBoot::Loader(file) => file.as_str(),
        };
        text += &format!("class {} boots {boots}\n", class.name);
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
        snapshot.problems.into_iter().chain(loaded.damage).chain(missing_loaders(config, layout, &servable)).collect();
    for problem in &problems {
        text += &format!("cannot serve {problem}\n");
    }
    print(&text)?;
    service::checked(problems.len())
}

/// The loaders that the table or a class names and that are not there: their machines would be sent to a file that tftpd does not
/// have.
fn missing_loaders(config: &Config, layout: &Layout, servable: &ServableRoles) -> Vec<Problem> {
    if !layout.loaders_table().exists() {
        return Vec::new();
    }
    let of_table = servable.loaders.values().map(|file| {
        (
            layout.loaders().join(file),
            "loaders.json names it and it is not there; run `rookery loaders install`".to_owned(),
        )
    });
    let of_classes = config.classes.iter().filter_map(|class| match &class.boot {
        config::ClassBoot::Loader(file) => Some((
            layout.loaders().join(file.as_str()),
            format!("the class {} names it and it is not there", class.name),
        )),
        config::ClassBoot::Nothing => None,
    });
    let missing: BTreeMap<PathBuf, String> = of_table.chain(of_classes).filter(|(path, _)| !path.is_file()).collect();
    missing.into_iter().map(|(path, reason)| Problem { path, reason }).collect()
}

/// Binds, restores, says that it is ready, and serves.
async fn start(config: Config, layout: Layout, file: PathBuf, process: Process) -> Result<(), Failure> {
    let ports = open_ports(&config, &file)?;
    let prober = open_prober(&config)?;
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
                Ok(()) = reloads.changed() => inputs.reload(),
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
    let site = Site { policy, store, leases, events, prober };
    let served = tokio::select! {
        served = serve(site, ports, process.stopped()) => served,
        () = refresh => Ok(()),
    };
    drop(watching);
    served
}

/// Ports 67 and 4011 of every interface that a subnet is served on.
fn open_ports(config: &Config, file: &Path) -> Result<Vec<Port>, Failure> {
    let mut interfaces: BTreeMap<&str, Hearing> = BTreeMap::new();
    for subnet in config.subnets.iter().filter(|subnet| subnet.mode != Mode::Off) {
        let hearing = interfaces.entry(&subnet.interface).or_insert(Hearing::Broadcasts);
        if subnet.mode == Mode::Full {
            *hearing = Hearing::Everything;
        }
    }
    if interfaces.is_empty() {
        let file = file.display();
        return Err(Failure::configuration(format!(
            "{file}: no [[subnet]] says where to serve, or each says mode = \"off\""
        )));
    }
    let mut ports = Vec::new();
    for (interface, hearing) in interfaces {
        let dhcp = Port::open(interface, ServerPort::Dhcp, hearing);
        ports.push(dhcp.map_err(|error| port_failure(interface, ServerPort::Dhcp, &error))?);
        match Port::open(interface, ServerPort::BootServer, Hearing::Everything) {
            Ok(port) => ports.push(port),
            // Only firmware that was sent there asks there, and with our own addresses we send none.
            Err(error) if hearing == Hearing::Everything => {
                warn!(interface, %error, "port 4011 cannot be had; it is only needed beside another DHCP server");
            }
            Err(error) => return Err(port_failure(interface, ServerPort::BootServer, &error)),
        }
    }
    Ok(ports)
}

/// What asks whether addresses are in use, where there are addresses to give and it is wanted.
fn open_prober(config: &Config) -> Result<Option<Prober>, Failure> {
    let wait = Duration::from_millis(config.dhcpd.probe_milliseconds.into());
    let full = config.subnets.iter().filter(|subnet| subnet.mode == Mode::Full);
    let interfaces: BTreeSet<&str> = full.map(|subnet| subnet.interface.as_str()).collect();
    if wait.is_zero() || interfaces.is_empty() {
        return Ok(None);
    }
    let failed =
        |error| Failure::runtime(format!("cannot ask the network about addresses: {error}: CAP_NET_RAW is needed"));
    Prober::open(interfaces, wait).map(Some).map_err(failed)
}

fn interfaces_text(ports: &[Port]) -> String {
    ports.iter().map(Port::interface).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// What to do about a socket that cannot be had.
fn port_failure(interface: &str, port: ServerPort, error: &std::io::Error) -> Failure {
    let port = port.number();
    let cure = match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => "there is no such interface; name another in its [[subnet]]",
        Some(libc::EADDRINUSE) => {
            "another DHCP server has the port; stop that one, or beside it (mode = \"proxy\") let it share the port: dnsmasq \
             does with bind-dynamic"
        }
        Some(libc::EPERM | libc::EACCES) => "CAP_NET_BIND_SERVICE and CAP_NET_RAW are needed",
        _ => "see the system's message",
    };
    Failure::runtime(format!("cannot serve port {port} on {interface}: {error}: {cure}"))
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

    /// Whether anything may be different. Both are read: who has just installed loaders need not wait to see them, and is told
    /// again what is wrong with them.
    fn reload(&mut self) -> bool {
        self.failing = false;
        self.reload_hosts() | self.look_again()
    }

    /// Whether there is something else to boot than before.
    fn look_again(&mut self) -> bool {
        match ServableRoles::read(&self.layout, &self.snapshot) {
            Ok(servable) => {
                self.failing = false;
                let changed = servable != self.servable;
                if servable.loaders != self.servable.loaders {
                    info!(firmwares = servable.loaders.len(), "there is another table of loaders");
                }
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
