//! Which loader each firmware can start, of which files it is made, and in which of Debian's packages they are.

use std::fmt;

use boot_model::Firmware;

/// The files of one loader: with one of them missing it starts and then fails.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) packages: &'static str,
    pub(crate) files: &'static [File],
}

/// One file: where it is served, and where Debian's package puts it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) debian: &'static str,
}

/// A loader that a firmware starts. The first one of a firmware that is installed is its own unless the administrator says otherwise.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) firmware: Firmware,
    /// The word for the command line.
    pub(crate) loader: &'static str,
    pub(crate) file: &'static str,
}

/// What a program runs on, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// No EFI program.
    Bios,
    /// An EFI program, by the machine type of its PE header.
    Efi(u16),
}

const fn file(name: &'static str, debian: &'static str) -> File {
    File { name, debian }
}

/// menu.c32 and vesamenu.c32 need the two libraries, and all of them are of one build with the loader.
pub(crate) const PXELINUX: Set = Set {
    name: "pxelinux",
    packages: "pxelinux and syslinux-common",
    files: &[
        file("lpxelinux.0", "usr/lib/PXELINUX/lpxelinux.0"),
        file("ldlinux.c32", "usr/lib/syslinux/modules/bios/ldlinux.c32"),
        file("menu.c32", "usr/lib/syslinux/modules/bios/menu.c32"),
        file("vesamenu.c32", "usr/lib/syslinux/modules/bios/vesamenu.c32"),
        file("libutil.c32", "usr/lib/syslinux/modules/bios/libutil.c32"),
        file("libcom32.c32", "usr/lib/syslinux/modules/bios/libcom32.c32"),
    ],
};

const IPXE_BIOS: Set =
    Set { name: "iPXE for BIOS", packages: "ipxe", files: &[file("undionly.kpxe", "usr/lib/ipxe/undionly.kpxe")] };

const SNPONLY: Set =
    Set { name: "iPXE for UEFI", packages: "ipxe", files: &[file("snponly.efi", "usr/lib/ipxe/snponly.efi")] };

const IPXE_DRIVERS: Set = Set {
    name: "iPXE for UEFI with drivers of its own",
    packages: "ipxe",
    files: &[file("ipxe.efi", "usr/lib/ipxe/ipxe.efi")],
};

const SYSLINUX_64: Set = Set {
    name: "syslinux.efi",
    packages: "syslinux-efi and syslinux-common",
    files: &[
        file("efi64/syslinux.efi", "usr/lib/SYSLINUX.EFI/efi64/syslinux.efi"),
        file("efi64/ldlinux.e64", "usr/lib/syslinux/modules/efi64/ldlinux.e64"),
        file("efi64/menu.c32", "usr/lib/syslinux/modules/efi64/menu.c32"),
        file("efi64/vesamenu.c32", "usr/lib/syslinux/modules/efi64/vesamenu.c32"),
        file("efi64/libutil.c32", "usr/lib/syslinux/modules/efi64/libutil.c32"),
        file("efi64/libcom32.c32", "usr/lib/syslinux/modules/efi64/libcom32.c32"),
    ],
};

const SYSLINUX_32: Set = Set {
    name: "syslinux.efi for 32-bit firmware",
    packages: "syslinux-efi and syslinux-common",
    files: &[
        file("efi32/syslinux.efi", "usr/lib/SYSLINUX.EFI/efi32/syslinux.efi"),
        file("efi32/ldlinux.e32", "usr/lib/syslinux/modules/efi32/ldlinux.e32"),
        file("efi32/menu.c32", "usr/lib/syslinux/modules/efi32/menu.c32"),
        file("efi32/vesamenu.c32", "usr/lib/syslinux/modules/efi32/vesamenu.c32"),
        file("efi32/libutil.c32", "usr/lib/syslinux/modules/efi32/libutil.c32"),
        file("efi32/libcom32.c32", "usr/lib/syslinux/modules/efi32/libcom32.c32"),
    ],
};

