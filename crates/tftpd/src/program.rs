//! The command line, and what the configuration means for the service.

use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use boot_model::Timestamp;
use boot_model::event::{Event, EventKind};
use config::Config;
use generations::{Layout, ServedNames, Snapshot};
use service::activation::{Configured, Inherited};
use service::confined::Root;
use service::{EventWriter, Failure, Options, Process};
use tftp_engine::{Outcome, Wishes};
use tracing::info;

use crate::desk::{Bounds, Clients, Desk, Ended};
use crate::get::{Url, get};
use crate::server::serve;

/// Serves boot loaders, menus, kernels and initrds by TFTP
#[derive(Debug, clap::Parser)]
#[command(name = "rookery-tftpd", version)]
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
    /// Fetch a file as a client would, from any TFTP server, and print the options negotiated
    Get(Get),
}

#[derive(Debug, clap::Args)]
struct Get {
    /// Bytes in a block, 8 to 65464
    #[arg(long, value_name = "BYTES", default_value_t = 1468, value_parser = clap::value_parser!(u16).range(8..=65464))]
    blksize: u16,
    /// Blocks for each acknowledgement; not asked unless given
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u16).range(1..))]
    windowsize: Option<u16>,
    /// Seconds between resends; not asked unless given
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u8).range(1..))]
    timeout: Option<u8>,
    /// Where to write the file; its own name in this directory unless given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to fetch: tftp://host[:port]/file
    url: Url,
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
                let port = Configured { port: config.tftpd.port, key: "tftpd.port", unit: "rookery-tftpd.socket" };
                let inherited = inherited.udp_at(port).map_err(Failure::configuration)?;
                service::run_in_one_thread(&self.options, |process| run(config, inherited, process))
            }
            Some(Verb::Check) => check(&load(&self.options)?),
            Some(Verb::PrintConfig) => print_config(&load(&self.options)?),
            Some(Verb::Get(arguments)) => fetch(&arguments),
        }
    }
}

fn load(options: &Options) -> Result<Config, Failure> {
    config::load(&options.config).map_err(Failure::configuration)
}

async fn run(config: Config, inherited: Vec<UdpSocket>, process: Process) -> Result<(), Failure> {
    if config.subnets.is_empty() {
        return Err(Failure::configuration("no [[subnet]] is configured, so there is no address to serve at"));
    }
    let sockets = if inherited.is_empty() { bind(&config)? } else { inherited };
    let layout = Layout::new(&config.state_directory);
    let current = Arc::new(RwLock::new(Arc::new(Snapshot::default())));
    let follow = Arc::clone(&current);
    let watch = {
        // Held until the first snapshot stands, so that the watch's next one can only come after it.
        let mut current = current.write().unwrap_or_else(PoisonError::into_inner);
        let (first, watch) = generations::watch(layout.clone(), move |snapshot| {
            *follow.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(snapshot);
        })?;
        *current = first;
        watch
    };
    let events = EventWriter::new(layout.events("tftpd"));
    let desk = Arc::new(Desk::new(
        Root::new(layout.root()),
        config.server_addresses(),
        clients(&config),
        bounds(&config),
        Box::new(move |name, local| {
            let snapshot = Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner));
            let served = name.as_str().map(|name| ServedNames::new(snapshot, None).resolve(name, local, None));
            served.and_then(Result::ok).map(|served| served.candidates).unwrap_or_default()
        }),
        Box::new(move |ended| events.write(&event(ended))),
    ));
    let addresses = sockets.iter().map(|socket| socket.local_addr().map(|address| address.to_string()));
    let addresses = addresses.collect::<io::Result<Vec<_>>>()?.join(", ");
    process.ready(&format!("serving {} at {addresses}", layout.root().display()));
    let served = serve(sockets, Arc::clone(&desk), process.stopped()).await;
    drop(watch);
    log_counts(&desk);
    Ok(served?)
}

fn bind(config: &Config) -> Result<Vec<UdpSocket>, Failure> {
    let at = |address: Ipv4Addr| {
        UdpSocket::bind((address, config.tftpd.port)).map_err(|error| {
            let cure = cure(error.kind());
            Failure::runtime(format!("binding UDP {address}:{}: {error}{cure}", config.tftpd.port))
        })
    };
    config.server_addresses().into_iter().map(at).collect()
}

