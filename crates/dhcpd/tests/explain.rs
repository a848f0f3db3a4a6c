//! Real firmware's packets: what we would answer, against the text in `golden/`. `UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_model::{Architecture, Firmware};
use dhcp_engine::{AddressRange, BootPolicy, Identity, Ipv4Network, Mode, Policy, Subnet, SubnetOptions, UnknownHosts};

/// The network of the capture: each was made in its own.
fn policy(server: Ipv4Addr, mode: Mode) -> Policy {
    let [a, b, c, _] = server.octets();
    let subnet = Subnet {
        interface: "lan".into(),
        server,
        network: Ipv4Network::new(server, 24).unwrap(),
        pools: vec![AddressRange::new(Ipv4Addr::new(a, b, c, 10), Ipv4Addr::new(a, b, c, 199)).unwrap()],
        routers: vec![server],
        dns: vec![server],
        domain: Some("lab.example.org".into()),
        lease_seconds: 3600,
        hosts: Default::default(),
        unknown: UnknownHosts::Role("lab".parse().unwrap()),
        authoritative: true,
        mode,
        options: SubnetOptions::default(),
    };
    let loaders = [
        (Firmware::Bios, "lpxelinux.0"),
        (Firmware::UefiX64, "grubx64.efi"),
        (Firmware::UefiArm64, "grubaa64.efi"),
        (Firmware::HttpX64, "snponly.efi"),
    ];
    let boot = BootPolicy {
        servable: [Architecture::X86_64, Architecture::Aarch64].map(|a| ("lab".parse().unwrap(), a)).into(),
        roles: Default::default(),
        loaders: loaders.map(|(firmware, file)| (firmware, file.to_owned())).into(),
        classes: Vec::new(),
        http_port: 8080,
    };
    Policy { subnets: vec![subnet], identity: Identity::Mac, boot, probe: false }
}

#[test]
fn captures_are_answered_as_written_down() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = fs::read_dir(here.join("../dhcp-engine/fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".pcap").map(str::to_owned))
        .collect();
    names.sort();
    assert_eq!(names.len(), 9);
    let mut different = Vec::new();
    for name in names {
        let capture = fs::read(here.join("../dhcp-engine/fixtures").join(format!("{name}.pcap"))).unwrap();
        let packets = dhcpd::packets(&capture).unwrap();
        // The server of the capture is whoever sent from port 67.
        let server = *packets.iter().find(|packet| packet.source.port() == 67).unwrap().source.ip();
        // The proxy's answers to the same packets: what stands beside another server's.
        for (mode, name) in [(Mode::Full, name.clone()), (Mode::Proxy, format!("{name}.proxy"))] {
            let text = dhcpd::explain(policy(server, mode), "lan", &packets);
            let golden = here.join("tests/golden").join(format!("{name}.txt"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&golden, &text).unwrap();
            }
            if fs::read_to_string(&golden).unwrap_or_default() != text {
                different.push(format!("--- {name}\n{text}"));
            }
        }
    }
    assert!(different.is_empty(), "not as in tests/golden (UPDATE_GOLDEN=1 writes them anew):\n{}", different.concat());
}
