//! A small room: packets, one subnet, and transcripts.
#![allow(dead_code, unreachable_pub, reason = "a module of each test file, which uses its own part")]

use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::{Architecture, Firmware, MacAddr};
use dhcp_engine::{
    AddressRange, BootPolicy, Effect, Engine, Host, Identity, Ingress, Ipv4Network, Lease, Mode, Now, Outcome, Policy,
    Request, ServerPort, Subnet, SubnetOptions, UnknownHosts,
};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const ANN: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 0x0a]);
pub const BOB: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 0x0b]);
/// Has a reservation.
pub const EVE: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 0x0e]);

pub const DISCOVER: u8 = 1;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const RELEASE: u8 = 7;
pub const INFORM: u8 = 8;

/// A client's message.
#[derive(Clone)]
pub struct Packet {
    pub header: [u8; 240],
    pub options: Vec<u8>,
}

impl Packet {
    pub fn new(mac: MacAddr, message_type: u8) -> Self {
        let mut header = [0; 240];
        header[..8].copy_from_slice(&[1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
        header[28..34].copy_from_slice(&mac.bytes());
        header[236..].copy_from_slice(&[99, 130, 83, 99]);
        Self { header, options: vec![53, 1, message_type] }
    }

    /// BOOTP has no option 53.
    pub fn bootp(mac: MacAddr) -> Self {
        Self { options: Vec::new(), ..Self::new(mac, 0) }
    }

    pub fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.extend([code, value.len() as u8]);
        self.options.extend(value);
        self
    }

    pub fn wishes(self, address: Ipv4Addr) -> Self {
        self.with(50, &address.octets())
    }

    pub fn for_server(self, address: Ipv4Addr) -> Self {
        self.with(54, &address.octets())
    }

    pub fn ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.header[12..16].copy_from_slice(&address.octets());
        self
    }

    pub fn giaddr(mut self, address: Ipv4Addr) -> Self {
        self.header[24..28].copy_from_slice(&address.octets());
        self
    }

    pub fn broadcast_flag(mut self) -> Self {
        self.header[10] = 0x80;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.options, &[255]].concat()
    }
}

/// A PXE ROM of this architecture.
pub fn pxe(packet: Packet, architecture: u16) -> Packet {
    let class = format!("PXEClient:Arch:{architecture:05}:UNDI:002001");
    packet.with(60, class.as_bytes()).with(93, &architecture.to_be_bytes()).with(97, &[0; 17])
}

pub fn subnet() -> Subnet {
    Subnet {
        interface: "lan".into(),
        server: SERVER,
        network: Ipv4Network::new(SERVER, 24).unwrap(),
        pools: vec![AddressRange::new(Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199)).unwrap()],
        routers: vec![SERVER],
        dns: vec![],
        domain: None,
        lease_seconds: 3600,
        hosts: [(EVE, Host { address: Some(Ipv4Addr::new(10, 77, 0, 150)), name: Some("eve".parse().unwrap()) })]
            .into(),
        unknown: UnknownHosts::Role("lab".parse().unwrap()),
        authoritative: false,
        mode: Mode::Full,
        options: SubnetOptions::default(),
    }
}

pub fn policy() -> Policy {
    let loaders = [
        (Firmware::Bios, "lpxelinux.0"),
        (Firmware::UefiX64, "x64/grubx64.efi"),
        (Firmware::UefiArm64, "arm64/grubaa64.efi"),
        (Firmware::UefiIa32, "ia32/grubia32.efi"),
        (Firmware::HttpIa32, "loaders/ia32.efi"),
        (Firmware::HttpX64, "loaders/snponly.efi"),
        (Firmware::HttpArm64, "loaders/arm64.efi"),
        (Firmware::UbootArm64, "u-boot.scr"),
    ];
    let boot = BootPolicy {
        servable: [Architecture::X86_64, Architecture::Aarch64].map(|a| ("lab".parse().unwrap(), a)).into(),
        roles: Default::default(),
        loaders: loaders.map(|(firmware, file)| (firmware, file.to_owned())).into(),
        classes: Vec::new(),
        http_port: 8080,
    };
    Policy { subnets: vec![subnet()], identity: Identity::Mac, boot, probe: false }
}

/// An engine with a store that always works, unless the test says otherwise.
pub struct Room {
    pub engine: Engine,
    pub saved: Vec<Lease>,
    pub store_works: bool,
}

