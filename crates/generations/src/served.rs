use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boot_model::{Architecture, GenerationRef, MacAddr, RoleName, StoreHash, event::Content, generation::boot_file};
use thiserror::Error;

use crate::{CacheIndex, Layout, Snapshot};

/// The table that maps every served name to its file, for TFTP and HTTP alike. What it does not name is not served.
///
/// It is a snapshot: a transfer that began keeps the file it opened, whatever is published meanwhile.
#[derive(Debug, Clone)]
pub struct ServedNames {
    snapshot: Arc<Snapshot>,
    /// The packs; `None` for TFTP, which serves neither these nor bundles.
    cache: Option<Arc<CacheIndex>>,
}

/// The file that a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Paths relative to the state directory; the first that exists is the file.
    pub candidates: Vec<PathBuf>,
    /// What it is.
    pub content: Content,
    /// Whether the bytes under this name can never change.
    pub immutable: bool,
}

/// Why a name is not served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotServed {
    /// No rule of the table fits the name.
    #[error("no served name has this form")]
    UnknownName,
    /// It would name a generation that is not published.
    #[error("the generation {0} is not published")]
    NoGeneration(GenerationRef),
    /// The generation has no such file.
    #[error("the generation {0} has no such file")]
    NoFile(GenerationRef),
    /// No published generation's closure has this store path or pack.
    #[error("it belongs to the closure of no published generation")]
    NotInAnyClosure,
}

impl ServedNames {
    /// The names that this snapshot serves, and with `cache` its packs too.
    pub fn new(snapshot: Arc<Snapshot>, cache: Option<Arc<CacheIndex>>) -> Self {
        Self { snapshot, cache }
    }

    /// The file behind `name`, for a request that came to the address `server` from the card `client`, where that is known.
    ///
    /// Leading and doubled slashes do not count (GRUB asks with one, pxelinux with a prefix).
    pub fn resolve(&self, name: &str, server: Ipv4Addr, client: Option<MacAddr>) -> Result<Served, NotServed> {
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(NotServed::UnknownName);
        }
        match parts[..] {
            ["boot.ipxe"] => Ok(ipxe_menu(server, Architecture::X86_64, client)),
            ["boot-arm64.ipxe"] => Ok(ipxe_menu(server, Architecture::Aarch64, client)),
            ["pxelinux.cfg", file] => Ok(menu([Layout::pxelinux_menu(server, searched(file)?)])),
            // syslinux.efi searches beside itself.
            ["efi64" | "efi32", "pxelinux.cfg", file] => Ok(menu([Layout::syslinux_efi_menu(server, searched(file)?)])),
            ["grub", "grub.cfg"] => Ok(menu([Layout::grub_start(server)])),
            ["grub", "x86_64", file] => grub_menu(file, server, Architecture::X86_64),
            ["grub", "arm64", file] => grub_menu(file, server, Architecture::Aarch64),
            ["boot", role, id, file] => self.generation_file(role, id, file, Content::Boot),
            ["bundle", role, name] => self.bundle(role, name),
            ["generations", role, id, file] => self.generation_file(role, id, file, Content::Generation),
            [Layout::CACHE_INFO_NAME] if self.cache.is_some() => {
                Ok(cached(Layout::CACHE_INFO_NAME, Content::Narinfo, false))
            }
            [Layout::NAR_NAME, pack] => self.pack(pack),
            [file] if file.ends_with(".narinfo") || file.ends_with(".ls") => self.path_info(file),
            _ => loader(&parts),
        }
    }

    fn generation_file(&self, role: &str, id: &str, file: &str, content: Content) -> Result<Served, NotServed> {
        let generation: GenerationRef = format!("{role}/{id}").parse().map_err(|_| NotServed::UnknownName)?;
        let published = self.snapshot.find(&generation).ok_or_else(|| NotServed::NoGeneration(generation.clone()))?;
        let own = [Layout::GENERATION_NAME, Layout::SIGNATURE_NAME, Layout::CLOSURE_NAME];
        let name = match content {
            Content::Boot => {
                file.parse().ok().map(boot_file).filter(|name| published.generation.files.contains_key(name))
            }
            _ => own.contains(&file).then(|| file.to_owned()),
        };
        let name = name.ok_or_else(|| NotServed::NoFile(generation.clone()))?;
        let directory = Path::new("generations").join(generation.role.as_str()).join(generation.id.to_string());
        // A boot file's name is its digest. The others are written anew where a damaged generation is published again: a cache on the
        // way would put a new signature beside an old description.
        let immutable = matches!(content, Content::Boot);
        Ok(Served { candidates: vec![directory.join(name)], content, immutable })
    }

    /// The old generation need not be published any more: a client that still runs it is the one who needs the bundle most. That
    /// none was made (yet) is found out when it is opened.
    fn bundle(&self, role: &str, name: &str) -> Result<Served, NotServed> {
        if self.cache.is_none() {
            return Err(NotServed::UnknownName);
        }
        let role: RoleName = role.parse().map_err(|_| NotServed::UnknownName)?;
        let (old, new) = Layout::parse_bundle_name(name).ok_or(NotServed::UnknownName)?;
        let generation = GenerationRef { role, id: new };
        if self.snapshot.find(&generation).is_none() {
            return Err(NotServed::NoGeneration(generation));
        }
        let directory = Path::new(Layout::BUNDLES_NAME).join(generation.role.as_str());
        let candidates = vec![directory.join(Layout::bundle_name(old, new))];
        Ok(Served { candidates, content: Content::Bundle, immutable: false })
    }

    fn pack(&self, name: &str) -> Result<Served, NotServed> {
        let cache = self.cache.as_ref().ok_or(NotServed::UnknownName)?;
        match cache.has_pack(name) {
            true => Ok(cached(&format!("{}/{name}", Layout::NAR_NAME), Content::Nar, true)),
            false => Err(NotServed::NotInAnyClosure),
        }
    }

    fn path_info(&self, file: &str) -> Result<Served, NotServed> {
        let cache = self.cache.as_ref().ok_or(NotServed::UnknownName)?;
        let (hash, _) = file.split_once('.').ok_or(NotServed::UnknownName)?;
        let hash: StoreHash = hash.parse().map_err(|_| NotServed::UnknownName)?;
        match cache.has_path(hash) {
            // A path may be packed anew after its closure was collected, and a signature may be added for a new key: whoever kept
            // the old text would ask for a pack that is gone, or miss the signature that its client trusts.
            true => Ok(cached(file, Content::Narinfo, false)),
            false => Err(NotServed::NotInAnyClosure),
        }
    }
}

