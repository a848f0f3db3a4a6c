//! From firmware to login prompt, each with an empty disk, and from that disk again.

use super::{Context, Test, control};
use crate::Result;
use crate::client::{Client, Firmware};
use crate::room::{BOOT, Boot, MountedStore, Room, Systems};
use crate::system::Via;

pub(super) fn tests() -> Vec<Test> {
    let mut tests = control::tests();
    tests.push(Test::new("lpxelinux", |context| boots(context, Firmware::PlainPxe, Via::Rookery)));
    tests.push(Test::new("ipxe-fetch-via-nix", |context| boots(context, Firmware::Ipxe, Via::Nix)));
    tests
}

/// From an empty disk to the running system; its store is what stock Nix takes for whole; the same again asks for no NAR.
fn boots(context: &Context<'_>, firmware: Firmware, via: Via) -> Result<()> {
    let systems = Systems::build_for(context.workspace, via)?;
    let room = Room::for_client(context.workspace, context.lab(1)?, &systems)?;
    let disk = room.disk()?;
    let mut client = Client::new("client", 0, firmware);
    client.disk = Some(disk.socket().to_owned());
    let generation = room.publish(&systems.first.path)?;
    let mut servers = room.serve()?;
    room.wait_for_menu(&generation)?;

    let mut boot = Boot::start(&room, &servers, &client)?;
    boot.expect_running(&servers, &systems.first)?;
    let sent = boot.traffic(&servers)?;
    let packed = room.packed_size(systems.first.closure.iter().map(|path| path.path.as_str()))?;
    context
        .expect(sent.nar_bytes == packed, || format!("{sent:?} on an empty disk, where {packed} bytes were missing"))?;
    boot.shut_down(BOOT)?;
    drop(boot);
    MountedStore::mount(disk.platter(), room.lab.scratch())?.verify()?;

    let boot = Boot::start(&room, &servers, &client)?;
    boot.expect_running(&servers, &systems.first)?;
    let sent = boot.traffic(&servers)?;
    context.expect(sent.nar_bytes == 0, || format!("{sent:?} on a full disk"))?;
    drop(boot);
    servers.stop_all()
}
