use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddrV4;

use boot_model::generation::{Entry, Generation};
use boot_model::{CommandLine, GenerationRef, RoleName, Sha256Digest, SpecialisationName};
use config::{Config, Role, Unknown};
use generations::{Layout, Published, Snapshot};

use crate::label::{Columns, Row};
use crate::{Action, Boot, Item, Loader, Menu};

/// Seconds until a menu that has nothing to boot asks again, or lets the machine go on. No client is in a hurry then, and a room of
/// two hundred makes seven requests a second.
const PATIENCE: u16 = 30;

/// Makes the menus that one loader gets from one server address.
#[derive(Debug, Clone, Copy)]
pub struct Composer<'a> {
    /// The site.
    pub config: &'a Config,
    /// What is published.
    pub snapshot: &'a Snapshot,
    /// Who will read the menus: it decides which entries can be offered.
    pub loader: Loader,
    /// The HTTP server that the menus name: the address that the request comes to.
    pub server: SocketAddrV4,
}

/// An entry that a menu does not offer, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    generation: GenerationRef,
    specialisation: Option<SpecialisationName>,
    loader: Loader,
    reason: String,
}

impl Composer<'_> {
    /// A role's menu. What cannot be offered is added to `left_out`.
    pub fn role(&self, role: &Role, left_out: &mut BTreeSet<LeftOut>) -> Menu {
        let shown = self.shown(role);
        let default = self.default_of(role, &shown);
        let offered: Vec<(Row<'_>, Boot)> = shown
            .iter()
            .flat_map(|generation| generation.entries.iter().map(move |entry| (*generation, entry)))
            .filter_map(|(generation, entry)| match self.boot(generation, entry) {
                Ok(boot) => Some((Row { generation, entry, default: false }, boot)),
                Err(reason) => {
                    let specialisation = entry.specialisation.clone();
                    let loader = self.loader;
                    left_out.insert(LeftOut { generation: generation.reference(), specialisation, loader, reason });
                    None
                }
            })
            .collect();
        let named = |(row, _): &(Row<'_>, Boot)| {
            row.entry.specialisation.is_none() && default.is_some_and(|default| default.id == row.generation.id)
        };
        // Without the named one the newest that this loader can start; `left_out` says so.
        let default = offered.iter().position(named);
        let preselected =
            default.or_else(|| offered.iter().position(|(row, _)| row.entry.specialisation.is_none())).unwrap_or(0);
        if offered.is_empty() {
            return self.nothing_to_boot(role);
        }
        let rows: Vec<Row<'_>> =
            offered.iter().enumerate().map(|(n, (row, _))| Row { default: default == Some(n), ..*row }).collect();
        let columns = Columns::fitting(&rows);
        let boots = offered.into_iter().map(|(_, boot)| boot);
        let mut items: Vec<Item> = rows.iter().zip(boots).map(|(row, boot)| item(*row, columns, boot)).collect();
        items.extend(role.local_disk.then(|| local_disk(&role.name)));
        Menu {
            heading: role.title.to_string(),
            notes: Vec::new(),
            items,
            default: Some(preselected),
            timeout_seconds: role.menu_timeout_seconds,
        }
    }

    /// The menu of a machine that no host entry names.
    pub fn unknown(&self, unknown: &Unknown, left_out: &mut BTreeSet<LeftOut>) -> Menu {
        let roles = self.config.roles_by_name();
        match unknown {
            Unknown::Nothing => unregistered(),
            Unknown::Role(name) => roles.get(name).map_or_else(unregistered, |role| self.role(role, left_out)),
            Unknown::Menu(names) => {
                let known = names.iter().filter_map(|name| roles.get(name));
                let items = known.map(|role| self.role_item(role, left_out)).collect();
                let heading = "What is this machine for?".to_owned();
                Menu { heading, notes: Vec::new(), items, default: None, timeout_seconds: 0 }
            }
        }
    }

    fn role_item(&self, role: &Role, left_out: &mut BTreeSet<LeftOut>) -> Item {
        // Whoever opened the menu is there to choose: nothing in it starts unasked.
        let menu = Menu { timeout_seconds: 0, ..self.role(role, left_out) };
        let label = role.title.to_string();
        Item { id: format!("role-{}", role.name), label, detail: Vec::new(), action: Action::Submenu(menu) }
    }

    /// The generations of the menu, newest first: as many as the role says, and the default.
    fn shown(&self, role: &Role) -> Vec<&Generation> {
        let Some(published) = self.snapshot.roles.get(&role.name) else { return Vec::new() };
        let all = || published.generations.iter().map(|published: &std::sync::Arc<Published>| &published.generation);
        let has = |architecture| all().any(|generation| generation.architecture == architecture);
        let Some(architecture) = self.loader.architectures().iter().copied().find(|a| has(*a)) else {
            return Vec::new();
        };
        let default = published.default_generation().map(|default| default.generation.id);
        let fitting = all().filter(|generation| generation.architecture == architecture);
        let limit = usize::from(role.menu_generations);
        fitting.enumerate().filter(|(n, g)| *n < limit || Some(g.id) == default).map(|(_, g)| g).collect()
    }

    fn default_of<'g>(&self, role: &Role, shown: &[&'g Generation]) -> Option<&'g Generation> {
        let default = self.snapshot.roles.get(&role.name)?.default_generation()?;
        shown.iter().copied().find(|generation| generation.id == default.generation.id)
    }

    fn boot(&self, generation: &Generation, entry: &Entry) -> Result<Boot, String> {
        let reference = generation.reference();
        let command_line = CommandLine::new(&entry.init, &reference, self.server, &entry.kernel_parameters)
            .map_err(|error| error.to_string())?;
        if let Some(reason) = self.loader.misreads(&command_line) {
            return Err(format!("{reason}; change boot.kernelParams and publish it again"));
        }
        let url = |digest: Sha256Digest| format!("http://{}/{}", self.server, Layout::boot_url(&reference, digest));
        Ok(Boot { kernel: url(entry.kernel), initrd: url(entry.initrd), command_line })
    }

    fn nothing_to_boot(&self, role: &Role) -> Menu {
        let Role { name, title, .. } = role;
        let again = Item {
            id: format!("{name}-again"),
            label: "Look again".to_owned(),
            detail: Vec::new(),
            action: Action::LookAgain,
        };
        let mut items = vec![again];
        items.extend(role.local_disk.then(|| local_disk(name)));
        Menu {
            heading: title.to_string(),
            notes: vec![
                format!("Nothing is published that the role {name} can boot."),
                format!("On the server: rookery publish {name} <system>"),
                "`rookery-menu-generator check` there says what was left out, and why.".to_owned(),
            ],
            items,
            default: Some(0),
            timeout_seconds: PATIENCE,
        }
    }
}

