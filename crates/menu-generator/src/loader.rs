use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

use boot_model::{Architecture, CommandLine, MacAddr};
use generations::Layout;

use crate::{Menu, ipxe, pxelinux};

/// A boot loader that menus are rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// PXELINUX 6.04 and its HTTP-speaking twin lpxelinux, on PC BIOS.
    Pxelinux,
    /// iPXE from 1.0.0 (2019) on, on any firmware.
    Ipxe,
}

impl Loader {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Pxelinux, Self::Ipxe];

    /// Where this loader's menu lies within a set.
    pub fn file(self, server: Ipv4Addr, host: Option<MacAddr>) -> PathBuf {
        match self {
            Self::Pxelinux => Layout::pxelinux_menu(server, host),
            Self::Ipxe => Layout::ipxe_menu(server, host),
        }
    }

    /// The architectures whose kernels it starts, the preferred one first.
    pub(crate) const fn architectures(self) -> &'static [Architecture] {
        match self {
            Self::Pxelinux => &[Architecture::X86_64],
            Self::Ipxe => &[Architecture::X86_64, Architecture::Aarch64],
        }
    }

    /// Why this loader would not hand the command line over as it stands, if so.
    pub(crate) fn misreads(self, command_line: &CommandLine) -> Option<String> {
        match self {
            // The value of APPEND is the rest of its line, whatever stands there (syslinux com32/menu/readconfig.c); a
            // CommandLine is printable, begins with a word, ends with one, and is half as long as a line may be.
            Self::Pxelinux => None,
            Self::Ipxe => ipxe::misread(command_line.as_str()),
        }
    }

    /// The menu's file.
    pub(crate) fn render(self, menu: &Menu, server: SocketAddrV4) -> String {
        match self {
            Self::Pxelinux => pxelinux::render(menu),
            Self::Ipxe => ipxe::render(menu, server),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pxelinux => "pxelinux",
            Self::Ipxe => "ipxe",
        }
    }
}

impl FromStr for Loader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|loader| loader.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no loader; write pxelinux or ipxe"))
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
