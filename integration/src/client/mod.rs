//! Clients: virtual machines with real boot ROMs; and their agent alone, where that is all that is asked.

mod agent;
mod flash;
mod line;
mod machine;
mod monitor;

use std::path::PathBuf;

pub use agent::{Agent, Ended};
pub use machine::Machine;

use crate::relay::Rules;

/// A machine to be built. Everything is emulated (`accel=tcg`): where KVM opens it may still be unable to run firmware.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its name in the log.
    pub name: String,
    /// Last byte of its MAC address 52:54:00:77:00:xx, and the number of its tap.
    pub number: u8,
    /// The firmware's view of the network.
    pub firmware: Firmware,
    /// The network card, whose boot ROM does the PXE.
    pub card: Card,
    /// The cable, if it is not an ideal one.
    pub cable: Rules,
    /// Memory in MiB.
    pub memory: u32,
    /// The Unix socket of an NBD server with the disk; without one the machine has no disk.
    pub disk: Option<PathBuf>,
    /// Has a screen, and then the firmware and the menu are there and not on the serial console.
    pub screen: bool,
    /// Has a third serial line, `ttyS2`, which its firmware leaves alone: see [`Machine::type_on_line`].
    pub line: bool,
}

/// What a client's disk says of itself: a consent to erase is for one disk.
pub const DISK_SERIAL: &str = "rookery-lab-disk";

/// What a client tells a DHCP server about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with QEMU's ROM, which is iPXE and says so.
    Ipxe,
    /// The same with options 77 and 175 taken off the wire: a plain BIOS PXE client, which gets `lpxelinux.0`.
    PlainPxe,
    /// OVMF with the PXE of edk2.
    Uefi,
    /// The same with PXE switched off, which leaves HTTP boot.
    UefiHttp,
    /// OVMF with Secure Boot and Microsoft's keys, as PCs are sold.
    SecureBoot,
    /// AAVMF with the PXE of edk2, on 64-bit Arm.
    UefiArm64,
}

/// Network cards with a boot ROM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "these are the names of the cards")]
pub enum Card {
    Virtio,
    E1000,
    E1000e,
    Rtl8139,
}

/// The options by which a server knows iPXE: user class, and its own encapsulated ones.
const IPXE_OPTIONS: [u8; 2] = [77, 175];

impl Client {
    /// A client with 1 GiB, a virtio card, no disk and no screen.
    pub fn new(name: &str, number: u8, firmware: Firmware) -> Self {
        Self {
            name: name.to_owned(),
            number,
            firmware,
            card: Card::Virtio,
            cable: Rules::default(),
            memory: 1024,
            disk: None,
            screen: false,
            line: false,
        }
    }

    /// Its hardware address.
    pub fn mac(&self) -> String {
        format!("52:54:00:77:00:{:02x}", self.number)
    }

    /// Rules of the cable with what the firmware's kind demands; none if a plain tap will do.
    fn rules(&self) -> Option<Rules> {
        let mut rules = self.cable.clone();
        if self.firmware == Firmware::PlainPxe {
            rules.strip.extend(IPXE_OPTIONS);
        }
        let ideal = rules.strip.is_empty() && rules.loss == 0.0 && rules.duplication == 0.0;
        (!ideal).then_some(rules)
    }

    /// Whether it is a PC with BIOS.
    fn is_bios(&self) -> bool {
        matches!(self.firmware, Firmware::Ipxe | Firmware::PlainPxe)
    }

    /// The name in the log of what comes out of its third serial line.
    pub fn line_name(&self) -> String {
        format!("{}-ttyS2", self.name)
    }

    /// The place in the lab that its cable ends in.
    pub fn tap(&self) -> String {
        format!("tap{}", self.number)
    }
}

impl Card {
    const fn device(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net-pci",
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Rtl8139 => "rtl8139",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_needs_it_gets_a_relay() {
        assert!(Client::new("a", 1, Firmware::Ipxe).rules().is_none());
        assert_eq!(Client::new("a", 1, Firmware::PlainPxe).rules().unwrap().strip, IPXE_OPTIONS);
        let mut lossy = Client::new("a", 1, Firmware::Ipxe);
        lossy.cable.loss = 1.0;
        assert!(lossy.rules().unwrap().strip.is_empty());
    }
}
