use std::io::Write;
use std::net::Ipv4Addr;

use boot_model::MacAddr;
use clap::{Parser, Subcommand};
use config::Config;
use generations::{Layout, Snapshot};
use service::{Failure, Options};

use crate::serve::{memtest_installed, now};
use crate::{Intents, Loader, Rendered, Sources, render, serve};

/// Renders the boot menus of every published generation
#[derive(Debug, Parser)]
#[command(name = "rookery-menu-generator", version)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep the menus in step with what is published (the default)
    Run,
    /// Load everything, change nothing, and say what would be rendered and what is left out
    Check,
    /// Print the configuration with all defaults
    PrintConfig,
    /// Print one machine's menu, as it would be now
    Render {
        /// The machine's card; without it the menu of unknown machines
        #[arg(long, value_name = "MAC")]
        host: Option<MacAddr>,
        /// pxelinux, syslinux-efi, ipxe, ipxe-arm64, grub or grub-arm64
        #[arg(long)]
        loader: Loader,
        /// The address of this server that the machine asks; the first subnet's unless given
        #[arg(long, value_name = "ADDRESS")]
        server: Option<Ipv4Addr>,
    },
}

/// Does what the command line says.
///
/// # Errors
/// With the exit code that belongs to it; see [`Failure`].
pub fn run(cli: Cli) -> Result<(), Failure> {
    let config = config::load(&cli.options.config).map_err(Failure::configuration)?;
    match cli.verb.unwrap_or(Verb::Run) {
        Verb::Run => {
            if config.subnets.is_empty() {
                let file = cli.options.config.display();
                return Err(Failure::configuration(format!("{file}: no [[subnet]] says for which address menus are")));
            }
            service::run(&cli.options, |process| serve(config, cli.options.config.clone(), process))
        }
        Verb::Check => check(&config),
        Verb::PrintConfig => print(&config.to_toml()),
        Verb::Render { host, loader, server } => print(&one(&config, host, loader, server)?),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn scan(config: &Config) -> Result<Snapshot, Failure> {
    Ok(generations::scan(&Layout::new(&config.state_directory), &Snapshot::default())?)
}

fn rendered(config: &Config, snapshot: &Snapshot) -> Rendered {
    let layout = Layout::new(&config.state_directory);
    let intents = Intents::look(&layout, now());
    let memtest = memtest_installed(&layout);
    render(&Sources { config, hosts: &config.hosts, snapshot, intents: &intents, memtest })
}

fn one(config: &Config, host: Option<MacAddr>, loader: Loader, server: Option<Ipv4Addr>) -> Result<String, Failure> {
    let addresses = config.server_addresses();
    let server = match server {
        Some(server) if addresses.contains(&server) => server,
        Some(server) => {
            let known: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
            return Err(Failure::usage(format!(
                "no [[subnet]] has the server address {server}; there is {}",
                known.join(", ")
            )));
        }
        None => *addresses
            .first()
            .ok_or_else(|| Failure::configuration("no [[subnet]] says for which address menus are"))?,
    };
    let Rendered { mut files, .. } = rendered(config, &scan(config)?);
    let own = host.and_then(|host| files.remove(&loader.file(server, Some(host))));
    let menu = own.or_else(|| files.remove(&loader.file(server, None)));
    let menu = menu.ok_or_else(|| Failure::runtime("no menu was rendered for it"))?;
    Ok(menu.to_string())
}

fn check(config: &Config) -> Result<(), Failure> {
    let snapshot = scan(config)?;
    let rendered = rendered(config, &snapshot);
    let with_role = config.hosts.iter().filter(|host| host.role.is_some()).count();
    let mut text = format!(
        "{} menus for {} server addresses, {} hosts with a role and every unknown machine\n",
        rendered.files.len(),
        config.server_addresses().len(),
        with_role
    );
    for role in &config.roles {
        let published = snapshot.roles.get(&role.name);
        let generations = published.map_or(0, |role| role.generations.len());
        let default = published.and_then(|role| role.default_generation()).map(|p| p.generation.id.to_string());
        text += &format!(
            "role {}: {generations} generations, {}\n",
            role.name,
            default.map_or_else(|| "nothing to boot: publish one".to_owned(), |id| format!("boots {id} unasked"))
        );
    }
    for problem in &snapshot.problems {
        text += &format!("cannot serve {problem}\n");
    }
    for left_out in &rendered.left_out {
        text += &format!("cannot serve {left_out}\n");
    }
    print(&text)?;
    service::checked(snapshot.problems.len() + rendered.left_out.len())
}
