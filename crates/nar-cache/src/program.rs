//! The command line, and what the configuration means for the service.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use boot_model::MacAddr;
use config::Config;
use generations::Layout;
use service::activation::{Configured, Inherited};
use service::{Failure, Options, Process};
use tokio::net::TcpSocket;
use tokio::task::spawn_blocking;
use tracing::info;

use crate::check::check;
use crate::desk::Desk;
use crate::explain::{Question, explain};
use crate::machines::Machines;
use crate::publication::Publication;
use crate::server::{Bounds, serve};

/// Serves menus, loaders, kernels, generations and their closures by HTTP, and takes the clients' reports
#[derive(Debug, clap::Parser)]
#[command(name = "rookery-nar-cache", version)]
pub struct Program {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Serve until told to stop (the default)
    Run,
    /// Load everything, touch nothing, and say what would be served
    Check,
    /// Print the configuration with every default filled in
    PrintConfig,
    /// Say which file a URL stands for, or why none
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
struct Explain {
    /// The address of ours that the client asks; the first subnet's unless given, or the URL's
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// The client's card, for menus of its own
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddr>,
    /// What a client asks for: http://10.77.0.1:8080/boot.ipxe or /boot.ipxe
    url: hyper::Uri,
}

impl Program {
    /// Does what the command line says.
    ///
    /// # Errors
    /// For the service's shell to print.
    pub fn perform(self) -> Result<(), Failure> {
        match self.verb {
            None | Some(Verb::Run) => {
                // Before anything else is opened: the inherited descriptors are known by their numbers.
                let inherited = Inherited::take()?;
                let config = load(&self.options)?;
                let port =
                    Configured { port: config.nar_cache.port, key: "nar-cache.port", unit: "rookery-nar-cache.socket" };
                let inherited = inherited.tcp_at(port).map_err(Failure::configuration)?;
                service::run(&self.options, |process| run(config, inherited, process))
            }
            Some(Verb::Check) => check(&load(&self.options)?, &mut io::stdout().lock()),
            Some(Verb::PrintConfig) => Ok(write!(io::stdout().lock(), "{}", load(&self.options)?.to_toml())?),
            Some(Verb::Explain(Explain { server, mac, url })) => {
                let config = load(&self.options)?;
                let named = url.host().and_then(|host| host.parse().ok());
                let first = config.server_addresses().first().copied();
                let server = server.or(named).or(first).unwrap_or(Ipv4Addr::LOCALHOST);
                let question = Question { path: url.path(), server, mac };
                explain(&Layout::new(&config.state_directory), &question, &mut io::stdout().lock())
            }
        }
    }
}

fn load(options: &Options) -> Result<Config, Failure> {
    config::load(&options.config).map_err(Failure::configuration)
}

async fn run(config: Config, inherited: Vec<std::net::TcpListener>, process: Process) -> Result<(), Failure> {
    if config.subnets.is_empty() {
        return Err(Failure::configuration("no [[subnet]] is configured, so there is no address to serve at"));
    }
    let listeners = if inherited.is_empty() { bind(&config)? } else { inherited };
    let layout = Layout::new(&config.state_directory);
    let following = layout.clone();
    let publication = spawn_blocking(move || Publication::follow(&following)).await??;
    let served_at = config.server_addresses();
    let machines = Machines::new(&layout, &config.subnets);
    let clients = config.nar_cache.bulk_clients.into();
    let bounds = Bounds::new(config.nar_cache.max_connections.into());
    let desk = Desk::new(&layout, machines, served_at, clients, bounds.most_waiting(), publication.names());
    let desk = Arc::new(desk);
    let addresses = listeners.iter().map(|listener| listener.local_addr().map(|address| address.to_string()));
    let addresses = addresses.collect::<io::Result<Vec<_>>>()?.join(", ");
    process.ready(&format!("serving {} at {addresses}", layout.root().display()));
    let served = serve(listeners, Arc::clone(&desk), bounds, process.stopped()).await;
    log_counts(&desk);
    Ok(served?)
}

/// Each subnet's own address: what else this machine is connected to is not served.
fn bind(config: &Config) -> Result<Vec<std::net::TcpListener>, Failure> {
    let at = |address: Ipv4Addr| {
        let address = SocketAddrV4::new(address, config.nar_cache.port);
        listen(address.into())
            .map_err(|error| Failure::runtime(format!("binding TCP {address}: {error}{}", cure(error.kind()))))
    };
    config.server_addresses().into_iter().map(at).collect()
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of a predecessor that linger must not keep a restarted service out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

fn cure(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "; stop the program that serves there, or change nar-cache.port",
        io::ErrorKind::AddrNotAvailable => "; give the interface this address first, or correct the subnet's address",
        io::ErrorKind::PermissionDenied => "; a port below 1024 takes CAP_NET_BIND_SERVICE or a socket unit",
        _ => "",
    }
}

fn log_counts(desk: &Desk) {
    let counts = desk.counts();
    info!(
        complete = counts.complete.load(Ordering::Relaxed),
        cut = counts.cut.load(Ordering::Relaxed),
        refused = counts.refused.load(Ordering::Relaxed),
        bytes = counts.bytes.load(Ordering::Relaxed),
        reports = counts.reports.load(Ordering::Relaxed),
        strangers = counts.strangers.load(Ordering::Relaxed),
        crowded = counts.crowded.load(Ordering::Relaxed),
        waited = desk.waited(),
        elsewhere = counts.elsewhere.load(Ordering::Relaxed),
        "stopped"
    );
}

/// A room that is switched on at once; the kernel caps it (net.core.somaxconn).
const BACKLOG: u32 = 4096;
