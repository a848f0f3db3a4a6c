use std::fmt;
use std::str::FromStr;

use boot_model::{GenerationId, KernelParameter};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Role;

/// In what a machine's menu differs from its role's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HostMenu {
    /// What it boots unasked instead of the role's default, as long as that is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<GenerationId>,
    /// As [`Role::local_disk`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_disk: Option<bool>,
    /// As [`Role::memtest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memtest: Option<bool>,
    /// As [`Role::locked`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// As [`Role::menu_timeout_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub menu_timeout_seconds: Option<u16>,
    /// As [`Role::serial_console`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_console: Option<SerialConsole>,
    /// Behind those of the role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_parameters: Vec<KernelParameter>,
}

/// A serial line that people read and type at: `ttyS0,115200`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SerialConsole {
    device: String,
    baud: u32,
}

/// The text names no serial line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no serial line; write the kernel's device and the speed, as ttyS0,115200")]
pub struct InvalidSerialConsole(String);

impl HostMenu {
    /// Whether it differs in nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The role as this machine has it.
    pub fn applied_to(&self, role: &Role) -> Role {
        let own = role.kernel_parameters.iter().chain(&self.kernel_parameters);
        Role {
            local_disk: self.local_disk.unwrap_or(role.local_disk),
            memtest: self.memtest.unwrap_or(role.memtest),
            locked: self.locked.unwrap_or(role.locked),
            menu_timeout_seconds: self.menu_timeout_seconds.unwrap_or(role.menu_timeout_seconds),
            serial_console: self.serial_console.clone().or_else(|| role.serial_console.clone()),
            kernel_parameters: own.cloned().collect(),
            ..role.clone()
        }
    }
}

impl SerialConsole {
    /// The line's number, where it is one of a PC's: `ttyS0` is 0. Loaders count like this; the kernel takes any name.
    pub fn unit(&self) -> Option<u8> {
        self.device.strip_prefix("ttyS")?.parse().ok()
    }

    /// Bits a second.
    pub const fn baud(&self) -> u32 {
        self.baud
    }

    /// What makes it the kernel's console.
    pub fn kernel_parameter(&self) -> KernelParameter {
        format!("console={self}").parse().expect("letters, digits and a comma are a kernel parameter")
    }
}

impl FromStr for SerialConsole {
    type Err = InvalidSerialConsole;

    fn from_str(text: &str) -> Result<Self, InvalidSerialConsole> {
        let invalid = || InvalidSerialConsole(text.to_owned());
        let (device, baud) = text.split_once(',').ok_or_else(invalid)?;
        let baud = baud.parse().ok().filter(|baud| (110..=4_000_000).contains(baud)).ok_or_else(invalid)?;
        let named =
            device.starts_with("tty") && device.len() <= 16 && device.bytes().all(|b| b.is_ascii_alphanumeric());
        if named { Ok(Self { device: device.to_owned(), baud }) } else { Err(invalid()) }
    }
}

impl fmt::Display for SerialConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.device, self.baud)
    }
}

impl TryFrom<String> for SerialConsole {
    type Error = InvalidSerialConsole;

    fn try_from(text: String) -> Result<Self, InvalidSerialConsole> {
        text.parse()
    }
}

impl From<SerialConsole> for String {
    fn from(console: SerialConsole) -> Self {
        console.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_line_has_a_device_and_a_speed() {
        let console: SerialConsole = "ttyS1,115200".parse().unwrap();
        assert_eq!((console.unit(), console.baud()), (Some(1), 115_200));
        assert_eq!(console.kernel_parameter().as_str(), "console=ttyS1,115200");
        assert_eq!("ttyAMA0,9600".parse::<SerialConsole>().unwrap().unit(), None);
        for bad in ["ttyS0", "ttyS0,", "ttyS0,0", "S0,9600", "tty 0,9600", "ttyS0,115200n8"] {
            assert!(bad.parse::<SerialConsole>().is_err(), "{bad}");
        }
    }
}
