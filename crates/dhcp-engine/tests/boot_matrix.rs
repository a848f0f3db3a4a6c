//! The boot answer matrix, cell by cell, and the firmware quirks behind it.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use boot_model::{Architecture, MacAddr};
use common::*;
use dhcp_engine::{BootVerdict, NoBootFile, Outcome, Policy, UnknownHosts};

/// What a client is sent to boot with: siaddr, sname, file, and the options of booting.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    siaddr: bool,
    sname: String,
    file: String,
    options: Vec<(u8, Vec<u8>)>,
}

fn answer(packet: &Packet) -> Answer {
    let mut room = Room::new(policy());
    let outcome = room.hear(0, packet);
    let reply = reply(&outcome);
    let text = |field: &[u8]| String::from_utf8(field.iter().copied().take_while(|b| *b != 0).collect()).unwrap();
    Answer {
        siaddr: reply[20..24] == SERVER.octets(),
        sname: text(&reply[44..108]),
        file: text(&reply[108..236]),
        options: options(reply).into_iter().filter(|(code, _)| matches!(code, 43 | 60 | 66 | 67 | 97 | 175)).collect(),
    }
}

fn nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

const ADDRESS: &[u8] = b"10.77.0.1";
const SCRIPT: &str = "http://10.77.0.1:8080/boot.ipxe";

#[test]
fn bios_pxe() {
    let expected = Answer {
        siaddr: true,
        sname: "10.77.0.1".into(),
        file: "lpxelinux.0".into(),
        options: vec![
            (43, vec![6, 1, 8, 255]),
            (60, b"PXEClient".to_vec()),
            (97, vec![0; 17]),
            (66, ADDRESS.to_vec()),
            (67, nul("lpxelinux.0")),
        ],
    };
    assert_eq!(answer(&pxe(Packet::new(ANN, DISCOVER), 0)), expected);
    // ROMs exist that leave out the GUID (danderson/netboot), and old ones that leave out 93.
    let bare = answer(&Packet::new(ANN, DISCOVER).with(60, b"PXEClient"));
    assert_eq!((bare.file, bare.options.iter().any(|(code, _)| *code == 97)), (expected.file, false));
}

#[test]
fn uefi_pxe_gets_neither_60_nor_43() {
    // With 60 and without 43 EDK2 asks port 4011 instead of booting (FOGProject/fog-docs#188, tianocore/edk2#8149).
    let firmware =
        [(6, "ia32/grubia32.efi"), (7, "x64/grubx64.efi"), (9, "x64/grubx64.efi"), (11, "arm64/grubaa64.efi")];
    for (architecture, file) in firmware {
        let expected = Answer {
            siaddr: true,
            sname: "10.77.0.1".into(),
            file: file.into(),
            options: vec![(66, ADDRESS.to_vec()), (67, nul(file))],
        };
        assert_eq!(answer(&pxe(Packet::new(ANN, DISCOVER), architecture)), expected);
    }
}

#[test]
fn uefi_http_needs_60() {
    // Without option 60 EDK2 refuses the offer (HttpBootParseDhcp4Packet).
    for (architecture, file) in [(15, "ia32.efi"), (16, "snponly.efi"), (19, "arm64.efi")] {
        let url = format!("http://10.77.0.1:8080/loaders/{file}");
        let class = format!("HTTPClient:Arch:{architecture:05}:UNDI:003000");
        let packet = Packet::new(ANN, DISCOVER).with(60, class.as_bytes()).with(93, &[0, architecture]);
        let expected = Answer {
            siaddr: true,
            sname: String::new(),
            file: url.clone(),
            options: vec![(60, b"HTTPClient".to_vec()), (67, nul(&url))],
        };
        assert_eq!(answer(&packet), expected);
    }
}

#[test]
fn a_url_that_file_cannot_hold_travels_in_option_67_alone() {
    let mut policy = policy();
    let long = format!("loaders/{}.efi", "x".repeat(110));
    policy.boot.loaders.insert(boot_model::Firmware::HttpX64, long.clone());
    let packet = Packet::new(ANN, DISCOVER).with(60, b"HTTPClient:Arch:00016:UNDI:003000").with(93, &[0, 16]);
    let outcome = Room::new(policy).hear(0, &packet);
    assert_eq!(reply(&outcome)[108..236], [0; 128]);
    assert_eq!(option(reply(&outcome), 67), Some(nul(&format!("http://10.77.0.1:8080/{long}"))));
}

#[test]
fn ipxe_gets_a_script_and_is_told_not_to_wait() {
    let expected = Answer {
        siaddr: true,
        sname: String::new(),
        file: SCRIPT.into(),
        options: vec![(67, nul(SCRIPT)), (175, vec![176, 1, 1])],
    };
    // Raw option 77, as iPXE sends it; framed as RFC 3004 says; option 175 alone; UEFI as well as BIOS.
    let rom = |architecture| pxe(Packet::new(ANN, DISCOVER), architecture);
    assert_eq!(answer(&rom(0).with(77, b"iPXE")), expected);
    assert_eq!(answer(&rom(0).with(77, b"\x04iPXE")), expected);
    assert_eq!(answer(&rom(0).with(175, &[177, 1, 0])), expected);
    assert_eq!(answer(&rom(7).with(77, b"iPXE")), expected);
    // Nobody else's user class.
    assert_eq!(answer(&rom(0).with(77, b"myiPXEish")).file, "lpxelinux.0");
}