fn item(row: Row<'_>, columns: Columns, boot: Boot) -> Item {
    let Row { generation, entry, .. } = row;
    let which = entry
        .specialisation
        .as_ref()
        .and_then(|name| generation.entries.iter().position(|entry| entry.specialisation.as_ref() == Some(name)));
    let nth = which.map(|n| format!("-{n}")).unwrap_or_default();
    let published = generation.date.to_string().replace('T', " ");
    let published = published.get(..16).unwrap_or(&published);
    Item {
        id: format!("{}-{}{nth}", generation.role, generation.id),
        label: columns.label(row),
        detail: vec![
            ("System", entry.label.to_string()),
            ("Path", entry.toplevel.base_name().to_owned()),
            (
                "Made",
                format!(
                    "{published} UTC, {} paths, {} MB to fetch at most",
                    generation.closure.paths,
                    generation.closure.file_size.div_ceil(1_000_000)
                ),
            ),
        ],
        action: Action::Boot(boot),
    }
}

fn local_disk(role: &RoleName) -> Item {
    let label = "Start from the local disk".to_owned();
    Item { id: format!("{role}-disk"), label, detail: Vec::new(), action: Action::LocalDisk }
}

fn unregistered() -> Menu {
    let label = "Go on without the network".to_owned();
    Menu {
        heading: "This machine is not registered".to_owned(),
        notes: vec![
            "The boot server knows no machine with the address of this card.".to_owned(),
            "On the server: give it a [[host]] with mac and role in hosts.d, then".to_owned(),
            "`systemctl reload rookery-dhcpd rookery-menu-generator`.".to_owned(),
        ],
        items: vec![Item { id: "disk".to_owned(), label, detail: Vec::new(), action: Action::LocalDisk }],
        default: Some(0),
        timeout_seconds: PATIENCE,
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.generation)?;
        if let Some(name) = &self.specialisation {
            write!(f, " [{name}]")?;
        }
        write!(f, " is not in the menus for {}: {}", self.loader, self.reason)
    }
}
