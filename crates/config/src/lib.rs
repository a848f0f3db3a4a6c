//! The site's configuration: one `rookery.toml` for all services, and a folder `hosts.d` beside it for the hosts.
//!
//! [`load`] gives one validated [`Config`]; an error names the file, the line, the key and what to change. The crate starts
//! nothing and holds no state: a service converts its section into its engine's own policy, so engines know no configuration.

mod classes;
mod error;
mod hosts;
mod menu;
mod sections;
mod types;
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use boot_model::RoleName;
use serde::Serialize;

pub use classes::{Class, ClassBoot, InvalidClass, LoaderFile, MacPrefix};
pub use error::ConfigError;
pub use hosts::{Host, Hosts};
pub use menu::{HostMenu, InvalidSerialConsole, SerialConsole};
pub use sections::{Dhcpd, LeaseIdentity, Mode, NarCache, Publish, Role, Subnet, Tftpd, Unknown};
pub use types::{AddressRange, InterfaceAddress, InvalidAddress, Network, Route};

/// The file where every program looks unless it is told otherwise.
pub const DEFAULT_FILE: &str = "/etc/rookery/rookery.toml";

/// The whole site, checked. Serialises to TOML with every default filled in, which is what `print-config` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Where all services meet (docs/generations.md).
    pub state_directory: PathBuf,
    /// How generations are made servable.
    pub publish: Publish,
    /// The DHCP server.
    pub dhcpd: Dhcpd,
    /// The TFTP server.
    pub tftpd: Tftpd,
    /// The HTTP server.
    pub nar_cache: NarCache,
    /// The networks that clients boot from. No two overlap.
    #[serde(rename = "subnet")]
    pub subnets: Vec<Subnet>,
    /// The kinds of machines.
    #[serde(rename = "role")]
    pub roles: Vec<Role>,
    /// Machines that boot otherwise than `loaders.json` says; the first class that fits counts.
    #[serde(rename = "class", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Class>,
    /// The machines that are known by name.
    #[serde(rename = "host")]
    pub hosts: Hosts,
}

/// Reads and checks `file` and every `hosts.d/*.toml` beside it.
///
/// # Errors
/// The first thing that is wrong, with its place and its cure.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(file).map_err(|error| ConfigError::read(file, &error))?;
    let wire: wire::Config = toml::from_str(&text).map_err(|error| ConfigError::toml(file, &text, &error))?;
    let source = error::Source { file, text: &text };
    let subnets = wire::subnets(wire.subnet, &source)?;
    let roles = wire::roles(wire.role, &source)?;
    wire::check_unknown(&subnets, &roles, &source)?;
    let hosts = hosts::load(file, &subnets, &roles)?;
    Ok(Config {
        state_directory: wire.state_directory,
        publish: wire.publish,
        dhcpd: wire.dhcpd,
        tftpd: wire.tftpd,
        nar_cache: wire.nar_cache,
        subnets: subnets.into_iter().map(|subnet| subnet.value).collect(),
        roles,
        classes: wire.class,
        hosts,
    })
}

impl Config {
    /// Reads the hosts again, for a service that was told to (SIGHUP). Nothing else of the configuration changes without a restart.
    pub fn reload_hosts(&self, file: &Path) -> Result<Hosts, ConfigError> {
        let located: Vec<wire::Located<Subnet>> =
            self.subnets.iter().map(|subnet| wire::Located { value: subnet.clone(), offset: 0 }).collect();
        hosts::load(file, &located, &self.roles)
    }

    /// This server's addresses in the order of the subnets, each once: several subnets are reached by one where relay agents forward.
    pub fn server_addresses(&self) -> Vec<Ipv4Addr> {
        let mut addresses = Vec::new();
        for address in self.subnets.iter().map(|subnet| subnet.address.address()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The roles by name.
    pub fn roles_by_name(&self) -> BTreeMap<&RoleName, &Role> {
        self.roles.iter().map(|role| (&role.name, role)).collect()
    }

    /// The configuration with all defaults, as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration that was read from TOML can be written as TOML")
    }
}
