//! A NixOS system as it describes itself: bootspec (RFC 125), or the files of its toplevel where it has none.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use boot_model::generation::{InitPath, InvalidInitPath};
use boot_model::{
    Architecture, InvalidLabel, InvalidName, InvalidParameter, KernelParameter, Label, SpecialisationName, StorePath,
};
use bootspec::v1::{BootSpecV1, GenerationV1, SpecialisationV1};
use bootspec::{JSON_FILENAME, SystemConfigurationRoot};
use thiserror::Error;

use crate::secrets;
use crate::store::{Store, StoreError};

/// What can be booted of one toplevel.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) architecture: Architecture,
    /// The system itself, then its specialisations by name.
    pub(crate) entries: Vec<Bootable>,
}

/// One thing to boot, its kernel and initrd still in the store.
#[derive(Debug)]
pub(crate) struct Bootable {
    pub(crate) specialisation: Option<SpecialisationName>,
    pub(crate) label: Label,
    pub(crate) toplevel: StorePath,
    pub(crate) init: InitPath,
    pub(crate) kernel_parameters: Vec<KernelParameter>,
    pub(crate) kernel_version: Option<Label>,
    /// A regular file in the store, all links followed.
    pub(crate) kernel: PathBuf,
    /// Likewise.
    pub(crate) initrd: PathBuf,
}

/// Why a system can't be booted over the network.
#[derive(Debug, Error)]
#[error("{toplevel}{}: {reason}", in_specialisation(specialisation.as_deref()))]
pub struct SystemError {
    toplevel: StorePath,
    specialisation: Option<String>,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("its boot.json cannot be read as bootspec v1: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its {name} is not UTF-8")]
    NotText { name: &'static str },
    #[error("it has no boot.json, and its {0} cannot be used in its place: is it a NixOS toplevel?")]
    Synthesis(&'static str),
    #[error("its boot.json describes {0}; it was copied from there")]
    Elsewhere(String),
    #[error("it is for {0:?}, and only x86_64-linux and aarch64-linux can be published")]
    Architecture(String),
    #[error("it is for {0}, the system itself for {1}")]
    OtherArchitecture(Architecture, Architecture),
    #[error(transparent)]
    Label(#[from] InvalidLabel),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
    #[error(transparent)]
    Init(#[from] InvalidInitPath),
    #[error("its init is {0}, outside of the toplevel")]
    InitElsewhere(InitPath),
    #[error("it has no initrd, without which a client can't fetch anything (boot.initrd.enable)")]
    NoInitrd,
    #[error("its {what} {} is not there or not a file", path.display())]
    NoFile { what: &'static str, path: PathBuf },
    #[error(
        "{} would append secrets to its initrd, which everybody on the network can download; remove boot.initrd.secrets \
         and bring secrets to the machines in another way", .0.display()
    )]
    Secrets(PathBuf),
}

impl System {
    /// Reads what `toplevel` says of itself and checks all that can be checked before the closure is known.
    pub(crate) fn read(store: &Store, toplevel: &StorePath) -> Result<Self, SystemError> {
        let fail = |reason| SystemError { toplevel: toplevel.clone(), specialisation: None, reason };
        let GenerationV1 { bootspec, specialisations } = read_generation(store, toplevel).map_err(fail)?;
        let architecture = architecture(&bootspec.system).map_err(fail)?;
        if bootspec.toplevel.0 != Path::new(toplevel.as_str()) {
            return Err(fail(Reason::Elsewhere(bootspec.toplevel.0.display().to_string())));
        }
        let mut entries = vec![Bootable::read(store, None, &bootspec).map_err(fail)?];
        let mut specialisations: Vec<_> = specialisations.into_iter().collect();
        specialisations.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0));
        for (name, SpecialisationV1 { generation, .. }) in specialisations {
            let entry = specialised(store, &name.0, &generation.bootspec, architecture).map_err(|reason| {
                SystemError { toplevel: toplevel.clone(), specialisation: Some(name.0.clone()), reason }
            })?;
            entries.push(entry);
        }
        Ok(Self { architecture, entries })
    }
}

impl Bootable {
    fn read(store: &Store, specialisation: Option<SpecialisationName>, spec: &BootSpecV1) -> Result<Self, Reason> {
        let toplevel = store.path(&spec.toplevel.0)?;
        let init: InitPath = spec.init.to_str().ok_or(Reason::NotText { name: "init" })?.parse()?;
        if init.store_path() != toplevel.as_str() {
            return Err(Reason::InitElsewhere(init));
        }
        let initrd = spec.initrd.as_ref().ok_or(Reason::NoInitrd)?;
        if let Some(appender) = &spec.initrd_secrets {
            refuse_secrets(store, appender)?;
        }
        Ok(Self {
            specialisation,
            label: spec.label.parse()?,
            kernel_parameters: spec.kernel_params.iter().map(|p| p.parse()).collect::<Result<_, _>>()?,
            kernel_version: kernel_version(store, &toplevel),
            kernel: regular_file(store, "kernel", &spec.kernel)?,
            initrd: regular_file(store, "initrd", initrd)?,
            toplevel,
            init,
        })
    }
}

