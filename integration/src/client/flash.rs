use std::fs;
use std::path::{Path, PathBuf};

use super::{Client, Firmware};
use crate::{Error, Result};

/// The flash chips of a machine with UEFI: the firmware, and its variables, which it may write.
pub(super) struct Flash {
    code: &'static str,
    variables: PathBuf,
}

impl Flash {
    /// The chips of this client, with variables as a new machine has them; none for a BIOS.
    pub(super) fn of(client: &Client, scratch: &Path) -> Result<Option<Self>> {
        let (code, template) = match client.firmware {
            Firmware::Ipxe | Firmware::PlainPxe => return Ok(None),
            Firmware::Uefi | Firmware::UefiHttp => {
                ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")
            }
            Firmware::SecureBoot => ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
            Firmware::UefiArm64 => ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        };
        let variables = scratch.join(format!("{}.vars", client.name));
        let doing = format!("copying {template} to {}", variables.display());
        fs::copy(template, &variables).map_err(Error::io(doing))?;
        Ok(Some(Self { code, variables }))
    }

    /// QEMU's words for them.
    pub(super) fn arguments(&self) -> [String; 4] {
        let drive = |unit: u8, rest: String| format!("if=pflash,format=raw,unit={unit},{rest}");
        [
            "-drive".to_owned(),
            drive(0, format!("readonly=on,file={}", self.code)),
            "-drive".to_owned(),
            drive(1, format!("file={}", self.variables.display())),
        ]
    }
}
