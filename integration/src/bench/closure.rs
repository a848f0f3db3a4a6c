//! A whole closure's way to an empty disk: the agent from nar-cache, and stock Nix from nginx, over the same packs.
//!
//! Both sides end with a store that Nix takes for whole, so ours includes what stage 2 does: telling the database. Neither knows
//! anything before. In memory neither waits for a medium; on a disk both sync before they call a path theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use boot_model::GenerationRef;
use nix_format::closure::Closure;

use super::measured::Cost;
use super::partition::Partition;
use super::peer::StockNix;
use super::web::Web;
use super::{Peer, Row, floor, percentile};
use crate::client::Agent;
use crate::room::{Room, Systems};
use crate::servers::{LEVEL, Servers, Service};
use crate::system::{GenerationKind, Toplevel, Work, build_elf};
use crate::{Error, Lab, Result, Workspace, mounts};

const ROUNDS: usize = 5;
/// A port of nginx' own.
const NGINX: u16 = 8081;
/// The whole system is synced before a path is registered: as durable as the agent's receipts.
const DURABLE: &str = "sync-before-registering = true";

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    mounts::keep_to_ourselves()?;
    let work = Work::at(&workspace.logs("systems"))?;
    let system = build_elf(&work, GenerationKind::Released, "a")?;
    let room = open(workspace, "closure", &work)?;
    let generation = room.publish(&system.path)?;
    let closure = closure(&room, &generation)?;
    let mut servers = Servers::new(&room.lab, workspace, &room.site);
    servers.start_one(Service::NarCache)?;
    let nginx = Web::nginx(workspace, &room, NGINX, true)?;

    let clients = Clients::at(&room.lab.scratch().join("clients"))?;
    let partition = Partition::at(&workspace.logs("bench").join("closure-clients"))?;
    let contest = |settings, empty| -> Result<Contest<'_>> {
        let nix = StockNix::from(workspace, &nginx, settings)?;
        Ok(Contest { workspace, room: &room, system: &system, generation: &generation, nix, empty })
    };
    let in_memory = || clients.empty();
    let on_disk = || partition.empty();
    let memory = contest("", &in_memory)?;
    let disk = contest(DURABLE, &on_disk)?;

    let (mut ours, mut peers, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ours_on_disk, mut peers_on_disk) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(memory.ours()?);
        peers.push(memory.peer()?);
        floors.push(memory.floor(&closure)?);
        ours_on_disk.push(disk.ours()?);
        peers_on_disk.push(disk.peer()?);
    }
    servers.stop_all()?;

    let (own, peer) = (Cost::median(&ours), Cost::median(&peers));
    let (own_on_disk, peer_on_disk) = (Cost::median(&ours_on_disk), Cost::median(&peers_on_disk));
    let floor = Peer { value: percentile(&floors, 50), name: "decode, hash and write".into(), version: String::new() };
    let what = format!("cold fetch of {} paths, {:.0} MB", closure.paths().len(), closure.nar_size() as f64 / 1e6);
    Ok(vec![
        Row::at_most(format!("{what}, to memory"), "s", own.seconds, memory.nix.peer(peer.seconds), Some(0.5)),
        Row::at_most("  beside the floor", "s", own.seconds, floor, Some(1.3)),
        Row::at_most("  processor", "s", own.cpu_seconds, memory.nix.peer(peer.cpu_seconds), Some(0.75)),
        Row::ours("  peak memory", "MB", own.memory, Some(128.0)),
        Row::at_most("  to a disk, synced", "s", own_on_disk.seconds, disk.nix.peer(peer_on_disk.seconds), Some(1.0)),
    ])
}

/// Both sides on the same kind of medium.
struct Contest<'a> {
    workspace: &'a Workspace,
    room: &'a Room,
    system: &'a Toplevel,
    generation: &'a GenerationRef,
    nix: StockNix,
    /// The root of a client that has nothing.
    empty: &'a dyn Fn() -> Result<PathBuf>,
}

impl Contest<'_> {
    fn ours(&self) -> Result<Cost> {
        let root = (self.empty)()?;
        fetch_and_register(&agent(self.workspace, self.room, &root)?, self.generation, self.system)
    }

    fn peer(&self) -> Result<Cost> {
        let root = (self.empty)()?;
        Cost::of("nix-store", || self.nix.realise(self.room, self.system, &root))
    }

    fn floor(&self, closure: &Closure) -> Result<f64> {
        floor::unpack(&self.room.site.state().join("cache"), closure.paths(), &(self.empty)()?.join("nix/store"))
    }
}

/// zstd's level of packs, and of what others make to be compared with them: a site's default, not that of tests.
pub(super) const SITE_LEVEL: u32 = 3;

/// A room whose packs are made as a site's are.
pub(super) fn open(workspace: &Workspace, name: &str, work: &Work) -> Result<Room> {
    let lab = Lab::open(name, &workspace.logs("bench"), 0)?;
    let room = Room::open(workspace, lab, &Systems::secret_key(workspace)?, work.store(), &[])?;
    let config = room.site.config();
    let text = fs::read_to_string(&config).map_err(Error::io(format!("reading {}", config.display())))?;
    let [tests, site] =
        [LEVEL.to_string(), SITE_LEVEL.to_string()].map(|level| format!("compression-level = {level}\n"));
    let text = text.replace(&tests, &site);
    fs::write(&config, text).map_err(Error::io(format!("writing {}", config.display())))?;
    Ok(room)
}

/// The agent of a client with this root.
pub(super) fn agent<'a>(workspace: &Workspace, room: &'a Room, root: &Path) -> Result<Agent<'a>> {
    Agent::new(&room.lab, workspace, &Systems::secret_key(workspace)?.with_extension("public"), root)
}

/// A fetch, and the registration that stage 2 does. Of the latter only the time is measured; it has no more than one processor.
pub(super) fn fetch_and_register(agent: &Agent<'_>, generation: &GenerationRef, toplevel: &Toplevel) -> Result<Cost> {
    agent.choose(generation, toplevel)?;
    let fetched = Cost::of("rookery-agent", || agent.start_fetch(&[]))?;
    let begun = Instant::now();
    agent.register()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(fetched.then(Cost { seconds, cpu_seconds: seconds, memory: 0.0 }))
}

/// The manifest of a generation.
pub(super) fn closure(room: &Room, generation: &GenerationRef) -> Result<Closure> {
    let path = room.site.state().join("generations").join(generation.to_string()).join("closure");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
    text.parse().map_err(|error| Error::Wrong(format!("{}: {error}", path.display())))
}

/// Where clients' disks lie, one at a time. Dropping it removes them.
pub(super) struct Clients(PathBuf);

impl Clients {
    pub(super) fn at(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).map_err(Error::io(format!("creating {}", directory.display())))?;
        Ok(Self(directory.to_owned()))
    }

    /// The root of a client that has nothing. What the one before had is removed and, on a disk, written out of the way.
    pub(super) fn empty(&self) -> Result<PathBuf> {
        let root = self.0.join("client");
        for directory in [&root, &root.with_extension("home"), &root.with_extension("surroundings")] {
            let _ = fs::remove_dir_all(directory);
        }
        fs::create_dir_all(&root).map_err(Error::io(format!("creating {}", root.display())))?;
        nix::unistd::sync();
        Ok(root)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
