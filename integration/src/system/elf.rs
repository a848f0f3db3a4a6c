//! A second closure of Debian packages, for measuring transfers: as large as a small NixOS system, and with store paths in its ELF
//! files. It is published and fetched, never booted.

use super::nix::Nix;
use super::packages::Packages;
use super::{GenerationKind, Toplevel, Work, list};
use crate::Result;

/// Where builders find the shell, dpkg, binutils and patchelf of this machine.
const HOST: &str = "/bin /usr /lib /lib64";

/// Builds the closure, or finds it built. Another label gives the same files with other hashes in them.
pub fn build(work: &Work, kind: GenerationKind, label: &str) -> Result<Toplevel> {
    let _lock = work.lock()?;
    let file = work.path(&format!("elf-{}.json", kind.name()));
    let packages = Packages::obtain(work, kind.source(), &file, &list("elf/packages.txt")?)?;
    let path = Nix::new(work).build(
        &format!("elf-{}-{label}", kind.name()),
        "elf/closure.nix",
        &[("extra-sandbox-paths", HOST)],
        &[("packages", file.as_os_str()), ("label", label.as_ref())],
    )?;
    let closure = Nix::new(work).closure(&path)?;
    Ok(Toplevel { path, versions: packages.versions(), closure })
}
