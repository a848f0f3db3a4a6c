//! A room: a site with published generations, its services, and clients that boot from them.

mod admin;
mod boot;
mod menu;
mod systems;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

pub use boot::Boot;
pub use menu::Menu;
pub use systems::Systems;

use admin::Admin;
use boot_model::GenerationRef;

use crate::client::{Client, Firmware};
use crate::namespace::SERVER;
use crate::nbd::Disk;
use crate::servers::{Host, Servers, Site};
use crate::system::Toplevel;
use crate::{Error, Lab, Result, Workspace};

/// One site in one lab.
#[derive(Debug)]
pub struct Room {
    /// The experiment that it lies in.
    pub lab: Lab,
    /// Its configuration and state.
    pub site: Site,
    workspace: Workspace,
    admin: Admin,
}

/// Room for both generations, and for what a cut fetch leaves behind.
const DISK: u64 = 4 << 30;

/// How long one boot may take: under a minute on two idle cores, several on busy ones.
pub const BOOT: Duration = Duration::from_secs(600);

/// How long the services may take to notice what was published.
const NOTICE: Duration = Duration::from_secs(30);

/// What a BIOS client loads: its place in the package, and the name under which the site serves it.
const LOADERS: [&str; 6] = [
    "/usr/lib/PXELINUX/lpxelinux.0",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
    "/usr/lib/syslinux/modules/bios/menu.c32",
    "/usr/lib/syslinux/modules/bios/vesamenu.c32",
    "/usr/lib/syslinux/modules/bios/libutil.c32",
    "/usr/lib/syslinux/modules/bios/libcom32.c32",
];

impl Room {
    /// Makes a site with loaders, a signing key and one known host (the client with the number 0), and nothing published.
    pub fn open(workspace: &Workspace, systems: &Systems, lab: Lab) -> Result<Self> {
        let client = Client::new("client", 0, Firmware::PlainPxe);
        let host = Host { mac: client.mac(), name: client.name, address: Ipv4Addr::new(10, 77, 0, 50) };
        let site = Site::create(&lab.scratch().join("site"), &[host])?;
        copy(systems.secret_key(), &site.secret_key())?;
        for loader in LOADERS.map(Path::new) {
            let name = loader.file_name().unwrap_or_default();
            copy(loader, &site.state().join("loaders").join(name))?;
        }
        let admin = Admin::new(workspace, site.config(), systems.store(), lab.log().clone())?;
        Ok(Self { lab, site, workspace: workspace.clone(), admin })
    }

    /// Publishes a system, as an administrator does.
    pub fn publish(&self, toplevel: &Toplevel) -> Result<GenerationRef> {
        self.admin.publish(&toplevel.path)
    }

    /// Starts the four services.
    pub fn serve(&self) -> Result<Servers<'_>> {
        Servers::start(&self.lab, &self.workspace, &self.site)
    }

    /// Adds an empty disk to the room.
    pub fn disk(&self) -> Result<Disk> {
        Disk::create(self.lab.scratch(), "disk", DISK)
    }

    /// The menu of the client, as its loader reads it now.
    pub fn menu(&self) -> Result<Menu> {
        let set = self.site.state().join("menus/current").join(SERVER.to_string()).join("pxelinux.cfg");
        let mac = Client::new("client", 0, Firmware::PlainPxe).mac();
        let host = set.join(format!("01-{}", mac.replace(':', "-")));
        let file = if host.exists() { host } else { set.join("default") };
        let text = fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
        Ok(Menu::parse(&text))
    }

    /// Waits until the menu offers a generation: publishing ends before the menu generator has noticed.
    pub fn wait_for_menu(&self, generation: &GenerationRef) -> Result<Menu> {
        self.lab.poll(&format!("a menu with {generation}"), NOTICE, || {
            let menu = self.menu()?;
            Ok(menu.position(generation).is_some().then_some(menu))
        })
    }

    /// What the site's cache says about paths: how many bytes they are, packed.
    pub fn packed_size<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<u64> {
        paths.into_iter().map(|path| self.file_size(path)).sum()
    }

    fn file_size(&self, path: &str) -> Result<u64> {
        let hash = path.rsplit('/').next().and_then(|name| name.split('-').next()).unwrap_or_default();
        let file = self.site.state().join("cache").join(format!("{hash}.narinfo"));
        let text = fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
        let size = text.lines().find_map(|line| line.strip_prefix("FileSize: ")?.parse().ok());
        size.ok_or_else(|| Error::Wrong(format!("{} has no FileSize", file.display())))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(Error::io(format!("copying {} to {}", from.display(), to.display())))?;
    Ok(())
}
