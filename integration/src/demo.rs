//! The demonstration: one client, from an empty disk to the generation that is chosen in its menu.

use std::path::PathBuf;
use std::time::Instant;

use boot_model::GenerationRef;
use serde::Serialize;

use crate::client::{Client, Firmware};
use crate::nbd::Disk;
use crate::room::{BOOT, BUNDLE_AGAIN, Boot, Room, Systems};
use crate::servers::Servers;
use crate::system::Toplevel;
use crate::timeline::{Timeline, Traffic};
use crate::{Error, Lab, Result, Workspace, interrupt};

/// What `lab demo` understands.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print the result as JSON, and nothing else.
    #[arg(long)]
    json: bool,
    /// Leave servers and client running at the end, and say how to look around.
    #[arg(long)]
    keep: bool,
}

/// What the demonstration has shown.
#[derive(Debug, Serialize)]
struct Shown {
    /// Each boot in order.
    boots: Vec<ShownBoot>,
    /// Debian packages that differ between the generations: name, old version, new version.
    updated_packages: Vec<(String, String, String)>,
    /// The picture of the menu.
    menu_picture: PathBuf,
    seconds: f64,
}

/// One boot.
#[derive(Debug, Serialize)]
struct ShownBoot {
    what: &'static str,
    generation: GenerationRef,
    /// What the client said that it runs.
    current_system: String,
    /// What had to be sent, by the sizes of the files in the site's state directory.
    expected: Expected,
    timeline: Timeline,
}

/// What a boot should send of the closure, known before it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Expected {
    /// As packed store paths.
    packed_bytes: u64,
    /// Out of an update bundle, at most.
    bundle_bytes: u64,
}

/// Runs it. An error says what was not as it should be.
pub fn main(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let say = |text: &str| {
        if !arguments.json {
            println!("{text}");
        }
    };
    Lab::sweep()?;
    let directory = workspace.logs("demo");
    say("building both generations (Debian packages as store paths; the first time they are downloaded)");
    let systems = Systems::build(workspace)?;
    let room = Room::for_client(workspace, Lab::open("demo", &directory, 1)?, &systems)?;
    let disk = room.disk()?;
    let demo = Demo { room: &room, systems: &systems, disk: &disk, picture: directory.join("menu.png"), say: &say };
    let mut boots = Vec::new();
    let (servers, last) = demo.run(&mut boots)?;
    let shown = Shown {
        boots,
        updated_packages: systems.difference().packages,
        menu_picture: demo.picture.clone(),
        seconds: start.elapsed().as_secs_f64(),
    };
    if arguments.json {
        let json = serde_json::to_string_pretty(&shown).map_err(|error| Error::Wrong(error.to_string()))?;
        println!("{json}");
    } else {
        println!("{}", shown.summary());
    }
    if arguments.keep {
        keep(&room, &last)?;
    }
    drop((last, servers));
    Ok(())
}

struct Demo<'a> {
    room: &'a Room,
    systems: &'a Systems,
    disk: &'a Disk,
    picture: PathBuf,
    say: &'a dyn Fn(&str),
}

impl<'a> Demo<'a> {
    fn run(&self, boots: &mut Vec<ShownBoot>) -> Result<(Servers<'a>, Boot<'a>)> {
        let Systems { first, second, .. } = self.systems;
        let changed = self.systems.difference();
        let one = self.room.publish(&first.path)?;
        let servers = self.room.serve()?;
        self.room.wait_for_menu(&one)?;

        (self.say)(&format!("\n1. An empty disk. Published: {one}."));
        let mut boot = self.boot(&servers)?;
        let all = self.room.packed_size(first.closure.iter().map(|path| path.path.as_str()))?;
        let all = Expected { packed_bytes: all, ..Expected::default() };
        boots.push(self.judge("empty disk", &servers, &boot, &one, first, all)?);

        (self.say)(&format!("\n2. A security update: {changed}"));
        let two = self.room.publish(&second.path)?;
        self.room.wait_for_menu(&two)?;
        boot.restart(BOOT)?;
        drop(boot);
        let mut boot = self.boot(&servers)?;
        let bundle = self.room.bundle_size(&one, &two)? + BUNDLE_AGAIN;
        let bundle = Expected { bundle_bytes: bundle, ..Expected::default() };
        boots.push(self.judge("update", &servers, &boot, &two, second, bundle)?);

        (self.say)(&format!("\n3. Back to {one}, chosen in the menu by keyboard."));
        boot.restart(BOOT)?;
        drop(boot);
        let boot = self.boot(&servers)?;
        self.choose(&boot, &servers, &one)?;
        boots.push(self.judge("older generation, from the menu", &servers, &boot, &one, first, Expected::default())?);
        Ok((servers, boot))
    }

