//! The file as people write it. Spans are kept where a value can only be judged beside others.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use boot_model::{KernelParameter, Label, RoleName};
use serde::Deserialize;
use toml::Spanned;

use crate::error::{ConfigError, Source};
use crate::sections::{Dhcpd, Mode, NarCache, Publish, Tftpd, Unknown};
use crate::{AddressRange, Class, InterfaceAddress, Network, Route, SerialConsole};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default = "state_directory")]
    pub(crate) state_directory: PathBuf,
    #[serde(default)]
    pub(crate) publish: Publish,
    #[serde(default)]
    pub(crate) dhcpd: Dhcpd,
    #[serde(default)]
    pub(crate) tftpd: Tftpd,
    #[serde(default)]
    pub(crate) nar_cache: NarCache,
    #[serde(default)]
    pub(crate) subnet: Vec<Subnet>,
    #[serde(default)]
    pub(crate) role: Vec<Role>,
    #[serde(default)]
    pub(crate) class: Vec<Class>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Subnet {
    interface: Spanned<String>,
    address: Spanned<InterfaceAddress>,
    network: Option<Spanned<Network>>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    pools: Vec<Spanned<AddressRange>>,
    router: Option<Spanned<Ipv4Addr>>,
    #[serde(default)]
    dns: Vec<Ipv4Addr>,
    domain: Option<Spanned<String>>,
    #[serde(default = "lease_seconds")]
    lease_seconds: Spanned<u32>,
    #[serde(default)]
    rapid_commit: bool,
    #[serde(default)]
    search: Vec<Spanned<String>>,
    #[serde(default)]
    ntp: Vec<Ipv4Addr>,
    #[serde(default)]
    routes: Vec<Spanned<Route>>,
    captive_portal: Option<Spanned<String>>,
    ipv6_only_seconds: Option<u32>,
    mtu: Option<Spanned<u16>>,
    pxelinux_config: Option<Spanned<String>>,
    pxelinux_prefix: Option<Spanned<String>>,
    unknown: Option<Spanned<Unknown>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Role {
    name: Spanned<RoleName>,
    title: Option<Label>,
    #[serde(default)]
    local_disk: bool,
    #[serde(default = "menu_timeout_seconds")]
    menu_timeout_seconds: u16,
    #[serde(default = "menu_generations")]
    menu_generations: Spanned<u16>,
    #[serde(default)]
    memtest: bool,
    #[serde(default)]
    locked: bool,
    serial_console: Option<SerialConsole>,
    #[serde(default)]
    kernel_parameters: Vec<KernelParameter>,
}

/// A checked value and where it stands.
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) offset: usize,
}

fn state_directory() -> PathBuf {
    "/var/lib/rookery".into()
}

fn lease_seconds() -> Spanned<u32> {
    Spanned::new(0..0, 43_200)
}

fn menu_timeout_seconds() -> u16 {
    5
}

fn menu_generations() -> Spanned<u16> {
    Spanned::new(0..0, 20)
}

pub(crate) fn subnets(wire: Vec<Subnet>, source: &Source<'_>) -> Result<Vec<Located<crate::Subnet>>, ConfigError> {
    let mut checked: Vec<Located<crate::Subnet>> = Vec::new();
    for subnet in wire {
        let at = subnet.network.as_ref().map_or(subnet.address.span().start, |network| network.span().start);
        let offset = subnet.unknown.as_ref().map_or(subnet.address.span().start, |unknown| unknown.span().start);
        let value = check_subnet(subnet, source)?;
        if let Some(other) = checked.iter().find(|other| other.value.network.overlaps(value.network)) {
            let (network, other) = (value.network, other.value.network);
            let message = format!("its network {network} overlaps {other}; give each subnet a network of its own");
            return Err(source.error(at, message));
        }
        let differs = |other: &&Located<crate::Subnet>| {
            other.value.address.address() == value.address.address() && other.value.unknown != value.unknown
        };
        if let Some(other) = checked.iter().find(differs) {
            let (address, other) = (value.address.address(), other.value.network);
            return Err(source.error(
                offset,
                format!(
                    "menus are told apart by this server's address, and {address} is that of {other} too: write the same here as \
                     there, or give this server another address for one of them"
                ),
            ));
        }
        checked.push(Located { value, offset });
    }
    Ok(checked)
}

