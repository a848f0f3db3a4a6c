use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;

use boot_model::{Architecture, Firmware, HostName, MacAddr, RoleName};
use thiserror::Error;

use crate::class::Class;

/// All that the engine is told about its site. Plain data: the shell builds it from the configuration and the generations.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The networks that we know. Where an interface has several, the first that is not [`Mode::Off`] is for clients that nothing
    /// else places.
    pub subnets: Vec<Subnet>,
    /// What tells two clients apart.
    pub identity: Identity,
    /// What there is to boot.
    pub boot: BootPolicy,
    /// Whether the network is asked about an address before it is offered to a client that has not had it.
    pub probe: bool,
}

/// One network and what its clients are given.
#[derive(Debug, Clone)]
pub struct Subnet {
    /// The interface that its clients are on. Clients behind a relay are placed by the relay's address instead.
    pub interface: String,
    /// Our own address, as these clients reach it: server identifier, TFTP server, host of the URLs.
    pub server: Ipv4Addr,
    /// The network. Without our address in it all its clients are behind a relay.
    pub network: Ipv4Network,
    /// Addresses for clients without a reservation. Ours, the routers' and the reserved ones are left out by themselves.
    pub pools: Vec<AddressRange>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 51, in seconds.
    pub lease_seconds: u32,
    /// The hosts known here.
    pub hosts: BTreeMap<MacAddr, Host>,
    /// What a MAC address that is no host's boots.
    pub unknown: UnknownHosts,
    /// Whether a client that claims an address we have no record of is told that it is wrong. Off, it is met with silence, as
    /// RFC 2131 §4.3.2 asks for where another server may serve the same network.
    pub authoritative: bool,
    /// Who gives the addresses.
    pub mode: Mode,
    /// What clients are told beyond address, routers and names.
    pub options: SubnetOptions,
}

/// Who gives the addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// We do.
    #[default]
    Full,
    /// Another server does. We only add what to boot: ProxyDHCP of PXE 2.1 §2.2.3. Leases, pools and reservations mean nothing
    /// here.
    Proxy,
    /// Another server does, and says what to boot. It is known so that its clients are met with silence and not taken for strays in
    /// another network of their wire.
    Off,
}

/// What clients of a network are told beyond address, routers and names. Each option goes only to a client that asks for it
/// (option 55), unless said otherwise: what a ROM does not know only takes room from what it needs.
#[derive(Debug, Clone, Default)]
pub struct SubnetOptions {
    /// Option 119 (RFC 3397).
    pub search: Vec<String>,
    /// Option 42.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 121 (RFC 3442), and 249 for those who ask for that. Whoever reads it ignores option 3, so the first router stands
    /// in it as the default route.
    pub routes: Vec<Route>,
    /// Option 114 (RFC 8910): the URL of the API.
    pub captive_portal: Option<String>,
    /// Option 108 (RFC 8925): for how many seconds a client that can do without IPv4 stays without.
    pub ipv6_only_seconds: Option<u32>,
    /// Option 26 (RFC 2132 §5.1), in bytes with the IP header.
    pub mtu: Option<u16>,
    /// Option 209 (RFC 5071), to PXE ROMs unasked: the one configuration file that pxelinux reads instead of searching.
    pub pxelinux_config: Option<String>,
    /// Option 210 (RFC 5071), to PXE ROMs unasked: what pxelinux puts before every name.
    pub pxelinux_prefix: Option<String>,
    /// Whether a DISCOVER with option 80 is answered with an ACK (RFC 4039). With two servers in a network both would commit.
    pub rapid_commit: bool,
}

/// One route of option 121.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: Ipv4Network,
    /// By which router.
    pub via: Ipv4Addr,
}

/// What is known of one host by its MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// The address kept for it. Without one it gets an address of the pools.
    pub address: Option<Ipv4Addr>,
    /// Option 12.
    pub name: Option<HostName>,
}

/// What tells two clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// The MAC address. One machine then keeps one address from firmware to running system, whose client identifiers differ
    /// (OVMF sends none, iPXE 01+MAC, a stateless system a new DUID each boot: coreos/bugs#1432).
    #[default]
    Mac,
    /// Option 61 where sent (RFC 2131 §4.2), else the MAC address.
    ClientId,
}

/// What a MAC address that is no host's boots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UnknownHosts {
    /// The generations of this role.
    Role(RoleName),
    /// A menu lets the user choose among these roles.
    Menu(Vec<RoleName>),
    /// Nothing: it gets an address only.
    #[default]
    Nothing,
}

/// What there is to boot. Replaced whole when generations or hosts change.
#[derive(Debug, Clone, Default)]
pub struct BootPolicy {
    /// For which roles, on which architecture, a generation is published that can be served.
    pub servable: BTreeSet<(RoleName, Architecture)>,
    /// The roles of hosts.
    pub roles: HashMap<MacAddr, RoleName>,
    /// The loader for each firmware: a name that our TFTP server serves, or for UEFI HTTP boot a path under our HTTP server.
    pub loaders: BTreeMap<Firmware, String>,
    /// Machines that boot otherwise; the first class that fits counts.
    pub classes: Vec<Class>,
    /// The port of our HTTP server.
    pub http_port: u16,
}

/// A network in CIDR notation, without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Network {
    address: Ipv4Addr,
    prefix: u8,
}

/// Addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// The numbers make no network or range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidNetwork {
    /// A prefix is at most 32 long.
    #[error("a prefix length is at most 32, not {0}")]
    Prefix(u8),
    /// The range runs backwards.
    #[error("the range ends at {last}, below its start {first}")]
    Backwards {
        /// Its start.
        first: Ipv4Addr,
        /// Its end.
        last: Ipv4Addr,
    },
    /// The table of one network is kept in memory, so its pools are bounded.
    #[error("the range has {0} addresses, at most {MAX_RANGE} can be served")]
    TooMany(u64),
}

/// The most addresses of one range: a /12.
const MAX_RANGE: u64 = 1 << 20;

impl Ipv4Network {
    /// The network that `address` is in, with a prefix of this length.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, InvalidNetwork> {
        if prefix > 32 {
            return Err(InvalidNetwork::Prefix(prefix));
        }
        Ok(Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix })
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.address.to_bits()
    }

    /// Option 1.
    pub fn netmask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// Option 28.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix))
    }

    /// The address of the network itself.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The length of its prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether a single machine may have this address.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let edge = self.prefix < 31 && (address == self.address || address == self.broadcast());
        self.contains(address) && !edge
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl AddressRange {
    /// The range from `first` to `last`.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, InvalidNetwork> {
        let count = u64::from(last.to_bits()) + 1;
        let Some(count) = count.checked_sub(first.to_bits().into()).filter(|&n| n > 0) else {
            return Err(InvalidNetwork::Backwards { first, last });
        };
        if count > MAX_RANGE { Err(InvalidNetwork::TooMany(count)) } else { Ok(Self { first, last }) }
    }

    /// How many addresses it has.
    pub fn count(&self) -> u32 {
        self.last.to_bits() - self.first.to_bits() + 1
    }

    /// The address at this place, counted from the first.
    pub fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() + n)
    }

    /// The place of this address, if it is in the range.
    pub fn position(&self, address: Ipv4Addr) -> Option<u32> {
        (self.first..=self.last).contains(&address).then(|| address.to_bits() - self.first.to_bits())
    }
}

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
