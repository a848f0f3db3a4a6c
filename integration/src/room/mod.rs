//! A room: a site with published generations, its services, and clients that boot from them.

mod admin;
mod boot;
mod marker;
mod menu;
mod store;
mod systems;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use boot::Boot;
pub use marker::{MARKER, MarkerStore, MarkerSystem};
pub use menu::Menu;
pub use store::MountedStore;
pub use systems::Systems;

use admin::Admin;
use boot_model::GenerationRef;

use crate::client::{Client, DISK_SERIAL, Firmware};
use crate::namespace::SERVER;
use crate::nbd::Disk;
use crate::servers::{Host, ROLE, Servers, Service, Site};
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

/// A client reads a bundle's beginning for its index; if contents lie there too, they come again with their path.
pub const BUNDLE_AGAIN: u64 = 64 << 10;

/// How long the services may take to notice what was published.
const NOTICE: Duration = Duration::from_secs(30);

impl Room {
    /// Makes a site with loaders and these hosts, which signs with a key and publishes from a store. Nothing is published yet.
    pub fn open(workspace: &Workspace, lab: Lab, secret_key: &Path, store: PathBuf, hosts: &[Host]) -> Result<Self> {
        let site = Site::create(&lab.scratch().join("site"), hosts)?;
        Self::of(workspace, lab, site, secret_key, store)
    }

    /// As [`Room::open`], for a site that is written already.
    pub fn of(workspace: &Workspace, lab: Lab, site: Site, secret_key: &Path, store: PathBuf) -> Result<Self> {
        let key = site.secret_key();
        fs::copy(secret_key, &key).map_err(Error::io(format!("copying a key to {}", key.display())))?;
        let admin = Admin::new(workspace, site.config(), store, lab.log().clone())?;
        admin.install_loaders(&[])?;
        Ok(Self { lab, site, workspace: workspace.clone(), admin })
    }

    /// As [`Room::open`], for the two systems and one host: the client with the number 0.
    pub fn for_client(workspace: &Workspace, lab: Lab, systems: &Systems) -> Result<Self> {
        let client = Client::new("client", 0, Firmware::PlainPxe);
        let host = Host { mac: client.mac(), name: client.name, address: Ipv4Addr::new(10, 77, 0, 50) };
        Self::open(workspace, lab, &systems.key, systems.store(), &[host])
    }

    /// Installs the boot loaders again, these instead of the usual ones.
    pub fn install_loaders(&self, wishes: &[&str]) -> Result<()> {
        self.admin.install_loaders(wishes)
    }

    /// Publishes a toplevel of the store, as an administrator does.
    pub fn publish(&self, toplevel: &str) -> Result<GenerationRef> {
        self.publish_timed(toplevel).map(|(generation, _)| generation)
    }

    /// As [`Room::publish`], with the seconds until clients could have booted it.
    pub fn publish_timed(&self, toplevel: &str) -> Result<(GenerationRef, f64)> {
        self.admin.publish(toplevel)
    }

    /// Makes a generation, by its number, the one that is booted unasked.
    pub fn set_default(&self, number: u64) -> Result<()> {
        self.admin.set_default(number)
    }

    /// Consents to the erasing of the client's disk in its next boot, as an administrator does, and waits until its menu carries that.
    pub fn reinstall_once(&self) -> Result<()> {
        self.admin.reinstall_once("client", DISK_SERIAL)?;
        self.lab
            .poll("a menu with a consent to erase", NOTICE, || Ok(self.menu()?.gives("rookery.erase=").then_some(())))
    }

    /// Starts the four services.
    pub fn serve(&self) -> Result<Servers<'_>> {
        let mut servers = Servers::new(&self.lab, &self.workspace, &self.site);
        Service::ALL.into_iter().try_for_each(|service| servers.start_one(service))?;
        Ok(servers)
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

    /// Falsifies every menu in force.
    pub fn replace_in_menus(&self, from: &str, to: &str) -> Result<()> {
        let mut directories = vec![self.site.state().join("menus/current")];
        let mut replaced = 0;
        while let Some(directory) = directories.pop() {
            let doing = || format!("falsifying {}", directory.display());
            for entry in fs::read_dir(&directory).map_err(Error::io(doing()))? {
                let path = entry.map_err(Error::io(doing()))?.path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).map_err(Error::io(doing()))?;
                replaced += text.matches(from).count();
                fs::write(&path, text.replace(from, to)).map_err(Error::io(doing()))?;
            }
        }
        if replaced == 0 { Err(Error::Wrong(format!("no menu has {from}"))) } else { Ok(()) }
    }

    /// What the site's cache says about paths: how many bytes they are, packed.
    pub fn packed_size<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<u64> {
        paths.into_iter().map(|path| self.file_size(path)).sum()
    }

    /// Where the publisher puts the bundle that makes one generation out of another.
    pub fn bundle(&self, from: &GenerationRef, to: &GenerationRef) -> PathBuf {
        self.site.state().join("bundles").join(ROLE).join(format!("{}..{}", from.id, to.id))
    }

    /// How many bytes that bundle has.
    pub fn bundle_size(&self, from: &GenerationRef, to: &GenerationRef) -> Result<u64> {
        let file = self.bundle(from, to);
        fs::metadata(&file).map(|file| file.len()).map_err(Error::io(format!("looking at {}", file.display())))
    }

    fn file_size(&self, path: &str) -> Result<u64> {
        let hash = path.rsplit('/').next().and_then(|name| name.split('-').next()).unwrap_or_default();
        let file = self.site.state().join("cache").join(format!("{hash}.narinfo"));
        let text = fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
        let size = text.lines().find_map(|line| line.strip_prefix("FileSize: ")?.parse().ok());
        size.ok_or_else(|| Error::Wrong(format!("{} has no FileSize", file.display())))
    }
}
