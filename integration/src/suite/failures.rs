//! What goes wrong, and what must happen then.

use std::fs;
use std::time::Duration;

use boot_model::report::Step;

use super::closure::{flip, largest_pack};
use super::{Context, Test};
use crate::client::{Client, Firmware};
use crate::nbd::Disk;
use crate::room::{BOOT, Boot, MountedStore, Room, Systems};
use crate::servers::{Servers, Service};
use crate::{Error, Result};

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("server-stopped-in-mid-fetch", server_stopped),
        Test::new("nar-with-a-flipped-byte", flipped_byte),
        Test::new("wrong-signing-key", wrong_key),
        Test::new("signed-but-unpublished-init", unpublished_init),
        Test::new("foreign-disk-with-partitions", |context| foreign_disk(context, windows)),
        Test::new("foreign-disk-without-partitions", |context| foreign_disk(context, whole_disk_ext4)),
        Test::new("reinstalled-once", reinstalled_once),
    ];
    tests.extend(POWER_CUTS.map(|name| Test::new(name, power_cut)));
    tests
}

const POWER_CUTS: [&str; 10] = [
    "power-cut-1",
    "power-cut-2",
    "power-cut-3",
    "power-cut-4",
    "power-cut-5",
    "power-cut-6",
    "power-cut-7",
    "power-cut-8",
    "power-cut-9",
    "power-cut-10",
];

/// A cut comes up to so many milliseconds after a path was sent: in its unpacking, in the next download, in a sync.
const AFTER_A_PATH: u64 = 500;

/// A room with generation 1 published and served, and one client.
struct Scene<'a> {
    systems: &'a Systems,
    room: &'a Room,
    servers: Servers<'a>,
    disk: Disk,
    client: Client,
}

impl Scene<'_> {
    fn boot(&self) -> Result<Boot<'_>> {
        Boot::start(self.room, &self.servers, &self.client)
    }

    /// The client boots generation 1 and its store is whole.
    fn boots_well(&self) -> Result<()> {
        let mut boot = self.boot()?;
        boot.expect_running(&self.servers, &self.systems.first)?;
        boot.shut_down(BOOT)?;
        drop(boot);
        MountedStore::mount(self.disk.platter(), self.room.lab.scratch())?.verify()
    }
}

fn scene(context: &Context<'_>, systems: &Systems, play: impl FnOnce(Scene<'_>) -> Result<()>) -> Result<()> {
    let room = Room::for_client(context.workspace, context.lab(1)?, systems)?;
    let disk = room.disk()?;
    let mut client = Client::new("client", 0, Firmware::Ipxe);
    client.disk = Some(disk.socket().to_owned());
    let generation = room.publish(&systems.first.path)?;
    let servers = room.serve()?;
    room.wait_for_menu(&generation)?;
    play(Scene { systems, room: &room, servers, disk, client })
}

/// The client says that nobody answers, and the fetch goes on when the server is back.
fn server_stopped(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    scene(context, &systems, |mut scene| {
        let boot = Boot::start(scene.room, &scene.servers, &scene.client)?;
        boot.wait_nars(&scene.servers, 1)?;
        let killed = scene.room.lab.log().place();
        scene.servers.kill(Service::NarCache);
        boot.machine.wait_since(killed, "trying again in", BOOT)?;
        scene.servers.start_one(Service::NarCache)?;
        boot.expect_running(&scene.servers, &systems.first)
    })
}

/// The client refuses the path, says so, and boots once the cache is whole again.
fn flipped_byte(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    scene(context, &systems, |scene| {
        let victim = largest_pack(scene.room)?;
        let at = context.dice().below(fs::metadata(&victim).map_err(Error::io("looking at a pack"))?.len());
        flip(&victim, at)?;
        let boot = scene.boot()?;
        let sentence = boot.expect_failure(&scene.servers, Step::Fetch)?;
        context.expect(!sentence.is_empty(), || "the client gave no reason".into())?;
        drop(boot);
        flip(&victim, at)?;
        scene.boots_well()
    })
}

/// A site that signs with another key than the one that the client's initrd trusts.
fn wrong_key(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?.signed_by_a_stranger(context.workspace)?;
    scene(context, &systems, |scene| {
        let boot = scene.boot()?;
        boot.expect_failure(&scene.servers, Step::Fetch)?;
        let sent = boot.traffic(&scene.servers)?;
        context.expect(sent.nar_bytes == 0, || format!("{sent:?} were taken from a stranger"))
    })
}