fn cure(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "; stop the TFTP server that has the port there",
        io::ErrorKind::AddrNotAvailable => "; give the interface this address first, or correct the subnet's address",
        io::ErrorKind::PermissionDenied => "; a port below 1024 takes CAP_NET_BIND_SERVICE or a socket unit",
        _ => "",
    }
}

/// The machines of the subnets, and those that the section names.
fn clients(config: &Config) -> Box<Clients> {
    let subnets: Vec<_> = config.subnets.iter().map(|subnet| subnet.network).collect();
    let further = config.tftpd.further_clients.clone();
    Box::new(move |client| {
        subnets.iter().any(|subnet| subnet.contains_host(client)) || further.iter().any(|range| range.contains(client))
    })
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        max_transfers: config.tftpd.max_transfers.into(),
        max_transfers_per_client: config.tftpd.max_transfers_per_client.into(),
        max_window: config.tftpd.max_window,
        block_size_max: config.tftpd.max_block_size,
    }
}

fn event(ended: &Ended<'_>) -> Event {
    let outcome = match ended.outcome {
        Some(Outcome::Complete) => "done",
        Some(Outcome::SizeProbe) => "probe",
        Some(Outcome::Aborted(_) | Outcome::Gone | Outcome::Replaced) => "aborted",
        Some(Outcome::Stalled | Outcome::Unproven) => "timeout",
        None => "refused",
    };
    Event {
        time: Timestamp::from_unix_millis(service::unix_millis()),
        mac: None,
        address: Some(*ended.client.ip()),
        kind: EventKind::Tftp {
            file: ended.file.to_string(),
            bytes: ended.bytes,
            outcome: outcome.to_owned(),
            block_size: ended.agreed.block_size,
            window: ended.agreed.window,
            milliseconds: u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
        },
    }
}

fn log_counts(desk: &Desk) {
    let counts = desk.counts();
    info!(
        complete = counts.complete.load(Ordering::Relaxed),
        incomplete = counts.incomplete.load(Ordering::Relaxed),
        refused = counts.refused.load(Ordering::Relaxed),
        dropped_busy = counts.dropped_busy.load(Ordering::Relaxed),
        evicted = counts.evicted.load(Ordering::Relaxed),
        dropped_errors = counts.dropped_errors.load(Ordering::Relaxed),
        dropped_noise = counts.dropped_noise.load(Ordering::Relaxed),
        "stopped"
    );
}

fn check(config: &Config) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for subnet in &config.subnets {
        writeln!(out, "listens at {}:{} ({})", subnet.address.address(), config.tftpd.port, subnet.interface)?;
    }
    let layout = Layout::new(&config.state_directory);
    let snapshot = generations::scan(&layout, &Snapshot::default())?;
    for (name, role) in &snapshot.roles {
        for published in &role.generations {
            writeln!(out, "serves {name}/{}", published.generation.id)?;
        }
    }
    let loaders = layout.loaders();
    match std::fs::read_dir(&loaders) {
        Ok(entries) => writeln!(out, "serves {} entries of {}", entries.count(), loaders.display())?,
        Err(error) => writeln!(out, "no loaders: {}: {error}", loaders.display())?,
    }
    for problem in &snapshot.problems {
        writeln!(out, "cannot serve {problem}")?;
    }
    service::checked(snapshot.problems.len())
}

fn print_config(config: &Config) -> Result<(), Failure> {
    Ok(write!(io::stdout().lock(), "{}", config.to_toml())?)
}

fn fetch(arguments: &Get) -> Result<(), Failure> {
    let name = arguments.url.file.as_str().and_then(|name| name.rsplit('/').next());
    let to = arguments.output.clone().or_else(|| name.map(PathBuf::from));
    let to = to.ok_or_else(|| Failure::usage("the file's name is no text: say where to write it with --output"))?;
    let wishes =
        Wishes { block_size: Some(arguments.blksize), window: arguments.windowsize, timeout: arguments.timeout };
    let got = get(&arguments.url, wishes, &to).map_err(Failure::runtime)?;
    let options: String = got.agreed.answers.iter().map(|answer| format!(" {answer}")).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "options:{}", if options.is_empty() { " none" } else { &options })?;
    let seconds = got.took.as_secs_f64();
    let rate = got.bytes as f64 / 1e6 / seconds.max(1e-6);
    writeln!(out, "{}: {} bytes in {seconds:.3} s, {rate:.1} MB/s", to.display(), got.bytes)?;
    Ok(())
}
