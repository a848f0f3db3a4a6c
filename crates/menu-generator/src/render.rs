use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;

use boot_model::RoleName;
use config::{Config, Hosts, Subnet};
use generations::Snapshot;

use crate::{Composer, LeftOut, Loader};

/// One set of menus: every file, complete and of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The files by their path within the set. Those of one role's hosts share one text.
    pub files: BTreeMap<PathBuf, Arc<str>>,
    /// Entries that are published and not offered.
    pub left_out: BTreeSet<LeftOut>,
}

/// Renders every menu of the site: for each address of this server and each loader one for unknown machines, and one for each host
/// with a role.
///
/// `hosts` are those in force, which may be newer than the configuration's own. All hosts of a role get the same bytes, so that a
/// new generation is rendered, written and synced once for each role and not for each machine.
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
    rendered.files.insert(loader.file(address, None), loader.render(&unknown, server).into());

    let mut of_roles: BTreeMap<&RoleName, Arc<str>> = BTreeMap::new();
    for role in &config.roles {
        let menu = composer.role(role, &mut rendered.left_out);
        of_roles.insert(&role.name, loader.render(&menu, server).into());
    }
    for host in hosts.iter() {
        if let Some(text) = host.role.as_ref().and_then(|role| of_roles.get(role)) {
            rendered.files.insert(loader.file(address, Some(host.mac)), Arc::clone(text));
        }
    }
}
