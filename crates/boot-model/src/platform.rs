use std::fmt;

use serde::{Deserialize, Serialize};

/// What runs the loader. It decides which boot file a client is named.
///
/// Not to be confused with [`Architecture`]: a 32-bit UEFI can start a 64-bit kernel (pixiecore keeps the two apart for this
/// reason).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS with a PXE ROM (option 93 = 0).
    Bios,
    /// 32-bit UEFI on x86 (6).
    UefiIa32,
    /// 64-bit UEFI on x86 (7, and 9 by the RFC 4578 erratum).
    UefiX64,
    /// 32-bit UEFI on Arm (10).
    UefiArm32,
    /// 64-bit UEFI on Arm (11).
    UefiArm64,
    /// UEFI HTTP boot on 32-bit x86 (15).
    HttpIa32,
    /// UEFI HTTP boot on 64-bit x86 (16).
    HttpX64,
    /// UEFI HTTP boot on 64-bit Arm (19).
    HttpArm64,
    /// A Raspberry Pi's own boot ROM (known by its OUI, or 41).
    RaspberryPi,
    /// U-Boot on 64-bit Arm (22).
    UbootArm64,
}

/// What runs the kernel. It decides which generations a client can boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// 64-bit PCs; Nix calls them `x86_64-linux`.
    #[serde(rename = "x86_64-linux")]
    X86_64,
    /// 64-bit Arm; Nix calls them `aarch64-linux`.
    #[serde(rename = "aarch64-linux")]
    Aarch64,
}

impl Firmware {
    /// The architecture of the kernels that this firmware's machines run, where there is one that NixOS supports.
    pub const fn architecture(self) -> Option<Architecture> {
        match self {
            Self::Bios | Self::UefiIa32 | Self::UefiX64 | Self::HttpIa32 | Self::HttpX64 => Some(Architecture::X86_64),
            Self::UefiArm64 | Self::HttpArm64 | Self::RaspberryPi | Self::UbootArm64 => Some(Architecture::Aarch64),
            Self::UefiArm32 => None,
        }
    }

    /// The name that configuration and `loaders.json` use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::UefiIa32 => "uefi-ia32",
            Self::UefiX64 => "uefi-x64",
            Self::UefiArm32 => "uefi-arm32",
            Self::UefiArm64 => "uefi-arm64",
            Self::HttpIa32 => "http-ia32",
            Self::HttpX64 => "http-x64",
            Self::HttpArm64 => "http-arm64",
            Self::RaspberryPi => "raspberry-pi",
            Self::UbootArm64 => "uboot-arm64",
        }
    }
}

impl Architecture {
    /// Nix's name of the system.
    pub const fn nix_system(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux",
            Self::Aarch64 => "aarch64-linux",
        }
    }

    /// The architecture that Nix calls `system`.
    pub fn from_nix_system(system: &str) -> Option<Self> {
        [Self::X86_64, Self::Aarch64].into_iter().find(|a| a.nix_system() == system)
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.nix_system())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_agree_with_display() {
        for firmware in [
            Firmware::Bios,
            Firmware::UefiIa32,
            Firmware::UefiX64,
            Firmware::UefiArm32,
            Firmware::UefiArm64,
            Firmware::HttpIa32,
            Firmware::HttpX64,
            Firmware::HttpArm64,
            Firmware::RaspberryPi,
            Firmware::UbootArm64,
        ] {
            assert_eq!(serde_json::to_value(firmware).unwrap(), firmware.as_str());
        }
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            assert_eq!(serde_json::to_value(architecture).unwrap(), architecture.nix_system());
            assert_eq!(Architecture::from_nix_system(architecture.nix_system()), Some(architecture));
        }
    }
}
