//! Beside another server: the proxy's and the boot server's cells of the boot answer matrix, and what is left to the other.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::MacAddr;
use common::*;
use dhcp_engine::{BootVerdict, Ipv4Network, Mode, Outcome, Policy, Subnet, UnknownHosts};

/// What ANN was given by the other server, and where she asks from.
const ANNS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 42), 68);
const SCRIPT: &str = "http://10.77.0.1:8080/boot.ipxe";

fn proxy() -> Policy {
    let mut policy = policy();
    policy.subnets[0].mode = Mode::Proxy;
    policy
}

fn nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// The reply in one line: type, fields that are set, and the options of booting.
fn told(outcome: &Outcome) -> String {
    let Outcome::Act(decision) = outcome else { return line(outcome) };
    if decision.effects.is_empty() {
        return format!("nothing: {}", decision.boot);
    }
    let reply = reply(outcome);
    let text = |field: &[u8]| String::from_utf8(field.iter().copied().take_while(|b| *b != 0).collect()).unwrap();
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&reply[at..at + 4]).unwrap());
    let options: Vec<String> = options(reply)
        .into_iter()
        .map(|(code, value)| match code {
            60 | 66 | 67 => format!("{code}={}", String::from_utf8(value).unwrap().escape_default()),
            97 => "97".to_owned(),
            _ => format!("{code}={}", value.escape_ascii()),
        })
        .collect();
    format!(
        "{} to {} | ciaddr {} yiaddr {} siaddr {} sname {:?} file {:?} | {}",
        decision.verdict.name(),
        line(outcome).rsplit(" to ").next().unwrap(),
        address(12),
        address(16),
        address(20),
        text(&reply[44..108]),
        text(&reply[108..236]),
        options.join(" ")
    )
}

fn offer(packet: &Packet) -> String {
    told(&Room::new(proxy()).hear(0, packet))
}

fn boot_server(packet: &Packet) -> String {
    told(&Room::new(proxy()).ask_boot_server(0, &packet.clone().ciaddr(*ANNS.ip()), ANNS))
}

const NONE: &str = "ciaddr 0.0.0.0 yiaddr 0.0.0.0";
const ITS: &str = "ciaddr 10.77.0.42 yiaddr 0.0.0.0";
const ID: &str = r"54=\nM\x00\x01";

#[test]
fn bios_pxe_is_told_to_boot_at_once() {
    let rest = format!(
        "siaddr 10.77.0.1 sname \"10.77.0.1\" file \"lpxelinux.0\" | 53={{}} {ID} 43=\\x06\\x01\\x08\\xff 60=PXEClient 97 \
         66=10.77.0.1 67=lpxelinux.0\\u{{0}}"
    );
    let expected = |prefix: String, message: &str| format!("{prefix} {}", rest.replace("{}", message));
    assert_eq!(
        offer(&pxe(Packet::new(ANN, DISCOVER), 0)),
        expected(format!("proxy-offer to 255.255.255.255:68 | {NONE}"), "\\x02")
    );
    assert_eq!(
        boot_server(&pxe(Packet::new(ANN, REQUEST), 0)),
        expected(format!("boot-server to 10.77.0.42:68 | {ITS}"), "\\x05")
    );
}

#[test]
fn uefi_pxe_is_sent_to_port_4011_for_its_file() {
    // With 60, without 43 and without a file every firmware asks there (dnsmasq `redirect4011`, pixiecore).
    for (architecture, file) in [(6, "ia32/grubia32.efi"), (7, "x64/grubx64.efi"), (11, "arm64/grubaa64.efi")] {
        assert_eq!(
            offer(&pxe(Packet::new(ANN, DISCOVER), architecture)),
            format!(
                "proxy-offer to 255.255.255.255:68 | {NONE} siaddr 10.77.0.1 sname \"\" file \"\" | 53=\\x02 {ID} 60=PXEClient 97"
            )
        );
        assert_eq!(
            boot_server(&pxe(Packet::new(ANN, REQUEST), architecture)),
            format!(
                "boot-server to 10.77.0.42:68 | {ITS} siaddr 10.77.0.1 sname \"10.77.0.1\" file \"{file}\" | 53=\\x05 {ID} \
                 60=PXEClient 97 66=10.77.0.1 67={file}\\u{{0}}"
            )
        );
    }
}

