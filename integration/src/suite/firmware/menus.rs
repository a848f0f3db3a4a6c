//! Menus with all that a role can ask for, read by the real loaders: a lock, a serial line, the memory test, the local disk. Each
//! loader has two machines, of which one tries the lock and takes the local disk, and the other takes the memory test.

use std::fs;

use super::BOOT;
use super::disk::{self, WORD};
use super::scene::{Scene, Stage};
use crate::client::{Client, Firmware, Machine};
use crate::log::{Awaited, Place};
use crate::namespace::SERVER;
use crate::suite::{Context, Test};
use crate::{Error, Result};

pub(super) fn tests() -> Vec<Test> {
    LOADERS.iter().map(|loader| Test::new(loader.test, |context| loader.shows_its_menu(context))).collect()
}

/// A loader, and what somebody before it does.
struct Loader {
    test: &'static str,
    firmware: &'static [Firmware; 2],
    /// In the words of `rookery loaders install --loader`.
    choice: Option<&'static str>,
    /// Where its menu is read and answered.
    seat: Seat,
    /// The key for the next entry.
    down: &'static str,
    /// Whether "local disk" leaves it to the firmware, which tries to boot from the network in another way first: by HTTP, into the menu
    /// of iPXE.
    leaves: bool,
    /// What is typed against the lock, and what is seen of it before the next is typed; nothing where the loader says nothing.
    tries: &'static [(&'static str, &'static str)],
}

/// One of a client's serial lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// The one on which the firmware repeats its screen: the loader has none of its own.
    Firmware,
    /// The one that the menu names, and no firmware uses.
    Configured,
}

/// The last entry of every menu here.
const LAST: &str = "Test the memory (Memtest86+)";

/// What the memory test shows once it runs.
const TESTING: &str = "Memtest86+ v";

/// What iPXE shows when it has fetched a menu.
const SCRIPT: &str = "boot.ipxe : ";

/// What is on the screen when a lock has not held: prompts, and the beginnings of an entry that can be edited.
const OPEN: [&str; 5] = ["boot:", "initrd=", "grub>", "iPXE>", "setparams"];

/// What follows an escape at once is taken for a part of it, and lost.
const SYSLINUX_TRIES: &[(&str, &str)] = &[("\x1bz", ""), ("\t", "")];
const IPXE_TRIES: &[(&str, &str)] = &[("\x1b", "The menu is fetched again"), (" ", LAST)];
const GRUB_TRIES: &[(&str, &str)] = &[("e", "Enter username"), ("\x1b", LAST), ("c", "Enter username"), ("\x1b", LAST)];

const CONTROL_N: &str = "\x0e";
const ARROW_DOWN: &str = "\x1b[B";

const LOADERS: [Loader; 5] = [
    Loader {
        test: "menu-lpxelinux",
        firmware: &[Firmware::PlainPxe; 2],
        choice: None,
        seat: Seat::Configured,
        down: CONTROL_N,
        leaves: false,
        tries: SYSLINUX_TRIES,
    },
    Loader {
        test: "menu-bios-ipxe",
        firmware: &[Firmware::Ipxe; 2],
        choice: None,
        seat: Seat::Firmware,
        down: ARROW_DOWN,
        leaves: false,
        tries: IPXE_TRIES,
    },
    Loader {
        test: "menu-ovmf-ipxe",
        firmware: &[Firmware::Uefi; 2],
        choice: None,
        seat: Seat::Firmware,
        down: ARROW_DOWN,
        leaves: true,
        tries: IPXE_TRIES,
    },
    Loader {
        test: "menu-ovmf-grub",
        firmware: &[Firmware::Uefi; 2],
        choice: Some("uefi-x64=grub"),
        seat: Seat::Configured,
        down: CONTROL_N,
        leaves: false,
        tries: GRUB_TRIES,
    },
    Loader {
        test: "menu-ovmf-syslinux",
        firmware: &[Firmware::Uefi; 2],
        choice: Some("uefi-x64=syslinux"),
        seat: Seat::Firmware,
        down: CONTROL_N,
        leaves: true,
        tries: SYSLINUX_TRIES,
    },
];