pub fn at(seconds: u64) -> Now {
    Now { monotonic_ms: seconds * 1000, unix: 1_800_000_000 + seconds }
}

impl Room {
    pub fn new(policy: Policy) -> Self {
        Self::restored(policy, Vec::new(), 0)
    }

    pub fn restored(policy: Policy, saved: Vec<Lease>, seconds: u64) -> Self {
        Self { engine: Engine::new(policy, saved.clone(), at(seconds)), saved, store_works: true }
    }

    /// The client's packet as it comes from a client without an address.
    pub fn hear(&mut self, seconds: u64, packet: &Packet) -> Outcome {
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        self.hear_from(
            seconds,
            packet,
            Ingress { interface: "lan", source, destination: Ipv4Addr::BROADCAST, port: ServerPort::Dhcp },
        )
    }

    /// The client's packet as it comes by unicast from the address that it has.
    pub fn hear_unicast(&mut self, seconds: u64, packet: &Packet, source: Ipv4Addr) -> Outcome {
        let source = SocketAddrV4::new(source, 68);
        self.hear_from(
            seconds,
            packet,
            Ingress { interface: "lan", source, destination: SERVER, port: ServerPort::Dhcp },
        )
    }

    /// To the boot server's port, from a client that has this address.
    pub fn ask_boot_server(&mut self, seconds: u64, packet: &Packet, source: SocketAddrV4) -> Outcome {
        let port = ServerPort::BootServer;
        self.hear_from(seconds, packet, Ingress { interface: "lan", source, destination: SERVER, port })
    }

    pub fn hear_from(&mut self, seconds: u64, packet: &Packet, from: Ingress<'_>) -> Outcome {
        let bytes = packet.bytes();
        let request = Request::parse(&bytes).unwrap();
        let outcome = self.engine.handle(at(seconds), &request, from);
        if let Outcome::Act(decision) = &outcome
            && self.store_works
        {
            for effect in &decision.effects {
                if let Effect::SaveLease(lease) = effect {
                    self.engine.saved([lease]);
                    self.saved.push(lease.clone());
                }
            }
        }
        outcome
    }
}

/// A room where Ann has her lease since second 0.
pub fn with_ann() -> (Room, Ipv4Addr) {
    let mut room = Room::new(policy());
    let address = yiaddr(&room.hear(0, &Packet::new(ANN, DISCOVER)));
    let ack = room.hear(0, &Packet::new(ANN, REQUEST).wishes(address).for_server(SERVER));
    assert!(line(&ack).starts_with("save"), "{}", line(&ack));
    (room, address)
}

/// An outcome in one line: what is saved, what is sent where and why, or the silence and its reason.
pub fn line(outcome: &Outcome) -> String {
    let decision = match outcome {
        Outcome::Ignore(reason) => return format!("silence: {}", reason.name()),
        Outcome::Act(decision) => decision,
    };
    let mut parts = Vec::new();
    for effect in &decision.effects {
        parts.push(match effect {
            Effect::SaveLease(lease) => format!("save {} {} {}", lease.address, lease.state, lease.client),
            Effect::Probe { address, by } => format!("probe {address} {by:?}"),
            Effect::Send { to, .. } => format!("{} {:?} to {to}", decision.verdict.name(), decision.verdict),
        });
    }
    parts.join("; ")
}

/// The reply of an outcome.
pub fn reply(outcome: &Outcome) -> &[u8] {
    let Outcome::Act(decision) = outcome else { panic!("no reply: {outcome:?}") };
    let sent = decision.effects.iter().find_map(|effect| match effect {
        Effect::Send { reply, .. } => Some(reply),
        _ => None,
    });
    sent.expect("a reply")
}

/// The address that a reply gives.
pub fn yiaddr(outcome: &Outcome) -> Ipv4Addr {
    let reply = reply(outcome);
    Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19])
}

/// The options of a reply in order, each as it stands there.
pub fn options(reply: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    let mut rest = &reply[240..];
    while let [code, length, tail @ ..] = rest
        && *code != 255
    {
        let (value, tail) = tail.split_at(usize::from(*length));
        options.push((*code, value.to_vec()));
        rest = tail;
    }
    assert_eq!(rest.first(), Some(&255), "options end with 255");
    assert!(rest[1..].iter().all(|byte| *byte == 0), "only padding after the end");
    options
}

pub fn option(reply: &[u8], code: u8) -> Option<Vec<u8>> {
    options(reply).into_iter().find(|(other, _)| *other == code).map(|(_, value)| value)
}
