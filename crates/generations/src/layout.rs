use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use boot_model::{
    Architecture, GenerationId, GenerationRef, MacAddr, RoleName, Sha256Digest, StoreHash, generation::CLOSURE_FILE,
};

/// Every path below the state directory. Methods without `_name` are absolute (joined to the root they were given).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below this state directory, `/var/lib/rookery` in production.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is published, a folder a role. Written only by the publisher.
    pub fn generations(&self) -> PathBuf {
        self.root.join("generations")
    }

    /// What is left of removed generations until it is collected. Readers of generations pass it over, as every hidden name.
    pub fn removed(&self) -> PathBuf {
        self.generations().join(".removed")
    }

    /// The lock that publish, follow, remove and gc share (flock).
    pub fn publisher_lock(&self) -> PathBuf {
        self.generations().join(".lock")
    }

    /// A role's generations.
    pub fn role(&self, role: &RoleName) -> PathBuf {
        self.generations().join(role.as_str())
    }

    /// The link that names what the role's menu boots unasked.
    pub fn default_link(&self, role: &RoleName) -> PathBuf {
        self.role(role).join(Self::DEFAULT_NAME)
    }

    /// Who publishes the role: by hand, or followed from a directory of profiles.
    pub fn source(&self, role: &RoleName) -> PathBuf {
        self.role(role).join(Self::SOURCE_NAME)
    }

    /// One published generation.
    pub fn generation(&self, generation: &GenerationRef) -> PathBuf {
        self.role(&generation.role).join(generation.id.to_string())
    }

    /// The binary cache, in the layout of `nix copy --to file://`.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The update bundles, a folder a role. Written only by the publisher.
    pub fn bundles(&self) -> PathBuf {
        self.root.join(Self::BUNDLES_NAME)
    }

    /// The lock of those who make or collect bundles (flock). A lock of its own: making them takes minutes, in which the admin may
    /// want to roll back.
    pub fn bundles_lock(&self) -> PathBuf {
        self.bundles().join(".lock")
    }

    /// What brings a client of `role` from one generation to another.
    pub fn bundle(&self, role: &RoleName, old: GenerationId, new: GenerationId) -> PathBuf {
        self.bundles().join(role.as_str()).join(Self::bundle_name(old, new))
    }

    /// The rendered menus: sets, and `current`, a link to the newest complete one.
    pub fn menus(&self) -> PathBuf {
        self.root.join("menus")
    }

    /// The link to the set of menus in force.
    pub fn current_menus(&self) -> PathBuf {
        self.menus().join(Self::CURRENT_MENUS_NAME)
    }

    /// Boot loaders and their table.
    pub fn loaders(&self) -> PathBuf {
        self.root.join("loaders")
    }

    /// The table of loaders: firmware to file, as JSON.
    pub fn loaders_table(&self) -> PathBuf {
        self.loaders().join(Self::LOADERS_TABLE_NAME)
    }

    /// Wishes about hosts.
    pub fn intents(&self) -> PathBuf {
        self.root.join("intents")
    }

    /// The lease journal and its snapshot. Written only by dhcpd.
    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// The leases promised since the snapshot, appended to and synced.
    pub fn lease_journal(&self) -> PathBuf {
        self.leases().join("journal")
    }

    /// All leases at one moment.
    pub fn lease_snapshot(&self) -> PathBuf {
        self.leases().join("snapshot")
    }

    /// What happened to clients, by service.
    pub fn events(&self, service: &str) -> PathBuf {
        self.root.join("events").join(service)
    }

    /// The name of a role's default link within its folder.
    pub const DEFAULT_NAME: &str = "default";
    /// The name of the file that remembers a role's source, within the role's folder.
    pub const SOURCE_NAME: &str = "source";
    /// The name of the description of a generation, within the generation's folder.
    pub const GENERATION_NAME: &str = "generation.json";
    /// The name of its signatures.
    pub const SIGNATURE_NAME: &str = "generation.json.sig";
    /// The name of the closure manifest.
    pub const CLOSURE_NAME: &str = CLOSURE_FILE;
    /// The folder of kernels and initrds, within the generation's folder.
    pub const BOOT_NAME: &str = "boot";
    /// The name of the link to the current menus, within `menus`.
    pub const CURRENT_MENUS_NAME: &str = "current";
    /// The name of the table of loaders, within `loaders`.
    pub const LOADERS_TABLE_NAME: &str = "loaders.json";
    /// The name of the cache's self-description, within `cache`.
    pub const CACHE_INFO_NAME: &str = "nix-cache-info";
    /// The folder of update bundles, within the state directory.
    pub const BUNDLES_NAME: &str = "bundles";
    /// The folder of packs, within `cache`.
    pub const NAR_NAME: &str = "nar";

    /// A path's narinfo, within `cache`.
    pub fn narinfo_name(hash: StoreHash) -> String {
        format!("{hash}.narinfo")
    }

    /// A path's listing, within `cache`.
    pub fn listing_name(hash: StoreHash) -> String {
        format!("{hash}.ls")
    }

    /// A bundle's name within its role's folder.
    pub fn bundle_name(old: GenerationId, new: GenerationId) -> String {
        format!("{old}..{new}")
    }

    /// The two generations, old and new, that a bundle's name says; `None` if it is no such name.
    pub fn parse_bundle_name(name: &str) -> Option<(GenerationId, GenerationId)> {
        let (old, new) = name.split_once("..")?;
        Some((old.parse().ok()?, new.parse().ok()?))
    }

    /// The URL path under which a kernel or initrd is served, without the leading slash.
    pub fn boot_url(generation: &GenerationRef, digest: Sha256Digest) -> String {
        format!("boot/{generation}/{digest}")
    }

    /// A pxelinux configuration within one set of menus: the default one, or a host's.
    pub fn pxelinux_menu(server: Ipv4Addr, host: Option<MacAddr>) -> PathBuf {
        Path::new(&server.to_string()).join("pxelinux.cfg").join(bootif_name(host))
    }

    /// A configuration of syslinux.efi within one set of menus: the default one, or a host's.
    pub fn syslinux_efi_menu(server: Ipv4Addr, host: Option<MacAddr>) -> PathBuf {
        Path::new(&server.to_string()).join("efi").join(bootif_name(host))
    }

    /// An iPXE script within one set of menus, for machines with kernels of this architecture: the default one, or a host's.
    pub fn ipxe_menu(server: Ipv4Addr, architecture: Architecture, host: Option<MacAddr>) -> PathBuf {
        let name = host.map_or_else(|| "default".to_owned(), MacAddr::hyphenated);
        let folder = match architecture {
            Architecture::X86_64 => "ipxe",
            Architecture::Aarch64 => "ipxe-arm64",
        };
        Path::new(&server.to_string()).join(folder).join(format!("{name}.ipxe"))
    }

    /// The file that GRUB reads first, within one set of menus: it leads to the machine's own.
    pub fn grub_start(server: Ipv4Addr) -> PathBuf {
        Path::new(&server.to_string()).join("grub/grub.cfg")
    }

    /// A GRUB configuration within one set of menus, for machines with kernels of this architecture: the default one, or a host's.
    pub fn grub_menu(server: Ipv4Addr, architecture: Architecture, host: Option<MacAddr>) -> PathBuf {
        let name = format!("{}.cfg", bootif_name(host));
        Path::new(&server.to_string()).join("grub").join(Self::grub_cpu(architecture)).join(name)
    }

    /// What GRUB calls its own architecture (`$grub_cpu`).
    pub const fn grub_cpu(architecture: Architecture) -> &'static str {
        match architecture {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "arm64",
        }
    }

    /// A wish about a machine's next boot.
    pub fn intent(&self, mac: MacAddr) -> PathBuf {
        self.intents().join(format!("{}.json", mac.hyphenated()))
    }

    /// The memory test for machines with BIOS, within `loaders`.
    pub const MEMTEST_BIOS_NAME: &str = "memtest-bios";
    /// The memory test for machines with UEFI, within `loaders`.
    pub const MEMTEST_EFI_NAME: &str = "memtest-efi";
}

/// As the loaders write it: hardware type 01 (Ethernet), then the card.
fn bootif_name(host: Option<MacAddr>) -> String {
    host.map_or_else(|| "default".to_owned(), |mac| format!("01-{}", mac.hyphenated()))
}
