//! A server that is gone when the client needs it. The only tests of this group that boot: a kernel is chosen.

use boot_model::event::{Content, EventKind};
use boot_model::report::Report;

use crate::client::{Client, Firmware};
use crate::nbd::Disk;
use crate::room::{BOOT, Boot, MountedStore, Room, Systems};
use crate::servers::{Servers, Service};
use crate::suite::Context;
use crate::{Error, Result};

/// Kernel and initrd of a new generation have arrived, then nobody serves any more. The client says so and runs what it has: under
/// the kernel that runs where that is the old generation's too, else it starts the old one's. When the server is back, it is told.
pub(super) fn server_gone(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    let room = Room::for_client(context.workspace, context.lab(1)?, &systems)?;
    let disk = room.disk()?;
    let mut client = Client::new("client", 0, Firmware::Ipxe);
    client.disk = Some(disk.socket().to_owned());
    let first = room.publish(&systems.first.path)?;
    let servers = room.serve()?;
    room.wait_for_menu(&first)?;
    let mut boot = Boot::start(&room, &servers, &client)?;
    boot.expect_running(&servers, &systems.first)?;
    boot.shut_down(BOOT)?;
    drop(boot);

    let mut scene = Scene { context, systems: &systems, room: &room, servers, client, disk };
    // The same kernel and initrd, another toplevel.
    scene.falls_back(&systems.first_debug()?, 1)?;
    scene.falls_back(&systems.second.path, 2)
}

struct Scene<'a> {
    context: &'a Context<'a>,
    systems: &'a Systems,
    room: &'a Room,
    servers: Servers<'a>,
    client: Client,
    disk: Disk,
}

impl Scene<'_> {
    /// A generation is published and can't be fetched; generation 1 runs, after so many kernels.
    fn falls_back(&mut self, toplevel: &str, kernels: usize) -> Result<()> {
        let generation = self.room.publish(toplevel)?;
        self.room.wait_for_menu(&generation)?;
        let mut boot = Boot::start(self.room, &self.servers, &self.client)?;
        boot.wait_events(&self.servers, "kernel and initrd to be sent", |events| {
            let is_boot_file =
                |kind: &EventKind| matches!(kind, EventKind::Http { content: Content::Boot, complete: true, .. });
            events.iter().filter(|event| is_boot_file(&event.kind)).count() >= 2
        })?;
        self.servers.kill(Service::NarCache);
        boot.machine.wait_for("OFFLINE", BOOT)?;
        boot.machine.wait_for("login:", BOOT)?;
        self.servers.start_one(Service::NarCache)?;
        boot.expect_running(&self.servers, &self.systems.first)?;
        boot.wait_events(&self.servers, "the report that it was offline", |events| {
            let says_so = |report: &Report| report.detail.as_ref().is_some_and(|detail| detail.contains("OFFLINE"));
            events.iter().any(|event| matches!(&event.kind, EventKind::Report { report } if says_so(report)))
        })?;
        let log = self.room.lab.log().since(boot.machine.started());
        // Each kernel brings its initrd.
        let started: Vec<_> = log.iter().filter(|line| line.text.contains("stage 1: start")).collect();
        self.context
            .expect(started.len() == kernels, || format!("{} kernels were started: {started:?}", started.len()))?;
        boot.shut_down(BOOT)?;
        drop(boot);
        MountedStore::mount(self.disk.platter(), self.room.lab.scratch())?
            .verify()
            .map_err(|error| Error::Wrong(format!("after a boot without a server: {error}")))
    }
}