fn check_subnet(subnet: Subnet, source: &Source<'_>) -> Result<crate::Subnet, ConfigError> {
    let address = *subnet.address.get_ref();
    let network = check_network(&subnet, source)?;
    let interface = subnet.interface.get_ref();
    // IFNAMSIZ is 16 with the NUL; the kernel refuses blanks and slashes (net/core/dev.c, dev_valid_name).
    if interface.is_empty()
        || interface.len() > 15
        || interface.contains(|c: char| c.is_whitespace() || c == '/' || c == ':')
    {
        return Err(source.error(
            subnet.interface.span().start,
            format!("{interface:?} is no name of a network interface; `ip -br link` lists them"),
        ));
    }
    check_pools(&subnet.pools, network, address, source)?;
    if let Some(router) = &subnet.router
        && !network.contains_host(*router.get_ref())
    {
        let message = format!("{} is not in the subnet's network {network}", router.get_ref());
        return Err(source.error(router.span().start, message));
    }
    for domain in subnet.domain.iter().chain(&subnet.search) {
        if domain.get_ref().len() > 253
            || !domain.get_ref().split('.').all(|label| label.parse::<boot_model::HostName>().is_ok())
        {
            return Err(source.error(
                domain.span().start,
                format!("{:?} is no domain name; write it as lab.example.org", domain.get_ref()),
            ));
        }
    }
    if subnet.mode != Mode::Full
        && let Some(pool) = subnet.pools.first()
    {
        return Err(source.error(
            pool.span().start,
            "another server gives the addresses of this subnet; leave the pools out, or write mode = \"full\"",
        ));
    }
    check_options(&subnet, network, source)?;
    if !(60..=31_536_000).contains(subnet.lease_seconds.get_ref()) {
        return Err(source.error(
            subnet.lease_seconds.span().start,
            "a lease lasts 60 seconds to a year (31536000 seconds); 43200 is half a day",
        ));
    }
    Ok(crate::Subnet {
        interface: interface.clone(),
        address,
        network,
        pools: subnet.pools.iter().map(|pool| *pool.get_ref()).collect(),
        router: subnet.router.map(Spanned::into_inner),
        dns: subnet.dns,
        domain: subnet.domain.map(Spanned::into_inner),
        mode: subnet.mode,
        lease_seconds: subnet.lease_seconds.into_inner(),
        rapid_commit: subnet.rapid_commit,
        search: subnet.search.into_iter().map(Spanned::into_inner).collect(),
        ntp: subnet.ntp,
        routes: subnet.routes.iter().map(|route| *route.get_ref()).collect(),
        captive_portal: subnet.captive_portal.map(Spanned::into_inner),
        ipv6_only_seconds: subnet.ipv6_only_seconds,
        mtu: subnet.mtu.map(Spanned::into_inner),
        pxelinux_config: subnet.pxelinux_config.map(Spanned::into_inner),
        pxelinux_prefix: subnet.pxelinux_prefix.map(Spanned::into_inner),
        unknown: subnet.unknown.map(Spanned::into_inner).unwrap_or_default(),
    })
}

/// Where the clients are.
fn check_network(subnet: &Subnet, source: &Source<'_>) -> Result<Network, ConfigError> {
    let own = subnet.address.get_ref().network();
    let Some(network) = &subnet.network else { return Ok(own) };
    let behind_relay = *network.get_ref();
    if behind_relay == own {
        return Ok(own);
    }
    let wrong = |message: String| Err(source.error(network.span().start, message));
    if behind_relay.overlaps(own) {
        return wrong(format!("{behind_relay} overlaps {own}, which this server is in itself; leave the key out"));
    }
    if subnet.mode == Mode::Proxy {
        return wrong("relay agents are not heard in proxy mode; let the other server name the boot file, or write mode = \"full\"".into());
    }
    Ok(behind_relay)
}

