//! The closure's way onto the disk, by the agent alone: the real agent against the real nar-cache over a directory or a file system
//! of this machine, where a boot would prove nothing more. What takes a machine, another kernel above all, is in `offline`.

mod damage;
mod full;
mod offline;
mod transfer;

use std::path::Path;
use std::time::Duration;

use boot_model::GenerationRef;

pub(super) use damage::{flip, largest_pack};

use super::{Context, Test};
use crate::Result;
use crate::client::Agent;
use crate::room::{Room, Systems};
use crate::servers::{Mark, Servers, Service};
use crate::system::Toplevel;
use crate::timeline::Traffic;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("first-fetch-then-nothing", transfer::first_then_nothing),
        Test::new("update-by-bundle", transfer::update_by_bundle),
        Test::new("server-killed-20-times", transfer::server_killed),
        Test::new("disk-full", full::disk_full),
        Test::new("corrupt-pack", damage::pack),
        Test::new("corrupt-bundle", damage::bundle),
        Test::new("corrupt-receipts", damage::receipts),
        Test::new("corrupt-database", damage::database),
        Test::new("server-gone-after-the-kernel", offline::server_gone),
    ]
}

/// A room with generation 1 published, nar-cache, and the agent of one client.
struct Scene<'a> {
    systems: &'a Systems,
    room: &'a Room,
    servers: Servers<'a>,
    agent: Agent<'a>,
    first: GenerationRef,
}

/// nar-cache writes its events when it has sent an answer, which the client may see first.
const SETTLED: Duration = Duration::from_secs(10);

impl Scene<'_> {
    /// A boot as far as it concerns the disk: fetch, then what stage 2 does. The store is what stock Nix takes for whole.
    fn boot(&self, generation: &GenerationRef, toplevel: &Toplevel) -> Result<()> {
        self.agent.choose(generation, toplevel)?;
        self.agent.fetch(&[])?.expect_success()?;
        self.agent.register()?;
        self.agent.verify(toplevel)
    }

    /// What was sent since a mark must come to hold.
    fn expect_sent(&self, since: &Mark, what: &str, holds: impl Fn(&Traffic) -> bool) -> Result<()> {
        let mut seen = Traffic::default();
        let settled = self.room.lab.poll(what, SETTLED, || {
            seen = Traffic::of(&self.servers.events_since(since)?);
            Ok(holds(&seen).then_some(()))
        });
        if settled.is_err() {
            self.room.lab.log().note("lab", format!("what was sent: {seen:?}"));
        }
        settled
    }

    /// What a toplevel weighs, packed.
    fn packed_size(&self, toplevel: &Toplevel) -> Result<u64> {
        self.room.packed_size(toplevel.closure.iter().map(|path| path.path.as_str()))
    }
}

/// Over a directory in memory.
fn scene(context: &Context<'_>, play: impl FnOnce(Scene<'_>) -> Result<()>) -> Result<()> {
    scene_at(context, |room| Ok(room.lab.scratch().join("client")), play)
}

/// Over whatever `root` makes.
fn scene_at<Root: AsRef<Path>>(
    context: &Context<'_>,
    root: impl FnOnce(&Room) -> Result<Root>,
    play: impl FnOnce(Scene<'_>) -> Result<()>,
) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    let room = Room::for_client(context.workspace, context.lab(0)?, &systems)?;
    let first = room.publish(&systems.first.path)?;
    let mut servers = Servers::new(&room.lab, context.workspace, &room.site);
    servers.start_one(Service::NarCache)?;
    let root = root(&room)?; // kept: it may be a mount
    let agent = Agent::new(&room.lab, context.workspace, &systems.public_key(), root.as_ref())?;
    play(Scene { systems: &systems, room: &room, servers, agent, first })
}
