use std::net::Ipv4Addr;
use std::path::PathBuf;

use boot_model::{KernelParameter, Label, RoleName};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::{AddressRange, InterfaceAddress, Network, Route, SerialConsole};

/// A network that clients boot from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Subnet {
    /// The network card (or bridge) that it is reached by.
    pub interface: String,
    /// This server's address on that card; menus name it as the server.
    pub address: InterfaceAddress,
    /// Where the clients are: the network of `address`, or one behind a relay agent, which `address` is not in.
    pub network: Network,
    /// Who gives the addresses there.
    pub mode: Mode,
    /// What may be given to machines without an address of their own.
    pub pools: Vec<AddressRange>,
    /// The way out of the network, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// Name servers, in order.
    pub dns: Vec<Ipv4Addr>,
    /// The domain that clients search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// How long an address is promised, in seconds.
    pub lease_seconds: u32,
    /// Whether a client may skip offer and request (RFC 4039).
    pub rapid_commit: bool,
    /// The domains that clients search, in order.
    pub search: Vec<String>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Ways to other networks besides the router's.
    pub routes: Vec<Route>,
    /// Where a captive portal is asked (RFC 8910).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captive_portal: Option<String>,
    /// How long clients that can do without IPv4 stay without, in seconds (RFC 8925).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_only_seconds: Option<u32>,
    /// The largest packet that the network carries, in bytes with the IP header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The one configuration file that pxelinux reads instead of searching (RFC 5071).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pxelinux_config: Option<String>,
    /// What pxelinux puts before every name (RFC 5071).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pxelinux_prefix: Option<String>,
    /// What a machine gets to boot that no host entry names.
    pub unknown: Unknown,
}

/// Who gives the addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// This server.
    #[default]
    Full,
    /// Another DHCP server; this one adds what to boot.
    Proxy,
    /// Another DHCP server, which says what to boot too. TFTP and HTTP are served all the same.
    Off,
}

/// What a machine gets to boot that no host entry names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// An address, and no boot file: another department's machine is left alone.
    #[default]
    Nothing,
    /// That role's menu.
    Role(RoleName),
    /// A menu of roles to choose from.
    Menu(Vec<RoleName>),
}

/// A kind of machines.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Role {
    /// Its name, which its folder, its URLs and its profile carry.
    pub name: RoleName,
    /// The menu's heading.
    pub title: Label,
    /// Whether the menu offers to start from the local disk.
    pub local_disk: bool,
    /// Seconds until the menu boots its default entry; 0 waits for a key.
    pub menu_timeout_seconds: u16,
    /// How many of the newest generations the menu shows; the default is always among them.
    pub menu_generations: u16,
    /// Whether the menu offers to test the memory, where that program is installed.
    pub memtest: bool,
    /// Whether the menu offers the default alone, and no loader lets command lines be edited.
    pub locked: bool,
    /// The serial line that loaders use besides the screen, and the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_console: Option<SerialConsole>,
    /// What the kernel is told besides the generation's own parameters, behind them.
    pub kernel_parameters: Vec<KernelParameter>,
}

/// How generations are made servable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Publish {
    /// The site's secret key, in the format of `nix-store --generate-binary-cache-key`. It is read only by who publishes.
    pub secret_key_file: PathBuf,
    /// Keys, besides the one above, whose signatures `verify` accepts.
    pub trusted_public_keys: Vec<String>,
    /// The level of zstd, 1 to 19: higher takes longer to publish and makes smaller packs.
    #[serde(deserialize_with = "within::<_, _, 1, 19>")]
    pub compression_level: u8,
}

/// The DHCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Dhcpd {
    /// What a lease belongs to.
    pub lease_identity: LeaseIdentity,
    /// Whether this server may tell a client that the address it remembers is wrong although it knows nothing of it.
    pub authoritative: bool,
    /// For how long the network is asked whether somebody uses an address before that is offered to a client that has not had
    /// it. 0 asks nobody.
    #[serde(deserialize_with = "within::<_, _, 0, 900>")]
    pub probe_milliseconds: u16,
}

/// What a lease belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseIdentity {
    /// The card: firmware, loader, initrd and system of one machine get one address.
    #[default]
    Mac,
    /// Option 61 where the client sends one: each of those may get an address of its own.
    ClientId,
}

/// The TFTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Tftpd {
    /// The UDP port that requests come to.
    pub port: u16,
    /// Transfers at once, all clients together; more are not answered until one ends.
    #[serde(deserialize_with = "within::<_, _, 1, 65_535>")]
    pub max_transfers: u16,
    /// Transfers at once that one client may have.
    #[serde(deserialize_with = "within::<_, _, 1, 65_535>")]
    pub max_transfers_per_client: u16,
    /// The largest window (RFC 7440) that is granted, in blocks.
    #[serde(deserialize_with = "within::<_, _, 1, 65_535>")]
    pub max_window: u16,
    /// The largest block (RFC 2348) that is granted, in bytes; it should fit the network's MTU less 32.
    #[serde(deserialize_with = "within::<_, _, 512, 65_464>")]
    pub max_block_size: u16,
    /// Who may ask besides the machines of the subnets.
    pub further_clients: Vec<AddressRange>,
}

/// The HTTP server of boot files, menus, packs and reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NarCache {
    /// The TCP port; menus and boot file names carry it.
    pub port: u16,
    /// Connections at once; more wait to be accepted.
    #[serde(deserialize_with = "within::<_, _, 1, 65_535>")]
    pub max_connections: u16,
    /// Clients that are sent packs, bundles and boot files of more than 256 KiB at once; more wait for their turn.
    #[serde(deserialize_with = "within::<_, _, 1, 65_535>")]
    pub bulk_clients: u16,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            secret_key_file: "/etc/rookery/secret-key".into(),
            trusted_public_keys: Vec::new(),
            compression_level: 3,
        }
    }
}

impl Default for Dhcpd {
    fn default() -> Self {
        Self { lease_identity: LeaseIdentity::Mac, authoritative: true, probe_milliseconds: 200 }
    }
}

impl Default for Tftpd {
    fn default() -> Self {
        Self {
            port: 69,
            max_transfers: 1000,
            max_transfers_per_client: 8,
            max_window: 64,
            max_block_size: 1468,
            further_clients: Vec::new(),
        }
    }
}

impl Default for NarCache {
    fn default() -> Self {
        Self { port: 8080, max_connections: 1024, bulk_clients: 8 }
    }
}

/// A number from `LOW` to `HIGH`, refused where it stands.
fn within<'de, D, T, const LOW: u64, const HIGH: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = u64::deserialize(deserializer)?;
    let fits = Some(number).filter(|number| (LOW..=HIGH).contains(number)).and_then(|number| T::try_from(number).ok());
    fits.ok_or_else(|| D::Error::custom(format!("{number} is out of range; write a number from {LOW} to {HIGH}")))
}
