//! The system that the lab's clients boot: a NixOS-like closure made of Debian packages, built from nothing.
//!
//! [`build`] makes generation 1 (bookworm as released) or 2 (the same after updates and security): one store path per Debian
//! package with references that follow Depends, a kernel with the modules of a list, an initrd in the order of NixOS' stage 1,
//! and a toplevel with `init`, `activate`, `boot.json`. The recipes are in `integration/system/`; this module chooses and
//! downloads the packages and drives Debian's own `nix-build`.
//!
//! Everything lies in a [`Work`] directory: the downloads, so that a second run asks no network (and a version that the archive
//! has dropped stays at hand), and a store of its own, so that the host's /nix is left alone. What it does not do: publish,
//! serve or boot anything. It needs root, for the sandbox of a diverted store, and Debian's apt and nix-bin.

mod apt;
mod arm64;
mod bootstrap;
mod closure;
mod control;
mod difference;
mod elf;
mod newer;
mod nix;
mod packages;
mod sections;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

pub use arm64::Arm64;
pub use difference::Difference;
pub use elf::build as build_elf;
pub use newer::NewerNix;
pub use nix::StorePath;

use crate::process::run;
use crate::{Error, Result};
use apt::Source;
use nix::Nix;
use packages::{Packages, Tools};
use sections::Sections;

/// The directory in which systems are built. On a tmpfs a build from nothing takes well under a minute; it fills some 2 GB.
#[derive(Debug, Clone)]
pub struct Work {
    root: PathBuf,
}

impl Work {
    /// Makes the directory, if it isn't there.
    pub fn at(directory: &Path) -> Result<Self> {
        let doing = || format!("making {}", directory.display());
        fs::create_dir_all(directory).map_err(Error::io(doing()))?;
        Ok(Self { root: directory.canonicalize().map_err(Error::io(doing()))? })
    }

    /// The root of the store that the systems are in: `/nix/store/x` is the file `<this>/nix/store/x`, and Nix' tools reach it
    /// with `NIX_REMOTE=local?root=<this>`.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// A file of the store as the host sees it, links inside the store followed there: what `boot.json` names as kernel, say.
    pub fn on_host(&self, path: &str) -> Result<PathBuf> {
        nix::on_host(self, path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Held while building: two at once would write the same files.
    fn lock(&self) -> Result<File> {
        let path = self.path("lock");
        let file = File::create(&path).map_err(Error::io(format!("making {}", path.display())))?;
        file.lock().map_err(Error::io(format!("locking {}", path.display())))?;
        Ok(file)
    }
}

/// Which packages a system is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationKind {
    /// Generation 1: bookworm as released.
    Released,
    /// Generation 2: bookworm with updates and security.
    Updated,
}

impl GenerationKind {
    /// 1 or 2, as the toplevel's name has it.
    pub fn number(self) -> u8 {
        match self {
            Self::Released => 1,
            Self::Updated => 2,
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Released => Source::Released,
            Self::Updated => Source::Updated,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Updated => "updated",
        }
    }
}

/// What a system is built with besides its packages. Another agent or another key makes another initrd.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// A static `rookery-agent`: in the initrd, and a store path of its own in the running system.
    pub agent: PathBuf,
    /// The public keys that the client trusts, in Nix's format, one a line; without, it trusts nobody.
    pub keys: Option<PathBuf>,
    /// What fetches in stage 1.
    pub via: Via,
}

/// What brings the system to the client in stage 1, and so which flavour of initrd it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The agent's own transfer.
    Rookery,
    /// A Nix of the initrd, which the agent drives.
    Nix,
    /// Neither: an image of the whole system is downloaded into memory. What `bench boot` compares with.
    Squashfs,
}

impl Via {
    /// As the agent's option `--via` has it, which does not know the last one.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rookery => "rookery",
            Self::Nix => "nix",
            Self::Squashfs => "squashfs",
        }
    }
}