/// shim loads `grubx64.efi` from beside itself: the GRUB for networks, not the one for disks.
const GRUB_X64: Set = Set {
    name: "shim and GRUB",
    packages: "shim-signed and grub-efi-amd64-signed",
    files: &[
        file("shimx64.efi", "usr/lib/shim/shimx64.efi.signed"),
        file("grubx64.efi", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
    ],
};

const GRUB_ARM64: Set = Set {
    name: "GRUB for 64-bit Arm",
    packages: "grub-efi-arm64-signed, of the architecture arm64",
    files: &[file("grubaa64.efi", "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed")],
};

/// Names without an ending: pxelinux would guess by `.bin` that it is a boot sector.
const MEMTEST: Set = Set {
    name: "Memtest86+",
    packages: "memtest86+",
    files: &[file("memtest-bios", "boot/memtest86+x64.bin"), file("memtest-efi", "boot/memtest86+x64.efi")],
};

impl Set {
    pub(crate) const ALL: [&'static Self; 9] =
        [&PXELINUX, &IPXE_BIOS, &SNPONLY, &IPXE_DRIVERS, &SYSLINUX_64, &SYSLINUX_32, &GRUB_X64, &GRUB_ARM64, &MEMTEST];
}

/// snponly.efi drives the card through the firmware that just booted from it, so it works wherever the firmware did; ipxe.efi is for
/// cards whose firmware is slow or broken. Debian's GRUB has no HTTP, so HTTP boot goes on with iPXE only.
pub(crate) const CHOICES: &[Choice] = &[
    choice(Firmware::Bios, "pxelinux", "lpxelinux.0"),
    choice(Firmware::Bios, "ipxe", "undionly.kpxe"),
    choice(Firmware::UefiX64, "ipxe", "snponly.efi"),
    choice(Firmware::UefiX64, "ipxe-drivers", "ipxe.efi"),
    choice(Firmware::UefiX64, "grub", "shimx64.efi"),
    choice(Firmware::UefiX64, "syslinux", "efi64/syslinux.efi"),
    choice(Firmware::HttpX64, "ipxe", "snponly.efi"),
    choice(Firmware::HttpX64, "ipxe-drivers", "ipxe.efi"),
    choice(Firmware::UefiIa32, "syslinux", "efi32/syslinux.efi"),
    choice(Firmware::UefiArm64, "grub", "grubaa64.efi"),
];

const fn choice(firmware: Firmware, loader: &'static str, file: &'static str) -> Choice {
    Choice { firmware, loader, file }
}

impl Machine {
    /// What a firmware starts.
    pub(crate) const fn of_firmware(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Bios | Firmware::RaspberryPi | Firmware::UbootArm64 => Self::Bios,
            Firmware::UefiIa32 | Firmware::HttpIa32 => Self::Efi(0x014c),
            Firmware::UefiX64 | Firmware::HttpX64 => Self::Efi(0x8664),
            Firmware::UefiArm32 => Self::Efi(0x01c2),
            Firmware::UefiArm64 | Firmware::HttpArm64 => Self::Efi(0xaa64),
        }
    }

    /// Reads a program's header (PE format: the offset of the PE header stands at 0x3c, its machine type behind the signature).
    pub(crate) fn of_program(bytes: &[u8]) -> Self {
        let field = |at: usize, length: usize| bytes.get(at..at.checked_add(length)?);
        let machine = || {
            field(0, 2).filter(|magic| magic == b"MZ")?;
            let offset = u32::from_le_bytes(field(0x3c, 4)?.try_into().ok()?) as usize;
            field(offset, 4).filter(|signature| signature == b"PE\0\0")?;
            Some(u16::from_le_bytes(field(offset + 4, 2)?.try_into().ok()?))
        };
        machine().map_or(Self::Bios, Self::Efi)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("no EFI program"),
            Self::Efi(0x014c) => f.write_str("an EFI program for 32-bit x86"),
            Self::Efi(0x8664) => f.write_str("an EFI program for 64-bit x86"),
            Self::Efi(0xaa64) => f.write_str("an EFI program for 64-bit Arm"),
            Self::Efi(machine) => write!(f, "an EFI program for the machine {machine:#06x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_a_file_of_a_set_and_every_name_is_served_once() {
        let names: Vec<&str> = Set::ALL.iter().flat_map(|set| set.files).map(|file| file.name).collect();
        for choice in CHOICES {
            assert!(names.contains(&choice.file), "{}", choice.file);
        }
        let distinct: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn the_machine_is_read_from_the_header() {
        let mut program = vec![0; 0x80];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x40;
        program[0x40..0x46].copy_from_slice(b"PE\0\0\x64\xaa");
        assert_eq!(Machine::of_program(&program), Machine::of_firmware(Firmware::UefiArm64));
        for cut in 0..0x46 {
            assert_eq!(Machine::of_program(&program[..cut]), Machine::Bios, "{cut}");
        }
        program[0x3c..0x40].fill(0xff);
        assert_eq!(Machine::of_program(&program), Machine::Bios);
    }
}
