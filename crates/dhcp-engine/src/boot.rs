use std::fmt;
use std::net::Ipv4Addr;

use boot_model::{Architecture, Firmware, MacAddr, RoleName};
use dhcproto::v4::OptionCode;

use crate::client::{ClientClass, ClientInfo};
use crate::policy::{BootPolicy, UnknownHosts};
use crate::wire::{Reply, Request};

/// What a client is told to boot, or why nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootVerdict {
    /// It asked for an address only.
    NotAsked,
    /// It was named this file (a TFTP name or a URL; empty where the ROM knows its names itself).
    File {
        /// What asked.
        class: ClientClass,
        /// The name.
        name: String,
    },
    /// It wants to boot, and gets an address only.
    Nothing(NoBootFile),
}

/// Why a client that wants to boot is named no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBootFile {
    /// Its MAC address is no host's, and unknown machines boot nothing here.
    UnknownHost,
    /// No role of the menu has a generation that could be served to this architecture.
    NoGeneration(Architecture),
    /// Its role has none.
    RoleWithoutGeneration(RoleName, Architecture),
    /// It does not say what it is, or is something that NixOS does not run on.
    UnknownArchitecture,
    /// The table of loaders has none for it.
    NoLoader(Firmware),
}

/// One row of the boot answer matrix: what a class of client must be sent beside the file's name.
struct Row {
    class: ClientClass,
    names: Names,
    /// Option 60.
    vendor_class: Option<&'static [u8]>,
    /// Option 43.
    vendor_options: Option<&'static [u8]>,
    /// Option 97, echoed.
    echo_uuid: bool,
    /// Option 66 and `sname`: our address as text.
    server_name: bool,
    /// Option 67 beside `file`. The two always agree: pxelinux prefers `file`, firmware often 67.
    option_67: bool,
}

/// What a row names.
enum Names {
    /// The loader for the firmware, by TFTP.
    Loader,
    /// The loader for the firmware, as a URL.
    LoaderUrl,
    /// The iPXE script, as a URL.
    Script,
    /// Nothing: the ROM knows the names.
    Itself,
}

/// Skip boot server discovery, boot at once: PXE 2.1 discovery control (sub-option 6), bit 3.
const BOOT_AT_ONCE: &[u8] = &[6, 1, 8, 255];

/// What the Raspberry Pi's ROM looks for before it boots: discovery control, menu prompt, and a boot menu with this very text
/// (raspberrypi/documentation, "network boot"; raspberrypi/firmware#801). No pads between: raspberrypi/rpi-eeprom#82.
const RASPBERRY_PI_BOOT: &[u8] = b"\x06\x01\x08\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

/// Sub-option 176 of iPXE's space, set: no proxyDHCP server will answer, do not wait three seconds for one (measured: 3.08 s
/// to 12 ms from DISCOVER to ACK).
const NO_PXEDHCP: &[u8] = &[176, 1, 1];

const ETHERBOOT: u8 = 175;

/// The boot answer matrix of a server that hands out the addresses too.
const FULL_MODE: [Row; 6] = [
    Row {
        class: ClientClass::BiosPxe,
        names: Names::Loader,
        vendor_class: Some(b"PXEClient"),
        vendor_options: Some(BOOT_AT_ONCE),
        echo_uuid: true,
        server_name: true,
        option_67: true,
    },
    Row {
        // Option 60 without 43 makes EDK2 ask port 4011 (PxeBcRetryBinlOffer; FOGProject/fog-docs#188), 43 sends it into its
        // broken menu code (dnsmasq `pxe_uefi_workaround`): neither.
        class: ClientClass::UefiPxe,
        names: Names::Loader,
        vendor_class: None,
        vendor_options: None,
        echo_uuid: false,
        server_name: true,
        option_67: true,
    },
    Row {
        // EDK2 refuses an offer whose option 60 does not begin with HTTPClient (HttpBootParseDhcp4Packet).
        class: ClientClass::UefiHttp,
        names: Names::LoaderUrl,
        vendor_class: Some(b"HTTPClient"),
        vendor_options: None,
        echo_uuid: false,
        server_name: false,
        option_67: true,
    },
    Row {
        class: ClientClass::Ipxe,
        names: Names::Script,
        vendor_class: None,
        vendor_options: None,
        echo_uuid: false,
        server_name: false,
        option_67: true,
    },
    Row {
        class: ClientClass::RaspberryPi,
        names: Names::Itself,
        vendor_class: Some(b"PXEClient"),
        vendor_options: Some(RASPBERRY_PI_BOOT),
        echo_uuid: false,
        server_name: true,
        option_67: false,
    },
    Row {
        // Reads siaddr and `file`; 67 only in some builds (net/bootp.c).
        class: ClientClass::Uboot,
        names: Names::Loader,
        vendor_class: None,
        vendor_options: None,
        echo_uuid: false,
        server_name: false,
        option_67: true,
    },
];