fn specialised(store: &Store, name: &str, spec: &BootSpecV1, system: Architecture) -> Result<Bootable, Reason> {
    match architecture(&spec.system)? {
        own if own != system => Err(Reason::OtherArchitecture(own, system)),
        _ => Bootable::read(store, Some(name.parse()?), spec),
    }
}

fn read_generation(store: &Store, toplevel: &StorePath) -> Result<GenerationV1, Reason> {
    let root = Path::new(toplevel.as_str());
    match store.read(&root.join(JSON_FILENAME)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(StoreError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            if !store.on_disk(root).exists() {
                return Err(StoreError::NotValid(toplevel.clone()).into());
            }
            synthesise(store, root)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a bootspec of a toplevel's files, with its specialisations. (The crate's own synthesis follows links by the kernel,
/// which leads out of a diverted store.)
fn synthesise(store: &Store, toplevel: &Path) -> Result<GenerationV1, Reason> {
    let mut specialisations = HashMap::new();
    let directory = toplevel.join("specialisation");
    let names = store.resolve(&directory).ok().and_then(|path| fs::read_dir(store.on_disk(&path)).ok());
    for name in names.into_iter().flatten().flatten().map(|entry| entry.file_name()) {
        let resolved = store.resolve(&directory.join(&name))?;
        let generation = GenerationV1 { bootspec: synthesise_one(store, &resolved)?, specialisations: HashMap::new() };
        let name = name.into_string().map_err(|_| Reason::NotText { name: "specialisation" })?;
        let specialisation = SpecialisationV1 { generation, extensions: HashMap::new() };
        specialisations.insert(bootspec::SpecialisationName(name), specialisation);
    }
    Ok(GenerationV1 { bootspec: synthesise_one(store, toplevel)?, specialisations })
}

fn synthesise_one(store: &Store, toplevel: &Path) -> Result<BootSpecV1, Reason> {
    let text = |name: &'static str| {
        let bytes = store.read(&toplevel.join(name)).map_err(|_| Reason::Synthesis(name))?;
        String::from_utf8(bytes).map(|text| text.trim_end().to_owned()).map_err(|_| Reason::NotText { name })
    };
    let there = |name: &str| store.resolve(&toplevel.join(name)).ok();
    let version = modules_version(store, toplevel).map_or_else(String::new, |version| format!(" (Linux {version})"));
    Ok(BootSpecV1 {
        label: format!("NixOS {}{version}", text("nixos-version")?),
        kernel: there("kernel").ok_or(Reason::Synthesis("kernel"))?,
        kernel_params: text("kernel-params")?.split_ascii_whitespace().map(str::to_owned).collect(),
        init: toplevel.join("init"),
        initrd: there("initrd"),
        initrd_secrets: there("append-initrd-secrets"),
        system: text("system")?,
        toplevel: SystemConfigurationRoot(toplevel.to_owned()),
    })
}

/// The kernel's version: nothing but the name of its modules' directory tells it, and that only if there is one.
fn kernel_version(store: &Store, toplevel: &StorePath) -> Option<Label> {
    modules_version(store, Path::new(toplevel.as_str()))?.parse().ok()
}

fn modules_version(store: &Store, toplevel: &Path) -> Option<String> {
    let modules = store.resolve(&toplevel.join("kernel-modules/lib/modules")).ok()?;
    let mut versions = fs::read_dir(store.on_disk(&modules)).ok()?;
    let only = versions.next()?.ok()?.file_name().into_string().ok();
    only.filter(|_| versions.next().is_none())
}

fn architecture(system: &str) -> Result<Architecture, Reason> {
    Architecture::from_nix_system(system).ok_or_else(|| Reason::Architecture(system.to_owned()))
}

fn regular_file(store: &Store, what: &'static str, path: &Path) -> Result<PathBuf, Reason> {
    let missing = || Reason::NoFile { what, path: path.to_owned() };
    let resolved = store.resolve(path).map_err(|_| missing())?;
    let metadata = fs::metadata(store.on_disk(&resolved)).map_err(|_| missing())?;
    if metadata.is_file() { Ok(resolved) } else { Err(missing()) }
}

/// A script that is not there can append nothing.
fn refuse_secrets(store: &Store, appender: &Path) -> Result<(), Reason> {
    let script = match store.read(appender) {
        Ok(script) => script,
        Err(StoreError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match std::str::from_utf8(&script) {
        Ok(script) if secrets::appends_nothing(script) => Ok(()),
        _ => Err(Reason::Secrets(appender.to_owned())),
    }
}

fn in_specialisation(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(", specialisation {name:?}"))
}