/// The searches before a host's own file and `default` (by UUID, then by address in hex) are answered with one quick no: each
/// costs the client a round trip, so no menu is ever written under those names.
fn searched(file: &str) -> Result<Option<MacAddr>, NotServed> {
    match file {
        "default" => Ok(None),
        _ => Ok(Some(MacAddr::from_bootif(file).map_err(|_| NotServed::UnknownName)?)),
    }
}

fn grub_menu(file: &str, server: Ipv4Addr, architecture: Architecture) -> Result<Served, NotServed> {
    let host = searched(file.strip_suffix(".cfg").ok_or(NotServed::UnknownName)?)?;
    Ok(menu([Layout::grub_menu(server, architecture, host)]))
}

fn ipxe_menu(server: Ipv4Addr, architecture: Architecture, client: Option<MacAddr>) -> Served {
    let hosts = client.into_iter().map(Some).chain([None]);
    menu(hosts.map(|host| Layout::ipxe_menu(server, architecture, host)))
}

fn menu(names: impl IntoIterator<Item = PathBuf>) -> Served {
    let set = Path::new("menus").join(Layout::CURRENT_MENUS_NAME);
    Served {
        candidates: names.into_iter().map(|name| set.join(name)).collect(),
        content: Content::Menu,
        immutable: false,
    }
}

fn cached(name: &str, content: Content, immutable: bool) -> Served {
    Served { candidates: vec![Path::new("cache").join(name)], content, immutable }
}

fn loader(parts: &[&str]) -> Result<Served, NotServed> {
    let plain =
        |part: &&str| !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if parts.is_empty() || !parts.iter().all(plain) || parts == [Layout::LOADERS_TABLE_NAME] {
        return Err(NotServed::UnknownName);
    }
    let file = parts.iter().fold(PathBuf::from("loaders"), |path, part| path.join(part));
    Ok(Served { candidates: vec![file], content: Content::Loader, immutable: false })
}