#[test]
fn raspberry_pi_is_known_by_its_address() {
    // Its ROM calls itself an x86 BIOS (raspberrypi/rpi-eeprom#720) and looks for this menu text before it boots.
    let pi = MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]);
    let expected = Answer {
        siaddr: true,
        sname: "10.77.0.1".into(),
        file: String::new(),
        options: vec![
            (43, b"\x06\x01\x08\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff".to_vec()),
            (60, b"PXEClient".to_vec()),
            (66, ADDRESS.to_vec()),
        ],
    };
    assert_eq!(answer(&pxe(Packet::new(pi, DISCOVER), 0)), expected);
    // Its running system is no ROM.
    assert_eq!(answer(&Packet::new(pi, DISCOVER)).options, []);
}

#[test]
fn u_boot_reads_the_file_field() {
    let packet = Packet::new(ANN, DISCOVER).with(60, b"U-Boot.armv8").with(93, &[0, 22]);
    let got = answer(&packet);
    assert_eq!((got.siaddr, got.file.as_str(), got.options), (true, "u-boot.scr", vec![(67, nul("u-boot.scr"))]));
    // FF FF is what it sends when built without an architecture (net/bootp.c): as good as none.
    assert_eq!(answer(&Packet::new(ANN, DISCOVER).with(93, &[255, 255]).with(60, b"U-Boot.armv8")).file, "u-boot.scr");
}

#[test]
fn a_running_system_is_sent_nothing_to_boot() {
    let got = answer(&Packet::new(ANN, DISCOVER).with(60, b"dhcpcd-9.4.1:Linux"));
    assert_eq!(got, Answer { siaddr: false, sname: String::new(), file: String::new(), options: vec![] });
}

#[test]
fn the_first_known_architecture_of_a_list_counts() {
    let packet = Packet::new(ANN, DISCOVER).with(60, b"PXEClient").with(93, &[0x12, 0x34, 0, 7, 0, 9]);
    assert_eq!(answer(&packet).file, "x64/grubx64.efi");
    // A relay that strips 93 leaves the vendor class.
    let stripped = Packet::new(ANN, DISCOVER).with(60, b"PXEClient:Arch:00007:UNDI:003000");
    assert_eq!(answer(&stripped).file, "x64/grubx64.efi");
}

#[test]
fn invalid_options_never_cost_a_boot() {
    // Kea refused to offer on a bad 81 (OPNsense#8081, baremetal-operator#446); others on 77 (Technitium#1738) or 12.
    let packet = pxe(Packet::new(ANN, DISCOVER).with(81, b"\x01").with(77, b"\x09x").with(12, b"\xff\xfe\0"), 0);
    assert_eq!(answer(&packet).file, "lpxelinux.0");
}

fn verdict(policy: Policy, packet: &Packet) -> BootVerdict {
    let Outcome::Act(decision) = Room::new(policy).hear(0, packet) else { panic!("an address is given all the same") };
    if matches!(decision.boot, BootVerdict::Nothing(_)) {
        let outcome = Outcome::Act(decision.clone());
        let reply = reply(&outcome);
        assert_eq!((&reply[108..236], option(reply, 67), option(reply, 60)), (&[0; 128][..], None, None));
    }
    decision.boot
}

#[test]
fn without_a_generation_there_is_an_address_and_a_reason() {
    let pxe = |mac, architecture| pxe(Packet::new(mac, DISCOVER), architecture);
    let lab = || "lab".parse().unwrap();
    let x86 = Architecture::X86_64;

    let mut nothing = policy();
    nothing.boot.servable.clear();
    assert_eq!(
        verdict(nothing.clone(), &pxe(ANN, 0)),
        BootVerdict::Nothing(NoBootFile::RoleWithoutGeneration(lab(), x86))
    );
    // iPXE is still spared its three seconds.
    let mut room = Room::new(nothing.clone());
    assert_eq!(option(reply(&room.hear(0, &pxe(ANN, 0).with(77, b"iPXE"))), 175), Some(vec![176, 1, 1]));
    nothing.subnets[0].unknown = UnknownHosts::Menu(vec![lab()]);
    assert_eq!(verdict(nothing, &pxe(ANN, 0)), BootVerdict::Nothing(NoBootFile::NoGeneration(x86)));

    let mut closed = policy();
    closed.subnets[0].unknown = UnknownHosts::Nothing;
    assert_eq!(verdict(closed.clone(), &pxe(ANN, 0)), BootVerdict::Nothing(NoBootFile::UnknownHost));
    closed.boot.roles.insert(ANN, lab());
    assert!(matches!(verdict(closed, &pxe(ANN, 0)), BootVerdict::File { .. }), "a host has its role");

    let mut other = policy();
    other.boot.servable = [(lab(), Architecture::Aarch64)].into();
    assert_eq!(
        verdict(other.clone(), &pxe(ANN, 7)),
        BootVerdict::Nothing(NoBootFile::RoleWithoutGeneration(lab(), x86))
    );
    assert!(matches!(verdict(other, &pxe(ANN, 11)), BootVerdict::File { .. }));

    let mut menu = policy();
    menu.subnets[0].unknown = UnknownHosts::Menu(vec!["other".parse().unwrap(), lab()]);
    assert!(matches!(verdict(menu, &pxe(ANN, 0)), BootVerdict::File { .. }));

    let mut bare = policy();
    bare.boot.loaders.clear();
    let none = BootVerdict::Nothing(NoBootFile::NoLoader(boot_model::Firmware::Bios));
    assert_eq!(verdict(bare, &pxe(ANN, 0)), none);
    assert_eq!(verdict(policy(), &pxe(ANN, 27)), BootVerdict::Nothing(NoBootFile::UnknownArchitecture));
}