/// A built system.
#[derive(Debug, Clone)]
pub struct Toplevel {
    /// Its store path, `/nix/store/...-nixos-system-rookery-1`.
    pub path: String,
    /// The version of each Debian package in it.
    pub versions: BTreeMap<String, String>,
    /// Everything it refers to, itself included, sorted by path.
    pub closure: Vec<StorePath>,
}

impl Toplevel {
    /// The size of the closure as NARs, in bytes.
    pub fn nar_size(&self) -> u64 {
        self.closure.iter().map(|path| path.nar_size).sum()
    }
}

/// The kernel that a system of this kind has, as Debian signed it; it takes no building.
pub fn kernel(work: &Work, kind: GenerationKind) -> Result<PathBuf> {
    let _lock = work.lock()?;
    let wanted = list("packages.txt")?;
    let file = work.path(&format!("{}.json", kind.name()));
    let packages = Packages::obtain(work, kind.source(), &file, &wanted)?;
    let name = format!("vmlinuz-{}", packages.kernel.release);
    let kernel = work.path(&name);
    if !kernel.exists() {
        let unpacked = work.path(".vmlinuz");
        let script = "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --to-stdout \"./boot/$2\" > \"$3\"";
        let mut unpack = Command::new("bash");
        run(unpack
            .args(["-euo", "pipefail", "-c", script, "bash"])
            .arg(&packages.kernel.file)
            .arg(&name)
            .arg(&unpacked))?;
        fs::rename(&unpacked, &kernel).map_err(Error::io(format!("making {}", kernel.display())))?;
    }
    Ok(kernel)
}

/// Builds a system, or finds it built. Both kinds built in one work directory share whatever is the same.
pub fn build(work: &Work, kind: GenerationKind, inputs: &Inputs) -> Result<Toplevel> {
    let _lock = work.lock()?;
    let (wanted, modules) = (list("packages.txt")?, list("modules.txt")?);
    let (packages_file, tools_file) = (work.path(&format!("{}.json", kind.name())), work.path("tools.json"));
    let packages = Packages::obtain(work, kind.source(), &packages_file, &wanted)?;
    let tools = Tools::obtain(work, &tools_file, &wanted)?;
    let newer = NewerNix::obtain_locked(work)?;

    let os_version = format!("{}-{}", packages.os_version(), kind.name());
    let no_keys = work.path("no-keys");
    if inputs.keys.is_none() {
        write_atomically(&no_keys, b"")?;
    }
    let path = Nix::new(work).build(
        kind.name(),
        "system.nix",
        &[],
        &[
            ("packages", packages_file.as_os_str()),
            ("tools", tools_file.as_os_str()),
            ("agent", absolute(&inputs.agent)?.as_os_str()),
            ("keys", absolute(inputs.keys.as_ref().unwrap_or(&no_keys))?.as_os_str()),
            ("payload", newer.payload(inputs.via).as_os_str()),
            ("via", inputs.via.word().as_ref()),
            ("bootstrap", bootstrap::obtain(work, &tools)?.as_os_str()),
            ("generation", kind.number().to_string().as_ref()),
            ("osVersion", os_version.as_ref()),
            ("initrdModules", modules.words("initrd").join(" ").as_ref()),
            ("systemModules", modules.words("system").join(" ").as_ref()),
        ],
    )?;
    let closure = Nix::new(work).closure(&path)?;
    Ok(Toplevel { path, versions: packages.versions(), closure })
}

/// The recipes: part of the checkout that this program was built from.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("system")
}

fn list(name: &str) -> Result<Sections> {
    let path = sources().join(name);
    let text = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
    Sections::parse(&text)
        .map_err(|line| Error::Wrong(format!("{}: the line {line:?} begins with no section", path.display())))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(Error::io(format!("looking for {}", path.display())))
}

/// A reader sees the old content or the new. (No sync: after a power cut the work directory can be made again.)
fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, content).map_err(Error::io(format!("writing {}", beside.display())))?;
    fs::rename(&beside, path).map_err(Error::io(format!("renaming {} to {}", beside.display(), path.display())))
}