impl Loader {
    fn shows_its_menu(&'static self, context: &Context<'_>) -> Result<()> {
        let scene = Scene::of(self.firmware);
        let mut stage = self.choice.map_or(scene, |choice| scene.loader(choice)).set(context)?;
        let disk = disk::startable(stage.room.lab.scratch(), "local", self.firmware[0])?;
        stage.clients[0].disk = Some(disk.socket().to_owned());
        for client in &mut stage.clients {
            client.line = true;
        }
        // Under UEFI the memory test does not start without a screen ("set_screen_info() failed").
        stage.clients[1].screen = self.firmware[1] == Firmware::Uefi;
        name_clients(&stage)?;
        let mut servers = stage.room.serve()?;
        let mut machines = stage.switch_on()?;
        let mut people: Vec<Person<'_>> = machines
            .iter_mut()
            .zip(&stage.clients)
            .map(|(machine, client)| self.seat(&stage, machine, client))
            .collect();
        people.iter_mut().try_for_each(Person::read_menu)?;
        people[0].try_lock()?;
        let to_disk = format!("{}\r", self.down);
        if self.leaves {
            people[0].choose(&to_disk, Seat::Firmware, SCRIPT)?;
            people[0].wait(Seat::Firmware, LAST)?;
            people[0].choose(&format!("{ARROW_DOWN}\r"), Seat::Firmware, WORD)?;
        } else {
            people[0].choose(&to_disk, Seat::Firmware, WORD)?;
        }
        // More often than there are entries: it is the last one.
        people[1].choose(&format!("{}\r", self.down.repeat(4)), Seat::Configured, TESTING)?;
        drop(machines);
        servers.stop_all()
    }

    fn seat<'a>(&'static self, stage: &'a Stage, machine: &'a mut Machine, client: &'a Client) -> Person<'a> {
        let place = machine.started();
        Person { loader: self, stage, machine, client, place }
    }
}

/// Somebody at a machine.
struct Person<'a> {
    loader: &'static Loader,
    stage: &'a Stage,
    machine: &'a mut Machine,
    client: &'a Client,
    /// What was on the console before is seen already.
    place: Place,
}

impl Person<'_> {
    /// The menu has the entries of its model, whole and in order.
    fn read_menu(&mut self) -> Result<()> {
        self.wait(self.loader.seat, LAST)?;
        let source = self.source(self.loader.seat);
        let lines = self.stage.room.lab.log().since(self.machine.started());
        let shown: Vec<&str> =
            lines.iter().filter(|line| line.source == source).map(|line| line.text.as_str()).collect();
        let mut rest = shown.iter();
        for label in labels(self.stage, self.client)? {
            if !rest.any(|line| line.contains(&label)) {
                return Err(Error::Wrong(format!("the menu does not show {label:?} at its place: {shown:#?}")));
            }
        }
        Ok(())
    }

    /// No key leads out of the menu.
    fn try_lock(&mut self) -> Result<()> {
        for (keys, answer) in self.loader.tries {
            self.type_keys(keys)?;
            if !answer.is_empty() {
                self.wait(self.loader.seat, answer)?;
            }
        }
        Ok(())
    }

    /// Takes an entry, and waits for what it starts.
    fn choose(&mut self, keys: &str, seat: Seat, started: &str) -> Result<()> {
        self.type_keys(keys)?;
        self.wait(seat, started)
    }

    fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.place = self.stage.room.lab.log().place();
        match self.loader.seat {
            Seat::Firmware => self.machine.type_text(keys),
            Seat::Configured => self.machine.type_on_line(keys),
        }
    }

    fn wait(&self, seat: Seat, text: &str) -> Result<()> {
        let (what, source) = (format!("{text:?}"), self.source(seat));
        let awaited = Awaited { what: &what, source: &source, since: self.place, within: BOOT, fatal: &OPEN };
        self.stage.room.lab.log().wait(&awaited, |line| line.contains(text)).map(drop)
    }

    fn source(&self, seat: Seat) -> String {
        match seat {
            Seat::Firmware => self.client.name.clone(),
            Seat::Configured => self.client.line_name(),
        }
    }
}

/// Gives every client a menu of its own.
fn name_clients(stage: &Stage) -> Result<()> {
    let host = |client: &Client| {
        format!(
            "[[host]]\nmac = \"{}\"\nname = \"{}\"\nrole = \"lab\"\nmenu = {{ locked = true, local-disk = true, memtest = true, \
             menu-timeout-seconds = 0, serial-console = \"ttyS2,115200\" }}\n",
            client.mac(),
            client.name
        )
    };
    let file = stage.room.site.config().with_file_name("hosts.d").join("menus.toml");
    let hosts: String = stage.clients.iter().map(host).collect();
    fs::write(&file, hosts).map_err(Error::io(format!("writing {}", file.display())))
}

/// The labels of a client's menu, as the generator wrote them for pxelinux.
fn labels(stage: &Stage, client: &Client) -> Result<Vec<String>> {
    let set = stage.room.site.state().join("menus/current").join(SERVER.to_string());
    let file = set.join("pxelinux.cfg").join(format!("01-{}", client.mac().replace(':', "-")));
    let text = fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
    let labels: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("MENU LABEL ")).map(str::to_owned).collect();
    match labels.len() {
        3 => Ok(labels),
        _ => Err(Error::Wrong(format!("{} has not three entries: {text}", file.display()))),
    }
}
