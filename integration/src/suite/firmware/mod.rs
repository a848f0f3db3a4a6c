//! Every firmware that a room may have, from power-on to the initrd of what was published, by way of every loader and through
//! every network; and the menus of every loader, with what they offer besides.

mod disk;
mod menus;
mod network;
mod scene;
mod unsigned;

use std::time::Duration;

use boot_model::event::Event;

use super::Test;
use crate::client::{Card, Firmware, Machine};
use crate::room::MARKER;
use crate::timeline::Timeline;
use crate::{Error, Result};
use network::Network;
use scene::{Scene, Stage};

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        boots("bios-lpxelinux-e1000", Scene::of(&[Firmware::PlainPxe]).card(Card::E1000)),
        boots("bios-lpxelinux-rtl8139", Scene::of(&[Firmware::PlainPxe]).card(Card::Rtl8139)),
        boots("bios-ipxe-rom", Scene::of(&[Firmware::Ipxe])),
        boots("ovmf-ipxe", Scene::of(&[Firmware::Uefi])),
        boots("ovmf-grub", Scene::of(&[Firmware::Uefi]).loader("uefi-x64=grub")),
        boots("ovmf-syslinux", Scene::of(&[Firmware::Uefi]).loader("uefi-x64=syslinux")),
        boots("ovmf-http-ipxe", Scene::of(&[Firmware::UefiHttp])),
        boots("ovmf-secure-boot", Scene::of(&[Firmware::SecureBoot]).loader("uefi-x64=grub")),
        Test::new("ovmf-secure-boot-refuses-an-unsigned-kernel", unsigned::refused),
        boots("aarch64-grub", Scene::of(&[Firmware::UefiArm64])),
        boots("bios-proxy", Scene::of(&[Firmware::PlainPxe]).network(Network::BesideDnsmasq)),
        boots("ovmf-proxy", Scene::of(&[Firmware::Uefi]).network(Network::BesideDnsmasq)),
        boots("bios-behind-a-relay", Scene::of(&[Firmware::PlainPxe]).network(Network::BehindRelay)),
        boots(
            "ovmf-behind-a-relay-with-option-82",
            Scene::of(&[Firmware::Uefi]).network(Network::BehindInformativeRelay),
        ),
        boots("two-bridges", Scene::of(&[Firmware::PlainPxe, Firmware::Uefi]).network(Network::TwoBridges)),
        boots("four-at-once", Scene::of(&[Firmware::PlainPxe; 4])),
    ];
    tests.extend(menus::tests());
    tests
}

/// From power-on to the marker; busy machines take several times as long as idle ones, most of all for lpxelinux over an rtl8139.
const BOOT: Duration = Duration::from_secs(900);

fn boots(name: &'static str, scene: Scene) -> Test {
    Test::new(name, move |context| {
        let stage = scene.set(context)?;
        let mut servers = stage.room.serve()?;
        let mark = servers.mark()?;
        let on = stage.room.lab.log().elapsed();
        let mut machines = stage.switch_on()?;
        if scene.loads_grub() {
            machines.iter_mut().try_for_each(choose_in_grub)?;
        }
        for (number, machine) in machines.iter().enumerate() {
            expect_marker(&stage, number, machine)?;
        }
        let events = servers.events_since(&mark)?;
        scene.network.expect_answers(&events, &stage.clients)?;
        stage.clients.iter().zip(&machines).try_for_each(|(client, machine)| {
            note_timeline(&stage, machine, on, network::events_of(&events, client, &stage.clients))
        })?;
        drop(machines);
        servers.stop_all()
    })
}

/// Writes the boot down, step by step up to the initrd, and holds it against the order of docs/boot-flow.md.
fn note_timeline(stage: &Stage, machine: &Machine, on: Duration, events: Vec<Event>) -> Result<()> {
    let log = stage.room.lab.log();
    let timeline = Timeline::of_machine(log, machine, on, events);
    timeline.to_string().lines().for_each(|line| log.note(machine.name(), line));
    // To the kernel's start. A menu's time is known by what follows it.
    let ends: Vec<_> = timeline.steps[..6].iter().map(|step| step.at_seconds).collect();
    if ends.iter().any(Option::is_none) || !ends.is_sorted() {
        return Err(Error::Wrong(format!("the boot of {} was not seen in order:\n{timeline}", machine.name())));
    }
    Ok(())
}

/// Takes the entry that GRUB has chosen. On a busy host GRUB measures its clock wrongly, and its seconds last for minutes.
fn choose_in_grub(machine: &mut Machine) -> Result<()> {
    machine.wait_for("will be executed automatically", BOOT)?;
    machine.type_text("\r")
}

/// The initrd runs, and was given the command line of the menu's first entry and the card that booted.
fn expect_marker(stage: &Stage, number: usize, machine: &Machine) -> Result<()> {
    let line = machine.wait_for(MARKER, BOOT)?.text;
    let bootif = format!("BOOTIF=01-{}", stage.clients[number].mac().replace(':', "-"));
    let server = format!("rookery.server={}:8080", stage.network.place(number).server);
    for part in ["init=/nix/store/", &server, "rookery.generation=lab/1-", &bootif] {
        if !line.contains(part) {
            return Err(Error::Wrong(format!("the kernel's command line has no {part}: {line}")));
        }
    }
    Ok(())
}
