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
        let site = Self { root: root.to_owned() };
        let state = site.state();
        for dir in ["generations", "cache", "menus", "loaders", "intents", "leases", "events"] {
            let dir = state.join(dir);
            fs::create_dir_all(&dir).map_err(Error::io(format!("creating {}", dir.display())))?;
        }
        site.write("rookery.toml", &site.configuration())?;
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

    fn configuration(&self) -> String {
        format!(
            "state-directory = \"{state}\"\n\
             [publish]\n\
             secret-key-file = \"{key}\"\n\
             compression-level = {LEVEL}\n\
             [nar-cache]\n\
             port = {PORT}\n\
             [[subnet]]\n\
             interface = \"{BRIDGE}\"\n\
             address = \"{SERVER}/{PREFIX_LENGTH}\"\n\
             pools = [\"10.77.0.100-10.77.0.199\"]\n\
             lease-seconds = 3600\n\
             unknown = {{ role = \"{ROLE}\" }}\n\
             [[role]]\n\
             name = \"{ROLE}\"\n\
             title = \"Rookery lab\"\n\
             local-disk = true\n\
             menu-timeout-seconds = 5\n",
            state = self.state().display(),
            key = self.secret_key().display(),
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

impl Host {
    fn section(&self) -> String {
        let Self { mac, name, address } = self;
        format!("[[host]]\nmac = \"{mac}\"\nname = \"{name}\"\nrole = \"{ROLE}\"\naddress = \"{address}\"\n")
    }
}
