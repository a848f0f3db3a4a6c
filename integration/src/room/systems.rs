use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::process::run;
use crate::system::{Arm64, Difference, GenerationKind, Inputs, Toplevel, Via, Work, build};
use crate::{Error, Result, Workspace};

/// The two generations that clients boot, and the site's key that their initrds trust.
#[derive(Debug)]
pub struct Systems {
    work: Work,
    /// The secret key that the site signs with.
    pub(super) key: PathBuf,
    /// Bookworm as released.
    pub first: Toplevel,
    /// The same after a security update.
    pub second: Toplevel,
}

/// The key's name, which signatures carry.
const KEY_NAME: &str = "rookery-lab-1";

impl Systems {
    /// Builds both, or finds them built: they stay in the target directory, with the packages that they were made of.
    pub fn build(workspace: &Workspace) -> Result<Self> {
        Self::build_for(workspace, Via::Rookery)
    }

    /// As [`Systems::build`], with initrds that fetch by these means.
    pub fn build_for(workspace: &Workspace, via: Via) -> Result<Self> {
        // Tests that run side by side want the same systems at the same time.
        static BUILDING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let work = Work::at(&workspace.logs("systems"))?;
        let (key, public_key) = key_pair(&workspace.logs("keys"), KEY_NAME)?;
        let inputs = Inputs { agent: workspace.agent()?, keys: Some(public_key), via };
        let first = build(&work, GenerationKind::Released, &inputs)?;
        let second = build(&work, GenerationKind::Updated, &inputs)?;
        Ok(Self { work, key, first, second })
    }

    /// The same systems, which a site with another key publishes.
    pub fn signed_by_a_stranger(self, workspace: &Workspace) -> Result<Self> {
        let (key, _) = key_pair(&workspace.logs("keys"), "stranger-1")?;
        Ok(Self { key, ..self })
    }

    /// What the update changes.
    pub fn difference(&self) -> Difference {
        Difference::between(&self.first, &self.second)
    }

    /// The secret half of the key that the initrds trust; it does not take building them.
    pub fn secret_key(workspace: &Workspace) -> Result<PathBuf> {
        key_pair(&workspace.logs("keys"), KEY_NAME).map(|(secret, _)| secret)
    }

    /// Generation 1's specialisation: another toplevel with the same kernel and initrd.
    pub fn first_debug(&self) -> Result<String> {
        let link = self.work.on_host(&self.first.path)?.join("specialisation/debug");
        let target = fs::read_link(&link).map_err(Error::io(format!("reading the link {}", link.display())))?;
        Ok(target.display().to_string())
    }

    /// The public half, as the clients' initrds hold it.
    pub fn public_key(&self) -> PathBuf {
        self.key.with_extension("public")
    }

    /// The kernel of generation 1, signed by Debian; it does not take building them.
    pub fn kernel(workspace: &Workspace) -> Result<PathBuf> {
        crate::system::kernel(&Work::at(&workspace.logs("systems"))?, GenerationKind::Released)
    }

    /// The parts of a system for 64-bit Arm.
    pub fn arm64(workspace: &Workspace) -> Result<Arm64> {
        Arm64::obtain(&Work::at(&workspace.logs("systems"))?)
    }

    /// The root of the store that holds them.
    pub fn store(&self) -> PathBuf {
        self.work.store()
    }
}

/// A key pair, made once: another key would make other initrds, and all would be built again. Stock Nix makes it, so that the
/// format is Nix's and not only ours.
fn key_pair(dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let (secret, public) = (dir.join(format!("{name}.secret")), dir.join(format!("{name}.public")));
    if !public.exists() {
        fs::create_dir_all(dir).map_err(Error::io(format!("creating {}", dir.display())))?;
        run(Command::new("nix-store").args(["--generate-binary-cache-key", name]).args([&secret, &public]))?;
    }
    Ok((secret, public))
}
