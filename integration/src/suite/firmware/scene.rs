use std::path::{Path, PathBuf};

use super::network::{Network, Surroundings};
use crate::client::{Card, Client, Firmware, Machine};
use crate::room::{MarkerStore, MarkerSystem, Room, Systems};
use crate::servers::Site;
use crate::suite::Context;
use crate::{Result, Workspace};

/// What a test of firmware puts together: clients, the loader that they are sent, and the network between them and the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    clients: &'static [Firmware],
    card: Card,
    loader: Option<&'static str>,
    pub(super) network: Network,
}

/// The same, put together: all that must be there before the clients are switched on.
pub(super) struct Stage {
    // Before the lab, in whose namespace its cables end.
    _surroundings: Surroundings,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) room: Room,
}

/// What the clients boot into.
struct Parts {
    system: &'static str,
    kernel: PathBuf,
    busybox: PathBuf,
    console: &'static str,
    /// Where loaders are looked for besides the host's own packages.
    loaders: Option<PathBuf>,
}

impl Scene {
    /// These clients with virtio cards, the usual loaders, and a server that gives the addresses.
    pub(super) const fn of(clients: &'static [Firmware]) -> Self {
        Self { clients, card: Card::Virtio, loader: None, network: Network::Plain }
    }

    /// With another network card.
    pub(super) const fn card(self, card: Card) -> Self {
        Self { card, ..self }
    }

    /// With another loader, in the words of `rookery loaders install --loader`.
    pub(super) const fn loader(self, loader: &'static str) -> Self {
        Self { loader: Some(loader), ..self }
    }

    /// With another network.
    pub(super) const fn network(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// Whether the loader is GRUB, the only one for Arm.
    pub(super) fn loads_grub(&self) -> bool {
        self.loader.is_some_and(|loader| loader.ends_with("=grub")) || self.is_arm64()
    }

    /// Puts it together, with a kernel that Debian signed.
    pub(super) fn set(&self, context: &Context<'_>) -> Result<Stage> {
        self.set_with(context, Parts::of(context.workspace, self.is_arm64())?)
    }

    /// As [`Scene::set`], with this kernel.
    pub(super) fn set_with_kernel(&self, context: &Context<'_>, kernel: &Path) -> Result<Stage> {
        let parts = Parts::of(context.workspace, self.is_arm64())?;
        self.set_with(context, Parts { kernel: kernel.to_owned(), ..parts })
    }

    fn set_with(&self, context: &Context<'_>, parts: Parts) -> Result<Stage> {
        let lab = context.lab(self.clients.len())?;
        let clients: Vec<Client> =
            (0..).zip(self.clients).map(|(number, firmware)| self.client(number, *firmware)).collect();
        let surroundings = self.network.build(context.workspace, &lab, &clients)?;
        let store = MarkerStore::create(lab.scratch())?;
        let toplevel = store.add(&MarkerSystem {
            system: parts.system,
            kernel: &parts.kernel,
            busybox: &parts.busybox,
            console: parts.console,
            version: "1",
        })?;
        let site = Site::with_subnets(&lab.scratch().join("site"), self.network.subnets(), &[])?;
        let key = Systems::secret_key(context.workspace)?;
        let room = Room::of(context.workspace, lab, site, &key, store.root().to_owned())?;
        room.install_loaders(&self.loader_words(&parts))?;
        room.publish(&toplevel)?;
        Ok(Stage { _surroundings: surroundings, network: self.network, clients, room })
    }

    fn client(&self, number: u8, firmware: Firmware) -> Client {
        let mut client = Client::new(&format!("client{number}"), number, firmware);
        client.card = self.card;
        // AAVMF alone takes more than a PC's firmware does.
        client.memory = if self.is_arm64() { 1024 } else { 512 };
        client
    }

    /// The command line of `rookery loaders install`.
    fn loader_words<'a>(&self, parts: &'a Parts) -> Vec<&'a str> {
        let from = parts.loaders.as_deref().and_then(Path::to_str);
        let from = from.map(|place| ["--from", "/", "--from", place]).into_iter().flatten();
        from.chain(self.loader.map(|loader| ["--loader", loader]).into_iter().flatten()).collect()
    }

    fn is_arm64(&self) -> bool {
        self.clients.contains(&Firmware::UefiArm64)
    }
}

impl Stage {
    /// Switches all clients on.
    pub(super) fn switch_on(&self) -> Result<Vec<Machine>> {
        self.clients.iter().map(|client| Machine::start(&self.room.lab, client)).collect()
    }
}

impl Parts {
    fn of(workspace: &Workspace, arm64: bool) -> Result<Self> {
        if arm64 {
            let parts = Systems::arm64(workspace)?;
            return Ok(Self {
                system: "aarch64-linux",
                kernel: parts.kernel()?,
                busybox: parts.busybox(),
                console: "ttyAMA0",
                loaders: Some(parts.root().to_owned()),
            });
        }
        Ok(Self {
            system: "x86_64-linux",
            kernel: Systems::kernel(workspace)?,
            busybox: "/bin/busybox".into(),
            console: "ttyS0,115200",
            loaders: None,
        })
    }
}