#[test]
fn uefi_http_gets_its_url_with_the_offer() {
    for (architecture, file) in [(15, "ia32.efi"), (16, "snponly.efi"), (19, "arm64.efi")] {
        let class = format!("HTTPClient:Arch:{architecture:05}:UNDI:003000");
        let packet = Packet::new(ANN, DISCOVER).with(60, class.as_bytes()).with(93, &[0, architecture]);
        let url = format!("http://10.77.0.1:8080/loaders/{file}");
        assert_eq!(
            offer(&packet),
            format!(
                "proxy-offer to 255.255.255.255:68 | {NONE} siaddr 10.77.0.1 sname \"\" file \"{url}\" | 53=\\x02 {ID} \
                 60=HTTPClient 67={url}\\u{{0}}"
            )
        );
        assert_eq!(boot_server(&packet), "silence: unsupported-message");
    }
}

#[test]
fn ipxe_needs_60_siaddr_and_a_file_to_stop_waiting() {
    // Otherwise it asks port 4011 (`dhcp_has_pxeopts`); a file without siaddr is ignored (ipxe/ipxe#954). 175.176 would tell it
    // that there is no proxy.
    let rom = |message| pxe(Packet::new(ANN, message), 0).with(77, b"iPXE").with(175, &[177, 1, 0]);
    let rest = format!(
        "siaddr 10.77.0.1 sname \"\" file \"{SCRIPT}\" | 53={{}} {ID} 60=PXEClient 67={}",
        nul(SCRIPT).escape_ascii().to_string().replace("\\x00", "\\u{0}")
    );
    let offered = offer(&rom(DISCOVER));
    assert_eq!(offered, format!("proxy-offer to 255.255.255.255:68 | {NONE} {}", rest.replace("{}", "\\x02")));
    assert_eq!(
        boot_server(&rom(REQUEST)),
        format!("boot-server to 10.77.0.42:68 | {ITS} {}", rest.replace("{}", "\\x05"))
    );
}

#[test]
fn raspberry_pi_and_u_boot_are_answered_on_port_67_alone() {
    let pi = MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]);
    let offered = offer(&pxe(Packet::new(pi, DISCOVER), 0));
    assert!(offered.contains("Raspberry Pi Boot") && offered.contains("66=10.77.0.1"), "{offered}");
    assert_eq!(boot_server(&pxe(Packet::new(pi, REQUEST), 0)), "silence: not-booting");
    let u_boot = |message| Packet::new(ANN, message).with(60, b"U-Boot.armv8").with(93, &[0, 22]);
    assert_eq!(
        offer(&u_boot(DISCOVER)),
        format!(
            "proxy-offer to 255.255.255.255:68 | {NONE} siaddr 10.77.0.1 sname \"\" file \"u-boot.scr\" | 53=\\x02 {ID} \
             67=u-boot.scr\\u{{0}}"
        )
    );
    assert_eq!(boot_server(&u_boot(REQUEST)), "silence: not-booting");
}

#[test]
fn addresses_are_the_other_servers_business() {
    let mut room = Room::new(proxy());
    let a = *ANNS.ip();
    assert_eq!(line(&room.hear(0, &Packet::new(ANN, DISCOVER))), "silence: not-booting");
    let rom = |message| pxe(Packet::new(ANN, message), 0);
    assert_eq!(
        line(&room.hear(0, &rom(REQUEST).wishes(a).for_server(Ipv4Addr::new(10, 77, 0, 2)))),
        "silence: address-elsewhere"
    );
    assert_eq!(line(&room.hear(0, &rom(REQUEST).wishes(a).for_server(SERVER))), "silence: address-elsewhere");
    assert_eq!(line(&room.hear(0, &rom(REQUEST).wishes(a))), "silence: address-elsewhere");
    assert_eq!(line(&room.hear_unicast(0, &rom(REQUEST).ciaddr(a), a)), "silence: address-elsewhere");
    assert_eq!(line(&room.hear_unicast(0, &rom(RELEASE).ciaddr(a), a)), "silence: address-elsewhere");
    assert_eq!(line(&room.hear(0, &rom(DECLINE).wishes(a))), "silence: address-elsewhere");
    assert_eq!(line(&room.hear(0, &Packet::bootp(EVE))), "silence: address-elsewhere");
    assert_eq!(room.engine.leases(), []);
    // A host's reservation is no promise here either.
    assert_eq!(yiaddr(&room.hear(0, &pxe(Packet::new(EVE, DISCOVER), 0))), Ipv4Addr::UNSPECIFIED);
}

