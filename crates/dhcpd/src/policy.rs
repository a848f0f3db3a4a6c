use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;

use boot_model::{Architecture, Firmware, RoleName};
use config::{Config, Hosts, LeaseIdentity, Unknown};
use dhcp_engine::{
    AddressRange, BootPolicy, Class, ClassBoot, Host, Identity, InvalidNetwork, Ipv4Network, Mode, Policy, Route,
    Subnet, SubnetOptions, UnknownHosts,
};
use generations::{Layout, Snapshot};
use service::Failure;

/// For which roles and architectures there is something to boot, and by which loaders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServableRoles {
    /// Roles with a published generation for the architecture.
    pub roles: BTreeSet<(RoleName, Architecture)>,
    /// The table of loaders.
    pub loaders: BTreeMap<Firmware, String>,
}

impl ServableRoles {
    /// Reads the table of loaders and takes the roles from what is published.
    ///
    /// # Errors
    /// If the table is there and cannot be used.
    pub fn read(layout: &Layout, snapshot: &Snapshot) -> Result<Self, Failure> {
        Ok(Self { roles: servable(snapshot), loaders: loaders(layout)? })
    }
}

/// The engine's policy for this site.
///
/// # Errors
/// If a subnet's numbers cannot be served.
pub fn engine_policy(config: &Config, hosts: &Hosts, servable: &ServableRoles) -> Result<Policy, Failure> {
    let subnets = config.subnets.iter().map(|subnet| self::subnet(config, hosts, subnet)).collect::<Result<_, _>>();
    let identity = match config.dhcpd.lease_identity {
        LeaseIdentity::Mac => Identity::Mac,
        LeaseIdentity::ClientId => Identity::ClientId,
    };
    let roles = hosts.iter().filter_map(|host| Some((host.mac, host.role.clone()?))).collect::<HashMap<_, _>>();
    let boot = BootPolicy {
        servable: servable.roles.clone(),
        roles,
        loaders: servable.loaders.clone(),
        classes: config.classes.iter().map(class).collect(),
        http_port: config.nar_cache.port,
    };
    Ok(Policy {
        subnets: subnets.map_err(Failure::configuration)?,
        identity,
        boot,
        probe: config.dhcpd.probe_milliseconds > 0,
    })
}

fn subnet(config: &Config, hosts: &Hosts, subnet: &config::Subnet) -> Result<Subnet, InvalidNetwork> {
    let network = Ipv4Network::new(subnet.network.address(), subnet.network.prefix())?;
    let pools = subnet.pools.iter().map(|range| AddressRange::new(range.first(), range.last()));
    // A host's name goes with it to every subnet, its address stays in its own.
    let host = |host: &config::Host| Host {
        address: host.address.filter(|address| network.contains(*address)),
        name: Some(host.name.clone()),
    };
    Ok(Subnet {
        interface: subnet.interface.clone(),
        server: subnet.address.address(),
        network,
        pools: pools.collect::<Result<_, _>>()?,
        routers: subnet.router.into_iter().collect(),
        dns: subnet.dns.clone(),
        domain: subnet.domain.clone(),
        lease_seconds: subnet.lease_seconds,
        hosts: hosts.iter().map(|entry| (entry.mac, host(entry))).collect(),
        unknown: match &subnet.unknown {
            Unknown::Nothing => UnknownHosts::Nothing,
            Unknown::Role(role) => UnknownHosts::Role(role.clone()),
            Unknown::Menu(roles) => UnknownHosts::Menu(roles.clone()),
        },
        authoritative: config.dhcpd.authoritative,
        mode: match subnet.mode {
            config::Mode::Full => Mode::Full,
            config::Mode::Proxy => Mode::Proxy,
            config::Mode::Off => Mode::Off,
        },
        options: options(subnet)?,
    })
}

fn class(class: &config::Class) -> Class {
    Class {
        name: class.name.to_string(),
        firmware: class.firmware.clone(),
        macs: class.mac.iter().map(|prefix| prefix.bytes().to_vec()).collect(),
        vendor_classes: class.vendor_class.clone(),
        user_classes: class.user_class.clone(),
        circuits: class.circuit.clone(),
        boot: match &class.boot {
            config::ClassBoot::Nothing => ClassBoot::Nothing,
            config::ClassBoot::Loader(file) => ClassBoot::Loader(file.to_string()),
        },
    }
}

fn options(subnet: &config::Subnet) -> Result<SubnetOptions, InvalidNetwork> {
    let route =
        |route: &config::Route| Ok(Route { to: Ipv4Network::new(route.network(), route.prefix())?, via: route.via() });
    Ok(SubnetOptions {
        search: subnet.search.clone(),
        ntp: subnet.ntp.clone(),
        routes: subnet.routes.iter().map(route).collect::<Result<_, _>>()?,
        captive_portal: subnet.captive_portal.clone(),
        ipv6_only_seconds: subnet.ipv6_only_seconds,
        mtu: subnet.mtu,
        pxelinux_config: subnet.pxelinux_config.clone(),
        pxelinux_prefix: subnet.pxelinux_prefix.clone(),
        rapid_commit: subnet.rapid_commit,
    })
}

fn servable(snapshot: &Snapshot) -> BTreeSet<(RoleName, Architecture)> {
    let both = [Architecture::X86_64, Architecture::Aarch64];
    let pairs = snapshot.roles.keys().flat_map(|role| both.map(|architecture| (role.clone(), architecture)));
    pairs.filter(|(role, architecture)| snapshot.servable(role, *architecture)).collect()
}

/// `loaders.json`: firmware to file name. Without one there is pxelinux, which every installation has.
fn loaders(layout: &Layout) -> Result<BTreeMap<Firmware, String>, Failure> {
    let path = layout.loaders_table();
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::configuration(format!(
                "{}: {error}; run `rookery loaders install` to write it anew",
                path.display()
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok([(Firmware::Bios, "lpxelinux.0".to_owned())].into())
        }
        Err(error) => Err(Failure::runtime(format!("cannot read {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_off_is_known_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rookery.toml");
        let subnet = |address: &str, mode: &str| {
            format!("[[subnet]]\ninterface = \"enp3s0\"\naddress = \"{address}/24\"\nmode = \"{mode}\"\n")
        };
        let text = [subnet("10.77.0.1", "full"), subnet("10.78.0.1", "off"), subnet("10.79.0.1", "proxy")].concat();
        fs::write(&file, text).unwrap();
        let config = config::load(&file).unwrap();
        let policy = engine_policy(&config, &config.hosts, &ServableRoles::default()).unwrap();
        let modes: Vec<Mode> = policy.subnets.iter().map(|subnet| subnet.mode).collect();
        assert_eq!(modes, [Mode::Full, Mode::Off, Mode::Proxy]);
    }
}