    /// Switches the client on: plain PXE, so that real `lpxelinux.0` asks our TFTP server; a screen, so that there is a menu.
    fn boot(&self, servers: &Servers<'_>) -> Result<Boot<'a>> {
        let mut client = Client::new("client", 0, Firmware::PlainPxe);
        client.disk = Some(self.disk.socket().to_owned());
        client.screen = true;
        Boot::start(self.room, servers, &client)
    }

    /// Waits for the running system and holds what it says, and what was sent, against what should be.
    fn judge(
        &self,
        what: &'static str,
        servers: &Servers<'_>,
        boot: &Boot<'_>,
        generation: &GenerationRef,
        toplevel: &Toplevel,
        expected: Expected,
    ) -> Result<ShownBoot> {
        boot.expect_running(servers, toplevel)?;
        let timeline = boot.timeline(servers)?;
        (self.say)(&timeline.to_string());
        expected.check(&timeline.traffic)?;
        let current_system = toplevel.path.clone();
        Ok(ShownBoot { what, generation: generation.clone(), current_system, expected, timeline })
    }

    fn choose(&self, boot: &Boot<'_>, servers: &Servers<'_>, generation: &GenerationRef) -> Result<()> {
        let menu = self.room.menu()?;
        let keys = menu.keys_to(generation);
        let keys = keys.ok_or_else(|| Error::Wrong(format!("{generation} is not in the menu")))?;
        let Some((enter, moves)) = keys.split_last() else { return Ok(()) };
        boot.wait_menu(servers)?;
        // The first key stops the menu's time-out; BIOS keeps keys that come while the menu is still being painted.
        boot.machine.press(moves)?;
        boot.photograph_menu(&self.picture)?;
        boot.machine.press(&[enter])
    }
}

impl Expected {
    /// The services' own count must be what the files say. Packs: not a byte more, not a byte less. Of a bundle the client takes what
    /// it needs.
    fn check(self, traffic: &Traffic) -> Result<()> {
        let sent = Self { packed_bytes: traffic.nar_bytes, bundle_bytes: traffic.bundle_bytes };
        let some_of_bundle =
            sent.bundle_bytes <= self.bundle_bytes && (sent.bundle_bytes > 0) == (self.bundle_bytes > 0);
        if sent.packed_bytes == self.packed_bytes && some_of_bundle {
            return Ok(());
        }
        Err(Error::Wrong(format!("{sent:?} was sent, where {self:?} was missing on the disk")))
    }
}

impl Shown {
    fn summary(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let boot = |boot: &ShownBoot| {
            let seconds = boot.timeline.total_seconds.unwrap_or_default();
            let fetched = boot.timeline.traffic.fetched_bytes();
            format!("{} in {seconds:.0} s ({:.1} MB of its closure)", boot.generation, megabytes(fetched))
        };
        let boots: Vec<_> = self.boots.iter().map(boot).collect();
        format!(
            "the menu: {}\nall as it should be, in {:.0} s: {}",
            self.menu_picture.display(),
            self.seconds,
            boots.join(", then ")
        )
    }
}

fn keep(room: &Room, boot: &Boot<'_>) -> Result<()> {
    let namespace = room.lab.namespace().name();
    println!(
        "\nEverything still runs; Ctrl-C ends it.\n  \
         ip netns exec {namespace} bash       # beside the servers: 10.77.0.1, HTTP port {}\n  \
         ip netns exec {namespace} tcpdump -i br0\n  \
         socat - UNIX:{}      # the emulator's monitor\n  \
         less {}\n  \
         ls {}\n",
        crate::servers::PORT,
        boot.machine.monitor().display(),
        room.lab.log().path().display(),
        room.site.state().display(),
    );
    loop {
        if interrupt::check().is_err() {
            return Ok(());
        }
        std::thread::sleep(interrupt::INTERVAL);
    }
}
