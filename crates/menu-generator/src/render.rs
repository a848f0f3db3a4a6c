use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;

use boot_model::RoleName;
use config::{Config, Hosts, Subnet};
use generations::Snapshot;

use crate::{Composer, LeftOut, Loader};

/// One set of menus: every file, complete and of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The files by their path within the set.
    pub files: BTreeMap<PathBuf, String>,
    /// Entries that are published and not offered.
    pub left_out: BTreeSet<LeftOut>,
}

/// Renders every menu of the site: for each address of this server and each loader one for unknown machines, and one for each host
/// with a role.
///
/// `hosts` are those in force, which may be newer than the configuration's own. A role's entries are rendered once; its hosts'
/// files differ in their heads.
pub fn render(config: &Config, hosts: &Hosts, snapshot: &Snapshot) -> Rendered {
    let mut rendered = Rendered::default();
    for subnet in &config.subnets {
        for loader in Loader::ALL {
            render_for(config, hosts, snapshot, subnet, loader, &mut rendered);
        }
    }
    rendered
}

fn render_for(
    config: &Config,
    hosts: &Hosts,
    snapshot: &Snapshot,
    subnet: &Subnet,
    loader: Loader,
    rendered: &mut Rendered,
) {
    let address = subnet.address.address();
    let server = SocketAddrV4::new(address, config.nar_cache.port);
    let composer = Composer { config, snapshot, loader, server };

    let unknown = composer.unknown(&subnet.unknown, &mut rendered.left_out);
    let text = loader.head(&unknown.heading) + &loader.body(&unknown, server);
    rendered.files.insert(loader.file(address, None), text);

    let mut bodies: BTreeMap<&RoleName, (String, String)> = BTreeMap::new();
    for role in &config.roles {
        let menu = composer.role(role, &mut rendered.left_out);
        bodies.insert(&role.name, (loader.body(&menu, server), menu.heading));
    }
    for host in hosts.iter() {
        let Some((body, heading)) = host.role.as_ref().and_then(|role| bodies.get(role)) else { continue };
        let head = loader.head(&format!("{heading} - {}", host.name));
        rendered.files.insert(loader.file(address, Some(host.mac)), head + body);
    }
}
