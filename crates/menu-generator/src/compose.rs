use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddrV4;
use std::sync::Arc;

use boot_model::generation::{Entry, Generation};
use boot_model::intent::{Intent, Next};
use boot_model::{
    Architecture, CommandLine, EraseConsent, GenerationId, GenerationRef, KernelParameter, RoleName, Sha256Digest,
    SpecialisationName,
};
use config::{Config, Host, Role, SerialConsole, Unknown};
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
    /// Whether the memory test is there to be served.
    pub memtest: bool,
}

/// An entry that a menu does not offer, or a consent that it does not carry, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    generation: GenerationRef,
    specialisation: Option<SpecialisationName>,
    loader: Loader,
    /// Whether only the consent to erase is left out.
    consent: bool,
    reason: String,
}

/// What makes one machine's menu differ from its role's, besides the settings that are merged into the role.
#[derive(Debug, Clone, Copy, Default)]
struct Own<'a> {
    default: Option<GenerationId>,
    intent: Option<&'a Intent>,
}

impl Composer<'_> {
    /// A role's menu. What cannot be offered is added to `left_out`.
    pub fn role(&self, role: &Role, left_out: &mut BTreeSet<LeftOut>) -> Menu {
        self.menu(role, Own::default(), left_out)
    }

    /// The menu of one machine of a role, with what is wished for its next boot.
    pub fn host(&self, role: &Role, host: &Host, intent: Option<&Intent>, left_out: &mut BTreeSet<LeftOut>) -> Menu {
        let own = Own { default: host.menu.default, intent };
        self.menu(&host.menu.applied_to(role), own, left_out)
    }

    fn menu(&self, role: &Role, own: Own<'_>, left_out: &mut BTreeSet<LeftOut>) -> Menu {
        let default = self.default_of(role, own);
        let shown = self.shown(role, default);
        let mut offered: Vec<(Row<'_>, Boot)> = shown
            .iter()
            .flat_map(|generation| generation.entries.iter().map(move |entry| (*generation, entry)))
            .filter_map(|(generation, entry)| {
                let is_default = entry.specialisation.is_none() && Some(generation.id) == default;
                match self.boot(role, generation, entry, None) {
                    Ok(boot) => Some((Row { generation, entry, default: is_default }, boot)),
                    Err(reason) => {
                        left_out.insert(self.left_out(generation, entry, reason));
                        None
                    }
                }
            })
            .collect();
        if offered.is_empty() {
            return self.nothing_to_boot(role);
        }
        // Without the named one the newest that this loader can start; `left_out` says so.
        let named = offered.iter().position(|(row, _)| row.default);
        let newest = || offered.iter().position(|(row, _)| row.entry.specialisation.is_none());
        let preselected = named.or_else(newest).unwrap_or(0);
        let consent = own.intent.and_then(Intent::consent);
        let erases = consent.and_then(|consent| self.attach(role, &consent, &mut offered[preselected], left_out));
        let rows: Vec<Row<'_>> = offered.iter().map(|(row, _)| *row).collect();
        let columns = Columns::fitting(&rows);
        let boots = offered.into_iter().map(|(_, boot)| boot);
        let mut items: Vec<Item> = rows.iter().zip(boots).map(|(row, boot)| item(*row, columns, boot)).collect();
        items.extend(role.local_disk.then(|| local_disk(&role.name)));
        let mut menu = Menu {
            heading: role.title.to_string(),
            notes: Vec::new(),
            items,
            default: Some(preselected),
            timeout_seconds: role.menu_timeout_seconds,
            locked: role.locked,
            serial_console: role.serial_console.clone(),
            erases,
        };
        self.add_memtest(&mut menu, role, own);
        if let Some(note) = own.intent.and_then(|intent| self.note(role, intent, menu.erases.is_some())) {
            menu.notes.push(note);
            // Nobody need be there for what was wished.
            menu.timeout_seconds = menu.timeout_seconds.max(1);
        }
        menu
    }

    /// Puts the consent into the entry that is booted unasked, whichever that is for this loader; the generation that then carries it.
    ///
    /// Where it can't be carried the machine boots as usual and the wish stands: a menu must not say what does not happen.
    fn attach(
        &self,
        role: &Role,
        consent: &EraseConsent,
        (row, boot): &mut (Row<'_>, Boot),
        left_out: &mut BTreeSet<LeftOut>,
    ) -> Option<GenerationRef> {
        match self.boot(role, row.generation, row.entry, Some(consent)) {
            Ok(erasing) => {
                *boot = erasing;
                Some(row.generation.reference())
            }
            Err(reason) => {
                left_out.insert(LeftOut { consent: true, ..self.left_out(row.generation, row.entry, reason) });
                None
            }
        }
    }

    fn left_out(&self, generation: &Generation, entry: &Entry, reason: String) -> LeftOut {
        let specialisation = entry.specialisation.clone();
        LeftOut { generation: generation.reference(), specialisation, loader: self.loader, consent: false, reason }
    }

    fn add_memtest(&self, menu: &mut Menu, role: &Role, own: Own<'_>) {
        let wished = own.intent.is_some_and(|intent| intent.next == Next::Memtest);
        if !self.can_test_memory() || !(role.memtest || wished) {
            return;
        }
        let label = "Test the memory (Memtest86+)".to_owned();
        let id = format!("{}-memtest", role.name);
        menu.items.push(Item { id, label, detail: Vec::new(), action: Action::Memtest });
        if wished {
            menu.default = Some(menu.items.len() - 1);
        }
    }

    fn can_test_memory(&self) -> bool {
        self.memtest && self.loader.architecture() == Architecture::X86_64
    }

    /// What the menu says of a wish; nothing where this loader can't fulfil it.
    fn note(&self, role: &Role, intent: &Intent, erases: bool) -> Option<String> {
        match &intent.next {
            Next::Generation { generation } => {
                self.published(role, generation.id).map(|_| format!("Next boot only: generation {}", generation.id))
            }
            Next::Memtest => self.can_test_memory().then(|| "Next boot only: the memory test".to_owned()),
            Next::Reinstall { serial, .. } => {
                erases.then(|| format!("Next boot only: ERASES EVERYTHING on the disk with serial {serial}"))
            }
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
                let locked = roles.values().any(|role| names.contains(&role.name) && role.locked);
                Menu {
                    heading: "What is this machine for?".to_owned(),
                    notes: Vec::new(),
                    items,
                    default: None,
                    timeout_seconds: 0,
                    locked,
                    serial_console: None,
                    erases: None,
                }
            }
        }
    }

    fn role_item(&self, role: &Role, left_out: &mut BTreeSet<LeftOut>) -> Item {
        // Whoever opened the menu is there to choose: nothing in it starts unasked.
        let menu = Menu { timeout_seconds: 0, ..self.role(role, left_out) };
        let label = role.title.to_string();
        Item { id: format!("role-{}", role.name), label, detail: Vec::new(), action: Action::Submenu(menu) }
    }

    /// The generations of the menu, newest first: as many as the role says, and the default. A locked menu has the default alone.
    fn shown(&self, role: &Role, default: Option<GenerationId>) -> Vec<&Generation> {
        let limit = if role.locked { 0 } else { usize::from(role.menu_generations) };
        let shown: Vec<&Generation> = self
            .fitting(role)
            .enumerate()
            .filter(|(n, g)| *n < limit || Some(g.id) == default)
            .map(|(_, g)| g)
            .collect();
        // A lock with nothing behind it would keep the machine from booting at all.
        if shown.is_empty() { self.fitting(role).take(1).collect() } else { shown }
    }

    /// The role's generations whose kernels this loader starts, newest first.
    fn fitting(&self, role: &Role) -> impl Iterator<Item = &Generation> {
        let published = self.snapshot.roles.get(&role.name).into_iter().flat_map(|role| &role.generations);
        let generations = published.map(|published: &Arc<Published>| &published.generation);
        generations.filter(|generation| generation.architecture == self.loader.architecture())
    }

    fn published(&self, role: &Role, id: GenerationId) -> Option<GenerationId> {
        self.fitting(role).map(|generation| generation.id).find(|published| *published == id)
    }

    /// What is booted unasked, as far as it is published: what was wished once, what the host has, what the role has.
    fn default_of(&self, role: &Role, own: Own<'_>) -> Option<GenerationId> {
        let wished = match own.intent.map(|intent| &intent.next) {
            Some(Next::Generation { generation }) if generation.role == role.name => Some(generation.id),
            _ => None,
        };
        let of_role = self.snapshot.roles.get(&role.name)?.default_generation().map(|default| default.generation.id);
        [wished, own.default, of_role].into_iter().flatten().find_map(|id| self.published(role, id))
    }

    fn boot(
        &self,
        role: &Role,
        generation: &Generation,
        entry: &Entry,
        consent: Option<&EraseConsent>,
    ) -> Result<Boot, String> {
        let reference = generation.reference();
        let console = role.serial_console.as_ref().map(SerialConsole::kernel_parameter);
        let site = console.into_iter().chain(role.kernel_parameters.iter().cloned());
        let parameters: Vec<KernelParameter> =
            entry.kernel_parameters.iter().cloned().chain(site).chain(consent.map(KernelParameter::from)).collect();
        let command_line =
            CommandLine::new(&entry.init, &reference, self.server, &parameters).map_err(|error| error.to_string())?;
        if let Some(reason) = self.loader.misreads(&command_line) {
            return Err(format!("{reason}; change boot.kernelParams and publish it again"));
        }
        let name = |digest: Sha256Digest| Layout::boot_url(&reference, digest);
        Ok(Boot { kernel: name(entry.kernel), initrd: name(entry.initrd), command_line })
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
                "`rookery-menu-generator check` there says what is left out, and why.".to_owned(),
            ],
            items,
            default: Some(0),
            timeout_seconds: PATIENCE,
            locked: role.locked,
            serial_console: role.serial_console.clone(),
            erases: None,
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
        locked: false,
        serial_console: None,
        erases: None,
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.generation)?;
        if let Some(name) = &self.specialisation {
            write!(f, " [{name}]")?;
        }
        let Self { loader, reason, .. } = self;
        match self.consent {
            false => write!(f, " is not in the menus for {loader}: {reason}"),
            true => write!(
                f,
                " cannot carry the consent to erase in the menus for {loader}, so nothing is erased: {reason}"
            ),
        }
    }
}