#[test]
fn without_a_generation_there_is_no_offer_and_a_reason() {
    let mut policy = proxy();
    policy.subnets[0].unknown = UnknownHosts::Nothing;
    let mut room = Room::new(policy);
    let rom = |message| pxe(Packet::new(ANN, message), 7);
    let reason = "nothing: no boot file: this MAC address is no host's, and unknown machines boot nothing here";
    let silent = room.hear(0, &rom(DISCOVER));
    assert_eq!(told(&silent), reason);
    let Outcome::Act(decision) = silent else { unreachable!() };
    assert!(matches!(decision.boot, BootVerdict::Nothing(_)));
    assert_eq!(told(&room.ask_boot_server(0, &rom(REQUEST).ciaddr(*ANNS.ip()), ANNS)), reason);
}

#[test]
fn the_boot_server_answers_beside_the_full_server_too() {
    // Firmware that got option 60 from somebody else asks there, whoever gave it its address.
    let packet = pxe(Packet::new(ANN, REQUEST).ciaddr(*ANNS.ip()), 7);
    let mut room = Room::new(policy());
    let ack = room.ask_boot_server(0, &packet, ANNS);
    assert_eq!((ack.clone(), yiaddr(&ack)), (ack, Ipv4Addr::UNSPECIFIED));
    assert_eq!(
        line(&room.ask_boot_server(0, &pxe(Packet::new(ANN, DISCOVER), 7), ANNS)),
        "silence: unsupported-message"
    );
    assert_eq!(line(&room.ask_boot_server(0, &Packet::new(ANN, INFORM), ANNS)), "silence: not-booting");
}

#[test]
fn a_chosen_boot_item_is_confirmed() {
    // PXE 2.1 §2.2.5; dnsmasq rfc2131.c does the same.
    let item = |layer| pxe(Packet::new(ANN, REQUEST), 0).with(43, &[71, 4, 0x80, 0, layer, 0, 255]);
    let acked = boot_server(&item(0));
    assert!(acked.contains("43=G\\x04\\x80\\x00\\x00\\x00\\xff "), "{acked}");
    // Bit 15 of the layer asks for credentials instead of the file.
    assert_eq!(boot_server(&item(0x80)), "silence: not-booting");
    // Sub-options that make no sense are no item.
    let bad = pxe(Packet::new(ANN, REQUEST), 0).with(43, &[0, 9, 200]);
    assert!(boot_server(&bad).contains("43=\\x06\\x01\\x08\\xff"), "{}", boot_server(&bad));
}

#[test]
fn clients_of_a_network_that_is_off_are_met_with_silence() {
    let theirs = Ipv4Addr::new(10, 88, 0, 50);
    let server = Ipv4Addr::new(10, 88, 0, 1);
    let network = Ipv4Network::new(server, 24).unwrap();
    let off = Subnet { server, network, pools: Vec::new(), mode: Mode::Off, ..subnet() };
    let ours = || Subnet { authoritative: true, ..subnet() };
    for subnets in [vec![ours(), off.clone()], vec![off.clone(), ours()]] {
        let mut room = Room::new(Policy { subnets, ..policy() });
        let ann = |message| Packet::new(ANN, message);
        let heard = [
            room.hear(0, &ann(DISCOVER).wishes(theirs)),
            room.hear(0, &ann(REQUEST).wishes(theirs)),
            room.hear(0, &ann(REQUEST).wishes(theirs).for_server(Ipv4Addr::new(10, 88, 0, 2))),
            room.hear(0, &ann(REQUEST).ciaddr(theirs)),
            room.hear_unicast(0, &ann(REQUEST).ciaddr(theirs), theirs),
            room.hear_unicast(0, &ann(INFORM).ciaddr(theirs), theirs),
            room.hear_unicast(0, &ann(DISCOVER).giaddr(Ipv4Addr::new(10, 88, 0, 9)), Ipv4Addr::new(10, 88, 0, 9)),
            room.ask_boot_server(0, &pxe(ann(REQUEST), 7).ciaddr(theirs), SocketAddrV4::new(theirs, 4011)),
        ];
        for outcome in heard {
            assert_eq!(line(&outcome), "silence: address-elsewhere");
        }
        // Who says nothing of an address gets one of ours, and a stray from elsewhere is told that it is wrong.
        assert!(ours().network.contains(yiaddr(&room.hear(1, &ann(DISCOVER)))));
        let stray = room.hear(1, &ann(REQUEST).wishes(Ipv4Addr::new(192, 0, 2, 1)));
        assert!(line(&stray).starts_with("nak Nak(WrongNetwork)"), "{}", line(&stray));
    }
}