/// A menu that names a path of the cache, whose signature is good, as `init=`: it is no entry of the generation.
fn unpublished_init(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    scene(context, &systems, |mut scene| {
        // It would put the menu right again.
        scene.servers.stop(Service::MenuGenerator)?;
        let toplevel = &systems.first.path;
        let other = systems.first.closure.iter().find(|path| path.path != *toplevel);
        let other = other.ok_or_else(|| Error::Wrong("the closure has but one path".into()))?;
        scene.room.replace_in_menus(&format!("init={toplevel}/init"), &format!("init={}/init", other.path))?;
        let mut boot = scene.boot()?;
        let sentence = boot.expect_failure(&scene.servers, Step::Fetch)?;
        let refused = format!("has no entry that starts {}/init", other.path);
        context.expect(sentence.contains(&refused), || format!("it was refused with {sentence:?}"))?;
        let sent = boot.traffic(&scene.servers)?;
        context.expect(sent.fetched_bytes() == sent.facts_bytes, || format!("{sent:?} for what nobody published"))?;
        boot.machine.cut_power();
        drop(boot);
        let names = MountedStore::mount(scene.disk.platter(), scene.room.lab.scratch())?.names()?;
        context.expect(names.is_empty(), || format!("{names:?} was written for what nobody published"))
    })
}

/// A disk that is not ours stays as it is, to the last bit.
fn foreign_disk(context: &Context<'_>, fill: fn(&Room, &Disk) -> Result<()>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    scene(context, &systems, |scene| {
        fill(scene.room, &scene.disk)?;
        let before = scene.disk.fingerprint()?;
        let mut boot = scene.boot()?;
        boot.expect_failure(&scene.servers, Step::Disk)?;
        // Its layout says `halt`.
        boot.machine.wait_for("stays as it is; Enter, on any console", BOOT)?;
        boot.machine.cut_power();
        context.expect(scene.disk.counts().written == 0, || "the disk was written to".into())?;
        context.expect(scene.disk.fingerprint()? == before, || "the disk has changed".into())
    })
}

/// A person consents to the erasing of a disk, and the report that would take the consent out of the menu is lost: the next boots find it
/// there still, and erase nothing.
fn reinstalled_once(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    scene(context, &systems, |mut scene| {
        scene.boots_well()?;
        scene.room.reinstall_once()?;
        scene.servers.stop(Service::MenuGenerator)?;
        for (said, is_empty) in [("was erased", true), ("it was not erased", false)] {
            let mut boot = scene.boot()?;
            boot.machine.wait_for(said, BOOT)?;
            boot.expect_running(&scene.servers, &systems.first)?;
            let sent = boot.traffic(&scene.servers)?;
            context
                .expect((sent.nar_bytes > 0) == is_empty, || format!("the client says {said:?} and took {sent:?}"))?;
            boot.shut_down(BOOT)?;
        }
        MountedStore::mount(scene.disk.platter(), scene.room.lab.scratch())?.verify()
    })
}

/// The power goes at a random moment of the first fetch (by what was sent, so that it is one on a slow machine too), and the disk forgets a random part of what it had not flushed. The
/// next boot must be a good one.
fn power_cut(context: &Context<'_>) -> Result<()> {
    let systems = Systems::build(context.workspace)?;
    scene(context, &systems, |scene| {
        let mut dice = context.dice();
        let mut boot = scene.boot()?;
        boot.wait_step(&scene.servers, Step::Mount)?;
        let sent = dice.below(systems.first.closure.len() as u64 + 1);
        boot.wait_nars(&scene.servers, sent)?;
        scene.room.lab.pause(Duration::from_millis(dice.below(AFTER_A_PATH)))?;
        boot.machine.cut_power();
        drop(boot);
        let (kept, lost) = scene.disk.cut(&mut dice, 50.0)?;
        let cut = format!("cut after {sent} paths; {kept} unflushed sectors were kept, {lost} are lost");
        scene.room.lab.log().note("lab", cut);
        scene.boots_well()
    })
}

/// A protective MBR's elder brother: one NTFS partition, as a Windows of 2010 leaves it.
fn windows(_: &Room, disk: &Disk) -> Result<()> {
    let mut sector = [0; 512];
    sector[446..462].copy_from_slice(&[0x80, 0x20, 0x21, 0, 0x07, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0xf0, 0x7f, 0]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.put(0, &sector)?;
    let mut boot_sector = [0; 512];
    boot_sector[..11].copy_from_slice(b"\xeb\x52\x90NTFS    ");
    boot_sector[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.put(2048 * 512, &boot_sector)
}

/// A file system on the bare disk: no table says that something is there.
fn whole_disk_ext4(room: &Room, disk: &Disk) -> Result<()> {
    let image = room.lab.scratch().join("ext4");
    let make = || {
        let file = fs::File::create(&image)?;
        file.set_len(64 << 20)
    };
    make().map_err(Error::io("making an image"))?;
    crate::process::run(std::process::Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&image))?;
    disk.put(0, &fs::read(&image).map_err(Error::io("reading an image"))?)
}