/// What travels as the value of one option.
fn check_options(subnet: &Subnet, network: Network, source: &Source<'_>) -> Result<(), ConfigError> {
    for text in [&subnet.captive_portal, &subnet.pxelinux_config, &subnet.pxelinux_prefix].into_iter().flatten() {
        let value = text.get_ref();
        if value.is_empty() || value.len() > 255 || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(source.error(
                text.span().start,
                "this is sent as one option of DHCP: 1 to 255 printable ASCII characters without blanks",
            ));
        }
    }
    if let Some(mtu) = &subnet.mtu
        && !(576..=9216).contains(mtu.get_ref())
    {
        return Err(source.error(
            mtu.span().start,
            "a network carries packets of 576 bytes, which IPv4 wants, to 9216, which jumbo frames hold; 1500 is Ethernet's",
        ));
    }
    for route in &subnet.routes {
        let via = route.get_ref().via();
        if !network.contains_host(via) {
            return Err(source.error(
                route.span().start,
                format!("the router {via} is not in the subnet's network, so no client could reach it"),
            ));
        }
    }
    Ok(())
}

/// The addresses of a subnet are kept in memory.
const MOST_ADDRESSES: u64 = 1 << 20;

fn check_pools(
    pools: &[Spanned<AddressRange>],
    network: Network,
    address: InterfaceAddress,
    source: &Source<'_>,
) -> Result<(), ConfigError> {
    let mut addresses = 0;
    for (index, spanned) in pools.iter().enumerate() {
        let pool = *spanned.get_ref();
        addresses += pool.count();
        let wrong = |message: String| Err(source.error(spanned.span().start, message));
        if !network.contains_host(pool.first()) || !network.contains_host(pool.last()) {
            return wrong(format!("the pool {pool} does not lie within the subnet's network {network}"));
        }
        if pool.contains(address.address()) {
            return wrong(format!(
                "the pool {pool} holds the server's own address {}; leave it out",
                address.address()
            ));
        }
        if let Some(other) =
            pools[..index].iter().find(|o| o.get_ref().first() <= pool.last() && pool.first() <= o.get_ref().last())
        {
            return wrong(format!("the pool {pool} overlaps {}; join the two", other.get_ref()));
        }
        if addresses > MOST_ADDRESSES {
            return wrong(format!(
                "with the pool {pool} the subnet has {addresses} addresses to give; {MOST_ADDRESSES} (a /12) are the most, so \
                 make it smaller"
            ));
        }
    }
    Ok(())
}

pub(crate) fn roles(wire: Vec<Role>, source: &Source<'_>) -> Result<Vec<crate::Role>, ConfigError> {
    let mut names = BTreeSet::new();
    let check = |role: Role| {
        let at = role.name.span().start;
        let name = role.name.into_inner();
        if !names.insert(name.clone()) {
            return Err(source.error(at, format!("the role {name} is there already; join the two sections")));
        }
        if *role.menu_generations.get_ref() == 0 {
            return Err(source.error(role.menu_generations.span().start, "a menu shows at least one generation"));
        }
        let title = role.title.unwrap_or_else(|| name.as_str().parse().expect("a role name is a label"));
        Ok(crate::Role {
            name,
            title,
            local_disk: role.local_disk,
            menu_timeout_seconds: role.menu_timeout_seconds,
            menu_generations: role.menu_generations.into_inner(),
            memtest: role.memtest,
            locked: role.locked,
            serial_console: role.serial_console,
            kernel_parameters: role.kernel_parameters,
        })
    };
    wire.into_iter().map(check).collect()
}

/// Every role that a subnet gives to unknown machines must be one of the site's.
pub(crate) fn check_unknown(
    subnets: &[Located<crate::Subnet>],
    roles: &[crate::Role],
    source: &Source<'_>,
) -> Result<(), ConfigError> {
    for subnet in subnets {
        let named = match &subnet.value.unknown {
            Unknown::Nothing => &[],
            Unknown::Role(role) => std::slice::from_ref(role),
            Unknown::Menu(roles) if roles.is_empty() => {
                return Err(
                    source.error(subnet.offset, "a menu of no roles; name some, or write unknown = \"nothing\"")
                );
            }
            Unknown::Menu(roles) => &roles[..],
        };
        if let Some(missing) = named.iter().find(|name| !roles.iter().any(|role| role.name == **name)) {
            return Err(source.error(subnet.offset, no_such_role(missing, roles)));
        }
    }
    Ok(())
}

pub(crate) fn no_such_role(name: &RoleName, roles: &[crate::Role]) -> String {
    let known: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    match known[..] {
        [] => format!("there is no role {name}; add a section [[role]] with name = \"{name}\""),
        _ => format!("there is no role {name}; the roles are {}", known.join(", ")),
    }
}
