use std::fmt;

use boot_model::{Architecture, Firmware, MacAddr};
use dhcproto::v4::OptionCode;

use crate::wire::Request;

/// What a client says of itself, worked out once per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// What asks.
    pub class: ClientClass,
    /// What runs the loader, if option 93 or the vendor class names one that we know.
    pub firmware: Option<Firmware>,
}

/// What asks, as far as the answer depends on it: one row of the boot answer matrix each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientClass {
    /// iPXE, in a ROM or chainloaded.
    Ipxe,
    /// A Raspberry Pi's own boot ROM.
    RaspberryPi,
    /// UEFI HTTP boot.
    UefiHttp,
    /// A PC BIOS's PXE ROM.
    BiosPxe,
    /// UEFI's own PXE.
    UefiPxe,
    /// U-Boot.
    Uboot,
    /// No firmware: a running system or whatever else wants an address.
    Plain,
}

/// Vendor parts of Raspberry Pi boards' addresses. Their ROM calls itself an x86 BIOS (93 = 0), so this is asked first
/// (tinkerbell/smee `isRaspberryPI`; a ROM's log in raspberrypi/rpi-eeprom#720).
const RASPBERRY_PI_OUIS: [[u8; 3]; 6] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
];

/// iPXE's own option space, which no other client is known to send.
const ETHERBOOT: u8 = 175;

impl ClientInfo {
    /// Reads options 60, 77, 93 and 175 and the hardware address.
    pub fn of(request: &Request<'_>) -> Self {
        let mac = request.mac();
        let vendor_class = request.options.raw(OptionCode::ClassIdentifier).unwrap_or_default();
        let architectures = request.options.raw(OptionCode::ClientSystemArchitecture);
        let firmware = firmware(architectures, vendor_class);
        let pxe = vendor_class.starts_with(b"PXEClient");
        let raspberry = mac.is_some_and(|mac| RASPBERRY_PI_OUIS.contains(&mac.oui()));

        if is_ipxe(request) {
            return Self { mac, class: ClientClass::Ipxe, firmware: firmware.or(Some(Firmware::Bios)) };
        }
        if firmware == Some(Firmware::RaspberryPi) || (raspberry && (pxe || architectures.is_some())) {
            return Self { mac, class: ClientClass::RaspberryPi, firmware: Some(Firmware::RaspberryPi) };
        }
        if vendor_class.starts_with(b"HTTPClient") {
            return Self { mac, class: ClientClass::UefiHttp, firmware };
        }
        if vendor_class.starts_with(b"U-Boot") || firmware == Some(Firmware::UbootArm64) {
            let firmware = if vendor_class == b"U-Boot.armv8" { Some(Firmware::UbootArm64) } else { firmware };
            return Self { mac, class: ClientClass::Uboot, firmware };
        }
        if !pxe {
            return Self { mac, class: ClientClass::Plain, firmware };
        }
        match firmware {
            Some(Firmware::Bios) => Self { mac, class: ClientClass::BiosPxe, firmware },
            // ROMs older than RFC 4578 say PXEClient and nothing else; they are all BIOS.
            None if architectures.is_none() => {
                Self { mac, class: ClientClass::BiosPxe, firmware: Some(Firmware::Bios) }
            }
            _ => Self { mac, class: ClientClass::UefiPxe, firmware },
        }
    }

    /// What its kernel must be built for, if NixOS has that.
    pub fn architecture(&self) -> Option<Architecture> {
        self.firmware?.architecture()
    }
}

/// The first entry of option 93 that we know; a list may begin with one that we don't. FF FF, which U-Boot sends when it was
/// built without an architecture, counts as not given. Some relays strip 93, so the vendor class is asked next.
fn firmware(architectures: Option<&[u8]>, vendor_class: &[u8]) -> Option<Firmware> {
    let listed = architectures.unwrap_or_default().chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    listed.filter_map(firmware_numbered).next().or_else(|| {
        let digits = vendor_class.strip_prefix(b"PXEClient:Arch:").or(vendor_class.strip_prefix(b"HTTPClient:Arch:"))?;
        firmware_numbered(std::str::from_utf8(digits.get(..5)?).ok()?.parse().ok()?)
    })
}

/// IANA's processor architecture types, as firmware uses them.
fn firmware_numbered(number: u16) -> Option<Firmware> {
    match number {
        0 => Some(Firmware::Bios),
        6 => Some(Firmware::UefiIa32),
        // RFC 4578 swapped x64 and EBC; both numbers are in use for x64 (its erratum, and dnsmasq since 2.76).
        7 | 9 => Some(Firmware::UefiX64),
        10 => Some(Firmware::UefiArm32),
        11 => Some(Firmware::UefiArm64),
        15 => Some(Firmware::HttpIa32),
        16 => Some(Firmware::HttpX64),
        19 => Some(Firmware::HttpArm64),
        22 => Some(Firmware::UbootArm64),
        41 => Some(Firmware::RaspberryPi),
        _ => None,
    }
}

/// iPXE puts its name into option 77 raw, other builds frame it as RFC 3004 says; its features travel in option 175.
fn is_ipxe(request: &Request<'_>) -> bool {
    let user_class = request.options.raw(OptionCode::UserClass).unwrap_or_default();
    user_class == b"iPXE" || user_class.windows(5).any(|w| w == b"\x04iPXE") || request.options.raw(ETHERBOOT).is_some()
}

impl fmt::Display for ClientClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipxe => "ipxe",
            Self::RaspberryPi => "raspberry-pi",
            Self::UefiHttp => "uefi-http",
            Self::BiosPxe => "bios-pxe",
            Self::UefiPxe => "uefi-pxe",
            Self::Uboot => "u-boot",
            Self::Plain => "plain",
        })
    }
}
