use std::fmt;
use std::str::FromStr;

use boot_model::{Circuit, Firmware, Label};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::through_text;

/// Machines that are alike in what their firmware sends, and that boot otherwise than `loaders.json` says. Each key that is given
/// must fit, by one of its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "Wire")]
pub struct Class {
    /// What events and messages call it.
    pub name: Label,
    /// What runs the loader, as `loaders.json` calls it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<Firmware>,
    /// How the card's address begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mac: Vec<MacPrefix>,
    /// How the vendor class begins (option 60).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vendor_class: Vec<String>,
    /// The user class (option 77).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_class: Vec<String>,
    /// The wire that the machine is on, as its relay agent calls it (option 82).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub circuit: Vec<Circuit>,
    /// What they boot.
    pub boot: ClassBoot,
}

/// What the machines of a class boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassBoot {
    /// An address, and no boot file.
    Nothing,
    /// What others boot, by this loader.
    Loader(LoaderFile),
}

/// The first one to six bytes of MAC addresses: `52:54:00`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacPrefix(Vec<u8>);

/// A file below `loaders/`: `efi64/syslinux.efi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoaderFile(String);

/// The class cannot be what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidClass {
    /// Nothing says whose it is.
    #[error(
        "the class {0} has none of firmware, mac, vendor-class, user-class and circuit, or an empty one, so it would be every machine's; give one"
    )]
    Everybody(Label),
    /// Not the beginning of a MAC address.
    #[error("{0:?} is no beginning of a MAC address; write one to six pairs of hex digits, such as 52:54:00")]
    MacPrefix(String),
    /// Not a name that is served.
    #[error("{0:?} is no file of loaders/; write its name there, such as ipxe.efi or efi64/syslinux.efi")]
    LoaderFile(String),
}

/// As it is written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wire {
    name: Label,
    #[serde(default)]
    firmware: Vec<Firmware>,
    #[serde(default)]
    mac: Vec<MacPrefix>,
    #[serde(default)]
    vendor_class: Vec<String>,
    #[serde(default)]
    user_class: Vec<String>,
    #[serde(default)]
    circuit: Vec<Circuit>,
    boot: ClassBoot,
}

impl TryFrom<Wire> for Class {
    type Error = InvalidClass;

    fn try_from(wire: Wire) -> Result<Self, InvalidClass> {
        let Wire { name, firmware, mac, vendor_class, user_class, circuit, boot } = wire;
        let marks = [firmware.len(), mac.len(), vendor_class.len(), user_class.len(), circuit.len()];
        // Every vendor class begins with nothing, that of a client without one too.
        let says_nothing = vendor_class.iter().chain(&user_class).any(String::is_empty);
        if marks == [0; 5] || says_nothing {
            return Err(InvalidClass::Everybody(name));
        }
        Ok(Self { name, firmware, mac, vendor_class, user_class, circuit, boot })
    }
}

impl MacPrefix {
    /// The bytes, one to six.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl LoaderFile {
    /// Its name below `loaders/`, without `..` and without a slash in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MacPrefix {
    type Err = InvalidClass;

    fn from_str(text: &str) -> Result<Self, InvalidClass> {
        let pair = |pair: &str| {
            let digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(pair, 16).ok().filter(|_| digits)
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(pair).collect();
        let bytes = bytes.filter(|bytes| bytes.len() <= 6);
        bytes.map(Self).ok_or_else(|| InvalidClass::MacPrefix(text.to_owned()))
    }
}

impl FromStr for LoaderFile {
    type Err = InvalidClass;

    fn from_str(text: &str) -> Result<Self, InvalidClass> {
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        // What the field `file` of a reply holds beside its NUL.
        if text.len() > 127 || !text.split('/').all(part) {
            return Err(InvalidClass::LoaderFile(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

impl fmt::Display for LoaderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

through_text!(MacPrefix, InvalidClass);
through_text!(LoaderFile, InvalidClass);
