use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use boot_model::Firmware;
use serde_json::json;
use service::Failure;

use crate::output::Output;
use crate::site::Site;

/// Where Debian's packages pxelinux, syslinux-common and ipxe put them.
const PLACES: [&str; 3] = ["/usr/lib/PXELINUX", "/usr/lib/syslinux/modules/bios", "/usr/lib/ipxe"];

/// Needed to boot a BIOS machine: pxelinux and its modules (menu.c32 needs the two libraries).
const PXELINUX: [&str; 6] = ["lpxelinux.0", "ldlinux.c32", "menu.c32", "vesamenu.c32", "libutil.c32", "libcom32.c32"];
/// Wanted for everything else; a room of BIOS machines does without.
const IPXE: [&str; 3] = ["undionly.kpxe", "ipxe.efi", "snponly.efi"];

/// What each firmware is sent first. snponly.efi drives the card through the firmware that just booted from it, so it works
/// wherever the firmware did; ipxe.efi is beside it for the cards whose firmware is slow or broken.
const TABLE: [(Firmware, &str); 3] =
    [(Firmware::Bios, "lpxelinux.0"), (Firmware::UefiX64, "snponly.efi"), (Firmware::HttpX64, "snponly.efi")];

pub(crate) fn places() -> Vec<PathBuf> {
    PLACES.map(PathBuf::from).to_vec()
}

/// Copies the loaders, if all that are needed are found, and writes the table last: it names only what is there.
pub(crate) fn install(site: &Site, output: Output, from: &[PathBuf]) -> Result<(), Failure> {
    let target = site.layout.loaders();
    let mut missing = Vec::new();
    let mut found = Vec::new();
    for name in PXELINUX.into_iter().chain(IPXE) {
        match from.iter().find_map(|place| fs::read(place.join(name)).ok()) {
            Some(bytes) => found.push((name, bytes)),
            None => missing.push(name),
        }
    }
    if missing.iter().any(|name| PXELINUX.contains(name)) {
        let places = from.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Failure::runtime(format!(
            "{} not found in {places}; install Debian's pxelinux, syslinux-common and ipxe, or name the places with --from",
            missing.join(", ")
        )));
    }
    publish::make_directories(&target)?;
    for (name, bytes) in &found {
        publish::write_file(&target.join(name), bytes)?;
    }
    let installed: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    let table: BTreeMap<&str, &str> = TABLE
        .iter()
        .filter(|(_, file)| installed.contains(file))
        .map(|(firmware, file)| (firmware.as_str(), *file))
        .collect();
    publish::write_file(&site.layout.loaders_table(), format!("{:#}\n", json!(table)).as_bytes())?;
    output.answer(
        || {
            let mut text = format!("installed {} in {}\n", installed.join(", "), target.display());
            if !missing.is_empty() {
                text +=
                    &format!("without {}: only BIOS machines can boot (Debian's ipxe has them)\n", missing.join(", "));
            }
            text
        },
        || json!({ "directory": target, "installed": installed, "missing": missing, "table": table }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loader_of_the_table_is_one_that_is_installed() {
        for (firmware, file) in TABLE {
            assert!(PXELINUX.contains(&file) || IPXE.contains(&file), "{firmware}");
        }
    }
}
