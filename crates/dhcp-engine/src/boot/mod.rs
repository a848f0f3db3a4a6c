mod matrix;

use std::fmt;
use std::net::Ipv4Addr;

use boot_model::{Architecture, Firmware, MacAddr, RoleName};
use dhcproto::v4::OptionCode;

use matrix::{Cell, Names};

use crate::class::{Class, ClassBoot};
use crate::client::{ClientClass, ClientInfo};
use crate::policy::{BootPolicy, UnknownHosts};
use crate::wire::{Reply, Request};

pub(crate) use matrix::Part;

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
    /// It is of the class with this name, which boots nothing.
    Class(String),
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

const ETHERBOOT: u8 = 175;

/// What this client boots, by role, generation and loader.
pub(crate) fn decide(
    policy: &BootPolicy,
    class: Option<&Class>,
    unknown: &UnknownHosts,
    server: Ipv4Addr,
    client: &ClientInfo,
) -> BootVerdict {
    let Some(row) = matrix::row(client.class) else { return BootVerdict::NotAsked };
    let own_loader = match class.map(|class| (&class.boot, &class.name)) {
        Some((ClassBoot::Nothing, name)) => return BootVerdict::Nothing(NoBootFile::Class(name.clone())),
        Some((ClassBoot::Loader(file), _)) => Some(file),
        None => None,
    };
    let (Some(firmware), Some(architecture)) = (client.firmware, client.architecture()) else {
        return BootVerdict::Nothing(NoBootFile::UnknownArchitecture);
    };
    if let Err(reason) = servable(policy, unknown, client.mac, architecture) {
        return BootVerdict::Nothing(reason);
    }
    let loader = || own_loader.or_else(|| policy.loaders.get(&firmware)).ok_or(NoBootFile::NoLoader(firmware));
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

/// Whether a client of this kind is answered in this part at all.
pub(crate) fn is_answered(class: ClientClass, part: Part) -> bool {
    matrix::cell(class, part).is_some()
}

/// Writes the verdict into a reply.
pub(crate) fn add_to(
    reply: &mut Reply,
    part: Part,
    verdict: &BootVerdict,
    server: Ipv4Addr,
    request: &Request<'_>,
    client: &ClientInfo,
) {
    let Some(cell) = matrix::cell(client.class, part) else { return };
    if let BootVerdict::File { name, .. } = verdict {
        add_cell(reply, cell, name, server, request);
    }
    // Also without a file: the wait is as long for a client that ends at its own prompt.
    if let Some(options) = cell.etherboot {
        reply.raw_option(ETHERBOOT, options);
    }
}

fn add_cell(reply: &mut Reply, cell: &Cell, name: &str, server: Ipv4Addr, request: &Request<'_>) {
    let server_name = server.to_string();
    reply.siaddr(server);
    if let Some(options) = cell.vendor_options {
        reply.raw_option(OptionCode::VendorExtensions, options);
    }
    if let Some(class) = cell.vendor_class {
        reply.raw_option(OptionCode::ClassIdentifier, class);
    }
    if cell.echo_uuid
        && let Some(uuid) = request.options.raw(OptionCode::ClientMachineIdentifier)
    {
        reply.raw_option(OptionCode::ClientMachineIdentifier, uuid);
    }
    if cell.server_name {
        reply.sname(&server_name);
        // No NUL here: suspected of confusing the Raspberry Pi 3 (raspberrypi/firmware#871).
        reply.raw_option(OptionCode::TFTPServerName, server_name.as_bytes());
    }
    if cell.file {
        reply.file(name);
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
            Self::Class(name) => write!(f, "machines of class {name} boot nothing"),
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
