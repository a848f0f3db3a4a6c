use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use boot_model::{HostName, MacAddr, RoleName};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::error::{ConfigError, Source};
use crate::wire::{Located, no_such_role};
use crate::{HostMenu, Role, Subnet};

/// A machine that is known by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// The card that it boots from.
    pub mac: MacAddr,
    /// Its name, which DHCP gives it.
    pub name: HostName,
    /// What it boots; without one it gets what its subnet gives to unknown machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// An address of its own, never given to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// In what its menu differs from its role's.
    #[serde(skip_serializing_if = "HostMenu::is_empty")]
    pub menu: HostMenu,
}

/// All hosts of `hosts.d`, each MAC, name and address once, ordered by MAC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Hosts(Vec<Host>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    #[serde(default)]
    host: Vec<WireHost>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHost {
    mac: Spanned<MacAddr>,
    name: Spanned<HostName>,
    role: Option<Spanned<RoleName>>,
    address: Option<Spanned<Ipv4Addr>>,
    #[serde(default)]
    menu: HostMenu,
}

impl Hosts {
    /// All of them, by MAC.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads `hosts.d/*.toml` beside the configuration, in the order of their names.
pub(crate) fn load(config: &Path, subnets: &[Located<Subnet>], roles: &[Role]) -> Result<Hosts, ConfigError> {
    let directory = config.with_file_name("hosts.d");
    let mut seen = Seen { subnets, roles, macs: BTreeMap::new(), names: BTreeMap::new(), addresses: BTreeMap::new() };
    let mut hosts = BTreeMap::new();
    for file in files(&directory)? {
        let text = fs::read_to_string(&file).map_err(|error| ConfigError::read(&file, &error))?;
        let wire: WireFile = toml::from_str(&text).map_err(|error| ConfigError::toml(&file, &text, &error))?;
        let source = Source { file: &file, text: &text };
        for host in wire.host {
            let host = seen.check(host, &source)?;
            hosts.insert(host.mac, host);
        }
    }
    Ok(Hosts(hosts.into_values().collect()))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ConfigError::read(directory, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| ConfigError::read(directory, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What earlier hosts have taken, to say who has it.
struct Seen<'a> {
    subnets: &'a [Located<Subnet>],
    roles: &'a [Role],
    macs: BTreeMap<MacAddr, HostName>,
    names: BTreeMap<HostName, MacAddr>,
    addresses: BTreeMap<Ipv4Addr, HostName>,
}

impl Seen<'_> {
    fn check(&mut self, wire: WireHost, source: &Source<'_>) -> Result<Host, ConfigError> {
        let (mac, name) = (*wire.mac.get_ref(), wire.name.get_ref().clone());
        if let Some(other) = self.macs.insert(mac, name.clone()) {
            return Err(source.error(wire.mac.span().start, format!("{mac} is the card of host {other} already")));
        }
        if let Some(other) = self.names.insert(name.clone(), mac) {
            return Err(source
                .error(wire.name.span().start, format!("the host with the card {other} is called {name} already")));
        }
        if let Some(role) = &wire.role
            && !self.roles.iter().any(|known| known.name == *role.get_ref())
        {
            return Err(source.error(role.span().start, no_such_role(role.get_ref(), self.roles)));
        }
        if let Some(address) = &wire.address {
            self.check_address(*address.get_ref(), &name)
                .map_err(|message| source.error(address.span().start, message))?;
        }
        Ok(Host {
            mac,
            name,
            role: wire.role.map(Spanned::into_inner),
            address: wire.address.map(Spanned::into_inner),
            menu: wire.menu,
        })
    }

    fn check_address(&mut self, address: Ipv4Addr, name: &HostName) -> Result<(), String> {
        if let Some(other) = self.addresses.insert(address, name.clone()) {
            return Err(format!("{address} is the address of host {other} already"));
        }
        match self.subnets.iter().find(|subnet| subnet.value.network.contains_host(address)) {
            None => Err(format!("{address} is in the network of no [[subnet]]")),
            Some(subnet) if subnet.value.address.address() == address => {
                Err(format!("{address} is this server's own address"))
            }
            Some(_) => Ok(()),
        }
    }
}
