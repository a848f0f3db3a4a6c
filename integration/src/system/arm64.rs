//! What a client with a 64-bit Arm processor boots: packages of another architecture than the host's, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Work;
use super::apt::Apt;
use crate::process::run;
use crate::{Error, Result};

/// A loader, a kernel and a shell for 64-bit Arm.
#[derive(Debug)]
pub struct Arm64 {
    root: PathBuf,
}

impl Arm64 {
    /// Downloads and unpacks the packages, or finds them unpacked.
    pub fn obtain(work: &Work) -> Result<Self> {
        let _lock = work.lock()?;
        let arm64 = Self { root: work.path("arm64") };
        if !arm64.root.exists() {
            let apt = Apt::arm64(work)?;
            // The kernel for clouds is the same with fewer modules, none of which is wanted here.
            let kernel = apt.stands_for("linux-image-cloud-arm64")?;
            unpack(&apt, &[&kernel, "grub-efi-arm64-signed", "busybox-static"], &work.path("arm64.new"), &arm64.root)?;
        }
        Ok(arm64)
    }

    /// Laid out as the root of a Debian system: a place for `rookery loaders install --from`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The kernel, as Debian signed it.
    pub fn kernel(&self) -> Result<PathBuf> {
        let boot = self.root.join("boot");
        let entries = fs::read_dir(&boot).map_err(Error::io(format!("reading {}", boot.display())))?;
        let is_kernel =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz-"));
        let kernel = entries.flatten().map(|entry| entry.path()).find(is_kernel);
        kernel.ok_or_else(|| Error::Wrong(format!("{} has no vmlinuz", boot.display())))
    }

    /// A busybox that needs no library.
    pub fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }
}

/// Beside, and renamed when all is there.
fn unpack(apt: &Apt, packages: &[&str], beside: &Path, root: &Path) -> Result<()> {
    let making = || format!("making {}", beside.display());
    if beside.exists() {
        fs::remove_dir_all(beside).map_err(Error::io(making()))?;
    }
    let (downloads, unpacked) = (beside.join("debs"), beside.join("root"));
    fs::create_dir_all(&downloads).map_err(Error::io(making()))?;
    apt.packages(packages, &downloads)?;
    for package in fs::read_dir(&downloads).map_err(Error::io(making()))? {
        let package = package.map_err(Error::io(making()))?.path();
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    }
    fs::rename(&unpacked, root).map_err(Error::io(format!("renaming {} to {}", unpacked.display(), root.display())))?;
    fs::remove_dir_all(beside).map_err(Error::io(making()))
}
