use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::namespace::{BRIDGE, PREFIX_LENGTH, SERVER};
use crate::{Error, Result};

/// The port of nar-cache in the lab.
pub const PORT: u16 = 8080;

/// zstd's level for packs: tests don't wait for better ones.
pub const LEVEL: u32 = 1;

/// The only role of the lab's site.
pub const ROLE: &str = "lab";

/// A site: its configuration and its state directory, below one directory.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
}

/// A network of the site.
#[derive(Debug, Clone, Copy)]
pub struct Subnet {
    /// The bridge by which the server reaches it.
    pub bridge: &'static str,
    /// The server's address there.
    pub server: Ipv4Addr,
    /// Who gives the addresses, and to whom.
    pub addresses: Addresses,
}

/// Who gives a network's addresses.
#[derive(Debug, Clone, Copy)]
pub enum Addresses {
    /// The server, to the machines of that bridge.
    Own,
    /// The server, to machines in the network of this router, which is their relay agent.
    Relayed(Ipv4Addr),
    /// Another DHCP server.
    Elsewhere,
}

/// A machine that the site knows by name.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its hardware address.
    pub mac: String,
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
}

impl Site {
    /// Writes a configuration for the lab's network: one role, which unknown machines boot too, and these hosts.
    pub fn create(root: &Path, hosts: &[Host]) -> Result<Self> {
        Self::with_subnets(root, &[Subnet { bridge: BRIDGE, server: SERVER, addresses: Addresses::Own }], hosts)
    }

    /// As [`Site::create`], for these networks.
    pub fn with_subnets(root: &Path, subnets: &[Subnet], hosts: &[Host]) -> Result<Self> {
        let site = Self { root: root.to_owned() };
        let state = site.state();
        for dir in ["generations", "cache", "menus", "loaders", "intents", "leases", "events"] {
            let dir = state.join(dir);
            fs::create_dir_all(&dir).map_err(Error::io(format!("creating {}", dir.display())))?;
        }
        site.write("rookery.toml", &site.configuration(subnets))?;
        site.write("hosts.d/lab.toml", &hosts.iter().map(Host::section).collect::<String>())?;
        Ok(site)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.root.join("rookery.toml")
    }

    /// The directory in which all services meet.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The site's secret key.
    pub fn secret_key(&self) -> PathBuf {
        self.root.join("secret-key")
    }

    /// Where events are.
    pub fn events(&self) -> PathBuf {
        self.state().join("events")
    }

    fn configuration(&self, subnets: &[Subnet]) -> String {
        format!(
            "state-directory = \"{state}\"\n\
             [publish]\n\
             secret-key-file = \"{key}\"\n\
             compression-level = {LEVEL}\n\
             [nar-cache]\n\
             port = {PORT}\n\
             {subnets}\
             [[role]]\n\
             name = \"{ROLE}\"\n\
             title = \"Rookery lab\"\n\
             local-disk = true\n\
             menu-timeout-seconds = 5\n",
            state = self.state().display(),
            key = self.secret_key().display(),
            subnets = subnets.iter().map(Subnet::section).collect::<String>(),
        )
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.root.join(name);
        let write = || {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::write(&path, text)
        };
        write().map_err(Error::io(format!("writing {}", path.display())))
    }
}

impl Subnet {
    fn section(&self) -> String {
        let Self { bridge, server, addresses } = self;
        let addresses = match addresses {
            Addresses::Own => pool(*server),
            Addresses::Relayed(router) => {
                let [a, b, ..] = router.octets();
                format!("network = \"{a}.{b}.0.0/{PREFIX_LENGTH}\"\nrouter = \"{router}\"\n{}", pool(*router))
            }
            Addresses::Elsewhere => "mode = \"proxy\"\n".to_owned(),
        };
        format!(
            "[[subnet]]\n\
             interface = \"{bridge}\"\n\
             address = \"{server}/{PREFIX_LENGTH}\"\n\
             {addresses}\
             unknown = {{ role = \"{ROLE}\" }}\n"
        )
    }
}

/// A hundred addresses of the network that an address is in.
fn pool(within: Ipv4Addr) -> String {
    let [a, b, c, _] = within.octets();
    format!("pools = [\"{a}.{b}.{c}.100-{a}.{b}.{c}.199\"]\nlease-seconds = 3600\n")
}

impl Host {
    fn section(&self) -> String {
        let Self { mac, name, address } = self;
        format!("[[host]]\nmac = \"{mac}\"\nname = \"{name}\"\nrole = \"{ROLE}\"\naddress = \"{address}\"\n")
    }
}
