//! Machines that boot otherwise than their firmware alone says.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::{Circuit, Firmware, MacAddr};
use common::*;
use dhcp_engine::{BootVerdict, Class, ClassBoot, Ingress, Mode, NoBootFile, Outcome, Policy, ServerPort};

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// A class that nothing has been said of.
fn class(name: &str, boot: ClassBoot) -> Class {
    Class {
        name: name.to_owned(),
        firmware: Vec::new(),
        macs: Vec::new(),
        vendor_classes: Vec::new(),
        user_classes: Vec::new(),
        circuits: Vec::new(),
        boot,
    }
}

fn loader() -> ClassBoot {
    ClassBoot::Loader("other.efi".to_owned())
}

fn with(classes: &[Class]) -> Policy {
    let mut policy = policy();
    policy.boot.classes = classes.to_vec();
    policy
}

/// What the packet's sender is told to boot, as by a relay agent if it has one's address.
fn verdict(policy: Policy, packet: &Packet) -> BootVerdict {
    let source = SocketAddrV4::new(RELAY, 67);
    let from = Ingress { interface: "lan", source, destination: SERVER, port: ServerPort::Dhcp };
    let Outcome::Act(decision) = Room::new(policy).hear_from(0, packet, from) else { panic!("an address is given") };
    decision.boot
}

fn file(policy: Policy, packet: &Packet) -> String {
    match verdict(policy, packet) {
        BootVerdict::File { name, .. } => name,
        other => other.to_string(),
    }
}

fn rom(mac: MacAddr, architecture: u16) -> Packet {
    pxe(Packet::new(mac, DISCOVER), architecture)
}

#[test]
fn each_mark_tells_machines_apart() {
    let usual = "x64/grubx64.efi";
    let circuit = |text: &str| -> Circuit { text.parse().unwrap() };
    let class = class("odd", loader());
    let uefi = || rom(ANN, 7);
    let relayed = |information: &[u8]| uefi().giaddr(RELAY).with(82, information);
    let cases = [
        (Class { firmware: vec![Firmware::UefiX64], ..class.clone() }, uefi(), "other.efi"),
        (Class { firmware: vec![Firmware::UefiArm64, Firmware::Bios], ..class.clone() }, uefi(), usual),
        (Class { macs: vec![vec![0x52, 0x54, 0]], ..class.clone() }, uefi(), "other.efi"),
        (Class { macs: vec![ANN.bytes().to_vec()], ..class.clone() }, uefi(), "other.efi"),
        (Class { macs: vec![BOB.bytes().to_vec()], ..class.clone() }, uefi(), usual),
        (Class { vendor_classes: vec!["PXEClient:Arch:00007".into()], ..class.clone() }, uefi(), "other.efi"),
        (Class { vendor_classes: vec!["PXEClient:Arch:00009".into()], ..class.clone() }, uefi(), usual),
        (Class { user_classes: vec!["lab".into()], ..class.clone() }, uefi().with(77, b"lab"), "other.efi"),
        (Class { user_classes: vec!["lab".into()], ..class.clone() }, uefi().with(77, b"\x01x\x03lab"), "other.efi"),
        (Class { user_classes: vec!["lab".into()], ..class.clone() }, uefi().with(77, b"\x04labs\x09l"), usual),
        (Class { user_classes: vec!["lab".into()], ..class.clone() }, uefi(), usual),
        (Class { circuits: vec![circuit("eth1")], ..class.clone() }, relayed(b"\x01\x04eth1"), "other.efi"),
        (Class { circuits: vec![circuit("0x0007")], ..class.clone() }, relayed(&[2, 1, 0, 1, 2, 0, 7]), "other.efi"),
        (Class { circuits: vec![circuit("eth1")], ..class.clone() }, relayed(b"\x01\x05eth11"), usual),
        (Class { circuits: vec![circuit("eth1")], ..class.clone() }, uefi(), usual),
    ];
    for (class, packet, expected) in cases {
        assert_eq!(file(with(std::slice::from_ref(&class)), &packet), expected, "{class:?}");
    }
}

#[test]
fn all_marks_of_a_class_count_and_the_first_class_that_fits() {
    let both = Class { firmware: vec![Firmware::UefiX64], macs: vec![vec![0x52]], ..class("both", ClassBoot::Nothing) };
    let one = Class { macs: vec![vec![0x52]], ..class("one", loader()) };
    let classes = with(&[both, one]);
    let nothing = BootVerdict::Nothing(NoBootFile::Class("both".into()));
    assert_eq!(verdict(classes.clone(), &rom(ANN, 7)), nothing);
    assert_eq!(nothing.to_string(), "no boot file: machines of class both boot nothing");
    assert_eq!(file(classes.clone(), &rom(ANN, 0)), "other.efi");
    assert_eq!(file(classes, &rom(MacAddr::new([2, 0, 0, 0, 0, 1]), 0)), "lpxelinux.0");
}

#[test]
fn a_loader_of_their_own_still_ends_in_ipxes_script() {
    // Sent its loader once more, iPXE would never come out of the circle.
    let classes = with(&[Class { macs: vec![vec![0x52]], ..class("all", loader()) }]);
    let script = "http://10.77.0.1:8080/boot.ipxe";
    assert_eq!(file(classes.clone(), &rom(ANN, 7).with(77, b"iPXE")), script);
    let http = Packet::new(ANN, DISCOVER).with(60, b"HTTPClient:Arch:00016:UNDI:003000").with(93, &[0, 16]);
    assert_eq!(file(classes.clone(), &http), "http://10.77.0.1:8080/other.efi");
    // It is no way past what there is to boot.
    let mut empty = classes;
    empty.boot.servable.clear();
    assert!(matches!(verdict(empty, &rom(ANN, 7)), BootVerdict::Nothing(NoBootFile::RoleWithoutGeneration(..))));
}

#[test]
fn who_boots_nothing_hears_nothing_from_a_proxy() {
    let mut policy = with(&[Class { macs: vec![vec![0x52]], ..class("all", ClassBoot::Nothing) }]);
    policy.subnets[0].mode = Mode::Proxy;
    let mut room = Room::new(policy);
    let Outcome::Act(decision) = room.hear(0, &rom(ANN, 7)) else { panic!() };
    assert_eq!((decision.effects.len(), decision.boot), (0, BootVerdict::Nothing(NoBootFile::Class("all".into()))));
}
