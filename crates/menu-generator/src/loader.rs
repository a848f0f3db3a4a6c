use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

use boot_model::{Architecture, CommandLine, MacAddr};
use generations::Layout;

use crate::{Menu, grub, ipxe, pxelinux};

/// A boot loader that menus are rendered for, with the kernels that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// PXELINUX 6.04 and its HTTP-speaking twin lpxelinux, on PC BIOS.
    Pxelinux,
    /// syslinux.efi 6.04, on 64-bit and 32-bit UEFI.
    SyslinuxEfi,
    /// iPXE from 1.0.0 (2019) on, on any firmware of a PC.
    Ipxe,
    /// The same on 64-bit Arm.
    IpxeArm64,
    /// GRUB 2.06 as Debian signs it, on UEFI.
    Grub,
    /// The same on 64-bit Arm.
    GrubArm64,
}

impl Loader {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pxelinux, Self::SyslinuxEfi, Self::Ipxe, Self::IpxeArm64, Self::Grub, Self::GrubArm64];

    /// Where this loader's menu lies within a set.
    pub fn file(self, server: Ipv4Addr, host: Option<MacAddr>) -> PathBuf {
        match self {
            Self::Pxelinux => Layout::pxelinux_menu(server, host),
            Self::SyslinuxEfi => Layout::syslinux_efi_menu(server, host),
            Self::Ipxe | Self::IpxeArm64 => Layout::ipxe_menu(server, self.architecture(), host),
            Self::Grub | Self::GrubArm64 => Layout::grub_menu(server, self.architecture(), host),
        }
    }

    /// The architecture whose kernels it starts.
    pub(crate) const fn architecture(self) -> Architecture {
        match self {
            Self::Pxelinux | Self::SyslinuxEfi | Self::Ipxe | Self::Grub => Architecture::X86_64,
            Self::IpxeArm64 | Self::GrubArm64 => Architecture::Aarch64,
        }
    }

    /// Why this loader would not hand the command line over as it stands, if so.
    pub(crate) fn misreads(self, command_line: &CommandLine) -> Option<String> {
        match self {
            // The value of APPEND is the rest of its line, whatever stands there (syslinux com32/menu/readconfig.c); a
            // CommandLine is printable, begins with a word, ends with one, and is half as long as a line may be.
            Self::Pxelinux | Self::SyslinuxEfi => None,
            Self::Ipxe | Self::IpxeArm64 => ipxe::misread(command_line.as_str()),
            Self::Grub | Self::GrubArm64 => grub::misread(command_line.as_str()),
        }
    }

    /// The menu's file.
    pub(crate) fn render(self, menu: &Menu, server: SocketAddrV4) -> String {
        match self {
            Self::Pxelinux => pxelinux::render(menu, server, pxelinux::Program::Pxelinux),
            Self::SyslinuxEfi => pxelinux::render(menu, server, pxelinux::Program::SyslinuxEfi),
            Self::Ipxe => ipxe::render(menu, server, "boot.ipxe"),
            Self::IpxeArm64 => ipxe::render(menu, server, "boot-arm64.ipxe"),
            Self::Grub | Self::GrubArm64 => grub::render(menu, *server.ip(), self.architecture()),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pxelinux => "pxelinux",
            Self::SyslinuxEfi => "syslinux-efi",
            Self::Ipxe => "ipxe",
            Self::IpxeArm64 => "ipxe-arm64",
            Self::Grub => "grub",
            Self::GrubArm64 => "grub-arm64",
        }
    }
}

impl FromStr for Loader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|loader| loader.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no loader; write one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
