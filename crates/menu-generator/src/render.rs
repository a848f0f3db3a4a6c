use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;

use boot_model::intent::Intent;
use boot_model::{GenerationRef, MacAddr, RoleName};
use config::{Config, Hosts, Subnet};
use generations::{Layout, Snapshot};

use crate::{Composer, LeftOut, Loader, grub};

/// All that menus are made of, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The site.
    pub config: &'a Config,
    /// The hosts in force, which may be newer than the configuration's own.
    pub hosts: &'a Hosts,
    /// What is published.
    pub snapshot: &'a Snapshot,
    /// What is wished for the next boot of some machines.
    pub intents: &'a BTreeMap<MacAddr, Intent>,
    /// Whether the memory test is installed.
    pub memtest: bool,
}

/// One set of menus: every file, complete and of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The files by their path within the set. Those of one role's hosts share one text.
    pub files: BTreeMap<PathBuf, Arc<str>>,
    /// Entries that are published and not offered.
    pub left_out: BTreeSet<LeftOut>,
    /// The generations that carry a machine's consent to erase a disk, in the menu of some loader.
    pub erasing: BTreeMap<MacAddr, BTreeSet<GenerationRef>>,
}

/// Renders every menu of the site: for each address of this server and each loader one for unknown machines, and one for each host
/// with a role.
///
/// All hosts of a role that differ in nothing get the same bytes, so that a new generation is rendered, written and synced once for
/// each role and not for each machine.
pub fn render(sources: &Sources<'_>) -> Rendered {
    let mut rendered = Rendered::default();
    for subnet in &sources.config.subnets {
        let address = subnet.address.address();
        // Subnets that relay agents forward from share an address, and with it whatever is said there.
        if rendered.files.insert(Layout::grub_start(address), grub::start(address).into()).is_some() {
            continue;
        }
        for loader in Loader::ALL {
            render_for(sources, subnet, loader, &mut rendered);
        }
    }
    rendered
}

fn render_for(sources: &Sources<'_>, subnet: &Subnet, loader: Loader, rendered: &mut Rendered) {
    let Sources { config, hosts, snapshot, intents, memtest } = *sources;
    let address = subnet.address.address();
    let server = SocketAddrV4::new(address, config.nar_cache.port);
    let composer = Composer { config, snapshot, loader, server, memtest };

    let unknown = composer.unknown(&subnet.unknown, &mut rendered.left_out);
    rendered.files.insert(loader.file(address, None), loader.render(&unknown, server).into());

    let roles = config.roles_by_name();
    let mut of_roles: BTreeMap<&RoleName, Arc<str>> = BTreeMap::new();
    for role in &config.roles {
        let menu = composer.role(role, &mut rendered.left_out);
        of_roles.insert(&role.name, loader.render(&menu, server).into());
    }
    for host in hosts.iter() {
        let Some(role) = host.role.as_ref().and_then(|name| roles.get(name)) else { continue };
        let intent = intents.get(&host.mac);
        let text = if host.menu.is_empty() && intent.is_none() {
            Arc::clone(&of_roles[&role.name])
        } else {
            let menu = composer.host(role, host, intent, &mut rendered.left_out);
            if let Some(generation) = &menu.erases {
                rendered.erasing.entry(host.mac).or_default().insert(generation.clone());
            }
            loader.render(&menu, server).into()
        };
        rendered.files.insert(loader.file(address, Some(host.mac)), text);
    }
}