/// What this client boots, by role, generation and loader.
pub(crate) fn decide(
    policy: &BootPolicy,
    unknown: &UnknownHosts,
    server: Ipv4Addr,
    client: &ClientInfo,
) -> BootVerdict {
    let Some(row) = FULL_MODE.iter().find(|row| row.class == client.class) else { return BootVerdict::NotAsked };
    let (Some(firmware), Some(architecture)) = (client.firmware, client.architecture()) else {
        return BootVerdict::Nothing(NoBootFile::UnknownArchitecture);
    };
    if let Err(reason) = servable(policy, unknown, client.mac, architecture) {
        return BootVerdict::Nothing(reason);
    }
    let loader = || policy.loaders.get(&firmware).ok_or(NoBootFile::NoLoader(firmware));
    let base = format_args!("http://{server}:{}", policy.http_port).to_string();
    let name = match row.names {
        Names::Loader => loader().cloned(),
        Names::LoaderUrl => loader().map(|file| format!("{base}/{}", file.trim_start_matches('/'))),
        Names::Script => Ok(format!("{base}/boot.ipxe")),
        Names::Itself => Ok(String::new()),
    };
    match name {
        Ok(name) => BootVerdict::File { class: client.class, name },
        Err(reason) => BootVerdict::Nothing(reason),
    }
}

/// Whether there is a generation for this machine.
fn servable(
    policy: &BootPolicy,
    unknown: &UnknownHosts,
    mac: Option<MacAddr>,
    architecture: Architecture,
) -> Result<(), NoBootFile> {
    let role = match (mac.and_then(|mac| policy.roles.get(&mac)), unknown) {
        (Some(role), _) | (None, UnknownHosts::Role(role)) => role,
        (None, UnknownHosts::Nothing) => return Err(NoBootFile::UnknownHost),
        (None, UnknownHosts::Menu(roles)) => {
            let any = roles.iter().any(|role| policy.servable.contains(&(role.clone(), architecture)));
            return if any { Ok(()) } else { Err(NoBootFile::NoGeneration(architecture)) };
        }
    };
    match policy.servable.contains(&(role.clone(), architecture)) {
        true => Ok(()),
        false => Err(NoBootFile::RoleWithoutGeneration(role.clone(), architecture)),
    }
}

/// Writes the verdict into a reply.
pub(crate) fn add_to(
    reply: &mut Reply,
    verdict: &BootVerdict,
    server: Ipv4Addr,
    request: &Request<'_>,
    client: &ClientInfo,
) {
    if let BootVerdict::File { class, name } = verdict
        && let Some(row) = FULL_MODE.iter().find(|row| row.class == *class)
    {
        add_row(reply, row, name, server, request);
    }
    // Also without a file: the wait is as long for a client that ends at its own prompt.
    if client.class == ClientClass::Ipxe {
        reply.raw_option(ETHERBOOT, NO_PXEDHCP);
    }
}

fn add_row(reply: &mut Reply, row: &Row, name: &str, server: Ipv4Addr, request: &Request<'_>) {
    let server_name = server.to_string();
    reply.siaddr(server);
    reply.file(name);
    if let Some(options) = row.vendor_options {
        reply.raw_option(OptionCode::VendorExtensions, options);
    }
    if let Some(class) = row.vendor_class {
        reply.raw_option(OptionCode::ClassIdentifier, class);
    }
    if row.echo_uuid
        && let Some(uuid) = request.options.raw(OptionCode::ClientMachineIdentifier)
    {
        reply.raw_option(OptionCode::ClientMachineIdentifier, uuid);
    }
    if row.server_name {
        reply.sname(&server_name);
        // No NUL here: suspected of confusing the Raspberry Pi 3 (raspberrypi/firmware#871).
        reply.raw_option(OptionCode::TFTPServerName, server_name.as_bytes());
    }
    if row.option_67 {
        // The NUL counts as part of the value. Without it old Intel ROMs ask for `name\xFF` (netboot.xyz#1198) and EDK2 writes a
        // NUL of its own over the next option's code (PxeBcDhcp4.c). OVMF's HTTP boot and iPXE accept it.
        reply.raw_option(OptionCode::BootfileName, &[name.as_bytes(), b"\0"].concat());
    }
}

impl fmt::Display for BootVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("no boot asked for"),
            Self::File { class, name } if name.is_empty() => write!(f, "{class} boots the names it knows"),
            Self::File { class, name } => write!(f, "{class} boots {name}"),
            Self::Nothing(reason) => write!(f, "no boot file: {reason}"),
        }
    }
}

impl fmt::Display for NoBootFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost => f.write_str("this MAC address is no host's, and unknown machines boot nothing here"),
            Self::NoGeneration(architecture) => {
                write!(f, "no role of the menu has a generation for {architecture} that can be served")
            }
            Self::RoleWithoutGeneration(role, architecture) => {
                write!(f, "role {role} has no generation for {architecture} that can be served")
            }
            Self::UnknownArchitecture => f.write_str("the client names no architecture that NixOS runs on (option 93)"),
            Self::NoLoader(firmware) => write!(f, "there is no loader for {firmware}"),
        }
    }
}
