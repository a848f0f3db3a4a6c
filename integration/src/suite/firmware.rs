//! Every firmware that a room may have, from power-on to the initrd of what was published, by way of every loader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Context, Test};
use crate::client::{Card, Client, Firmware, Machine};
use crate::room::{MARKER, MarkerStore, MarkerSystem, Room, Systems};
use crate::servers::Servers;
use crate::{Error, Result};

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        boots("bios-lpxelinux-e1000", &[], |client| {
            client.firmware = Firmware::PlainPxe;
            client.card = Card::E1000;
        }),
        boots("bios-lpxelinux-rtl8139", &[], |client| {
            client.firmware = Firmware::PlainPxe;
            client.card = Card::Rtl8139;
        }),
        boots("bios-ipxe-rom", &[], |client| client.firmware = Firmware::Ipxe),
        boots("ovmf-ipxe", &[], |client| client.firmware = Firmware::Uefi),
        boots("ovmf-grub", &["--loader", "uefi-x64=grub"], |client| client.firmware = Firmware::Uefi),
        boots("ovmf-syslinux", &["--loader", "uefi-x64=syslinux"], |client| client.firmware = Firmware::Uefi),
        boots("ovmf-http-ipxe", &[], |client| client.firmware = Firmware::UefiHttp),
        boots("ovmf-secure-boot", &["--loader", "uefi-x64=grub"], |client| client.firmware = Firmware::SecureBoot),
    ];
    tests.push(Test::new("ovmf-secure-boot-refuses-an-unsigned-kernel", refuses_unsigned));
    tests
}

/// From power-on to the marker; busy machines take several times as long as idle ones, and lpxelinux over an rtl8139 four minutes.
const BOOT: Duration = Duration::from_secs(900);

/// What the services and the client need before the client is switched on.
struct Scene {
    room: Room,
    client: Client,
}

fn boots(name: &'static str, wishes: &'static [&'static str], set: fn(&mut Client)) -> Test {
    Test::new(name, move |context| {
        let scene = Scene::open(context, wishes, set)?;
        let servers = scene.serve()?;
        let mut machine = Machine::start(&scene.room.lab, &scene.client)?;
        if wishes.contains(&"uefi-x64=grub") {
            choose_in_grub(&mut machine)?;
        }
        scene.expect_marker(&machine)?;
        drop(machine);
        stop(servers)
    })
}

/// Takes the entry that GRUB has chosen. On a busy host GRUB measures its clock wrongly, and its seconds last for minutes.
fn choose_in_grub(machine: &mut Machine) -> Result<()> {
    machine.wait_for("will be executed automatically", BOOT)?;
    machine.type_text("\r")
}

fn stop(mut servers: Servers<'_>) -> Result<()> {
    servers.stop_all()
}

impl Scene {
    /// A room with one generation of Debian's signed kernel.
    fn open(context: &Context<'_>, wishes: &[&str], set: fn(&mut Client)) -> Result<Self> {
        let kernel = kernel(context)?;
        Self::with_kernel(context, &kernel, wishes, set)
    }

    fn with_kernel(context: &Context<'_>, kernel: &Path, wishes: &[&str], set: fn(&mut Client)) -> Result<Self> {
        let lab = context.lab(1)?;
        let store = MarkerStore::create(lab.scratch())?;
        let toplevel = store.add(&MarkerSystem {
            system: "x86_64-linux",
            kernel,
            busybox: Path::new("/bin/busybox"),
            console: "ttyS0,115200",
            version: "1",
        })?;
        let key = Systems::secret_key(context.workspace)?;
        let room = Room::open(context.workspace, lab, &key, store.root().to_owned(), &[])?;
        room.install_loaders(wishes)?;
        room.publish(&toplevel)?;
        let mut client = Client::new("client", 0, Firmware::Uefi);
        client.memory = 512;
        set(&mut client);
        Ok(Self { room, client })
    }

    fn serve(&self) -> Result<Servers<'_>> {
        self.room.serve()
    }

    /// The initrd runs, and was given the command line of the menu's first entry and the card that booted.
    fn expect_marker(&self, machine: &Machine) -> Result<()> {
        let line = machine.wait_for(MARKER, BOOT)?.text;
        let bootif = format!("BOOTIF=01-{}", self.client.mac().replace(':', "-"));
        for part in ["init=/nix/store/", "rookery.server=10.77.0.1:8080", "rookery.generation=lab/1-", &bootif] {
            if !line.contains(part) {
                return Err(Error::Wrong(format!("the kernel's command line has no {part}: {line}")));
            }
        }
        Ok(())
    }
}

/// With Secure Boot a kernel whose signature does not fit goes no further than GRUB, which says so.
fn refuses_unsigned(context: &Context<'_>) -> Result<()> {
    let signed = kernel(context)?;
    let bytes = std::fs::read(&signed).map_err(Error::io(format!("reading {}", signed.display())))?;
    let scratch = context.lab(0)?;
    let changed = scratch.scratch().join("vmlinuz");
    std::fs::write(&changed, without_signature(bytes)).map_err(Error::io("writing a kernel"))?;
    let wishes = &["--loader", "uefi-x64=grub"];
    let scene = Scene::with_kernel(context, &changed, wishes, |client| client.firmware = Firmware::SecureBoot)?;
    let servers = scene.serve()?;
    let mut machine = Machine::start(&scene.room.lab, &scene.client)?;
    choose_in_grub(&mut machine)?;
    machine.wait_for("bad shim signature", BOOT)?;
    machine.wait_for("Rookery: the lines above say why that failed", BOOT)?;
    drop(machine);
    stop(servers)
}

/// An EFI program without its certificate table: entry 4 of the data directories of its optional header (PE format).
fn without_signature(mut program: Vec<u8>) -> Vec<u8> {
    let word = |at: usize| program.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let header = word(0x3c).unwrap_or_default() as usize;
    // Signature 4, file header 20, then 112 bytes of a PE32+ optional header before the directories of 8 bytes each.
    let entry = header + 4 + 20 + 112 + 4 * 8;
    if let Some(entry) = program.get_mut(entry..entry + 8) {
        entry.fill(0);
    }
    program
}

/// Debian's kernel, which its key signs.
fn kernel(context: &Context<'_>) -> Result<PathBuf> {
    Systems::kernel(context.workspace)
}
