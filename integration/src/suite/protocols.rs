//! Real DHCP clients through the life of a lease, each in a network namespace of its own, beside the real server.

mod client;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use boot_model::event::{Event, EventKind};

use super::{Context, Test};
use crate::namespace::Namespace;
use crate::process::run;
use crate::servers::{Host, Mark, Servers, Service, Site};
use crate::{Error, Lab, Result};
use client::{Client, Program};

pub(super) fn tests() -> Vec<Test> {
    let life = [
        ("udhcpc-life", Program::Udhcpc),
        ("dhclient-life", Program::Dhclient),
        ("dhcpcd-life", Program::Dhcpcd),
        ("networkd-life", Program::Networkd),
    ];
    // Not systemd's: the DECLINE of version 252 never leaves the machine, for want of a route.
    let decline = [
        ("udhcpc-decline", Program::Udhcpc),
        ("dhclient-decline", Program::Dhclient),
        ("dhcpcd-decline", Program::Dhcpcd),
    ];
    let reboot = [
        ("udhcpc-reboot", Program::Udhcpc),
        ("dhclient-reboot", Program::Dhclient),
        ("dhcpcd-reboot", Program::Dhcpcd),
        ("networkd-reboot", Program::Networkd),
    ];
    let life = life.map(|(name, program)| Test::new(name, move |context| self::life(context, program)));
    let decline = decline.map(|(name, program)| Test::new(name, move |context| self::decline(context, program)));
    let reboot = reboot.map(|(name, program)| Test::new(name, move |context| self::reboot(context, program)));
    life.into_iter().chain(decline).chain(reboot).collect()
}

const MAC: &str = "52:54:00:77:00:01";

/// The shortest lease that the server gives: a client renews after 30 s and rebinds after 52 s.
const LEASE: u32 = 60;

/// Longer than any client waits before it does something.
const PATIENCE: Duration = Duration::from_secs(180);

/// Obtains an address, renews it, rebinds when nobody answers the renewal, gives it back.
fn life(context: &Context<'_>, program: Program) -> Result<()> {
    let lab = context.lab(0)?;
    let room = Room::open(context, &lab)?;
    let mut servers = room.start()?;
    let mark = servers.mark()?;
    let mut client = Client::start(program, &lab, &room.card, "client")?;
    let address = room.wait(&servers, &mark, "its address", |event| is(event, "ACK", "takes our offer"))?;

    let mark = servers.mark()?;
    client.renew_now()?;
    let renewed = room.wait(&servers, &mark, "its renewal", |event| is(event, "ACK", "the client renews"))?;

    // What it sends to the server alone gets lost from here on.
    let mark = servers.mark()?;
    room.set_neighbour(&["replace", "lladdr", "02:00:00:00:00:ff", "nud", "permanent"])?;
    let rebound = room.wait(&servers, &mark, "its rebinding", |event| is(event, "ACK", "the client rebinds"))?;
    room.set_neighbour(&["del"])?;
    context.expect(renewed == address && rebound == address, || format!("{address} became {renewed} and {rebound}"))?;

    let mark = servers.mark()?;
    client.release()?;
    let released = room.wait(&servers, &mark, "its release", |event| is(event, "RELEASE", ""))?;
    context.expect(released == address, || format!("{released} was given back, not {address}"))?;
    servers.stop_all()
}

/// Finds somebody else at its address, says so and gets another.
fn decline(context: &Context<'_>, program: Program) -> Result<()> {
    let lab = context.lab(0)?;
    let room = Room::open(context, &lab)?;
    let mut servers = room.start()?;
    let mark = servers.mark()?;
    let client = Client::start(program, &lab, &room.card, "client")?;
    let address = room.wait(&servers, &mark, "its address", |event| is(event, "ACK", ""))?;
    client.cut_power();
    room.forget_address()?;

    let _squatter = lab.namespace().beside(address)?;
    let mark = servers.mark()?;
    let _client = Client::start(program, &lab, &room.card, "client-again")?;
    let declined = room.wait(&servers, &mark, "that it declines", |event| is(event, "DECLINE", ""))?;
    context.expect(declined == address, || format!("{declined} was declined, not {address}"))?;
    let another = |event: &Event| is(event, "ACK", "takes our offer") && event.address != Some(address);
    room.wait(&servers, &mark, "another address", another)?;
    servers.stop_all()
}

/// Remembers an address, or asks for it, that is not its own any more. (systemd's after a power cut does neither.)
fn reboot(context: &Context<'_>, program: Program) -> Result<()> {
    let lab = context.lab(0)?;
    let room = Room::open(context, &lab)?;
    let mut servers = room.start()?;
    let mark = servers.mark()?;
    let client = Client::start(program, &lab, &room.card, "client")?;
    let address = room.wait(&servers, &mark, "its address", |event| is(event, "ACK", ""))?;
    client.wait_until_remembered(address)?;
    client.cut_power();
    room.forget_address()?;

    servers.kill(Service::Dhcpd);
    let reserved = Ipv4Addr::new(10, 77, 0, 50);
    room.reserve(reserved)?;
    servers.start_one(Service::Dhcpd)?;
    let mark = servers.mark()?;
    let _client = Client::start_again(program, &lab, &room.card, address)?;
    if program.remembers() {
        room.wait(&servers, &mark, "a refusal", |event| is(event, "NAK", ""))?;
    }
    let got = room.wait(&servers, &mark, "its reserved address", |event| is(event, "ACK", ""))?;
    context.expect(got == reserved, || format!("it got {got}, not {reserved}"))?;
    servers.stop_all()
}

fn is(event: &Event, expected: &str, because: &str) -> bool {
    matches!(&event.kind, EventKind::Dhcp { message, reason, .. } if message == expected && reason.contains(because))
}

/// A server's site and a client's card.
struct Room<'a> {
    context: &'a Context<'a>,
    lab: &'a Lab,
    site: Site,
    card: Namespace,
}

impl<'a> Room<'a> {
    fn open(context: &'a Context<'_>, lab: &'a Lab) -> Result<Self> {
        let site = Site::create(&lab.scratch().join("site"), &[])?;
        // The client itself is to find out who has its address.
        let text = fs::read_to_string(site.config()).map_err(Error::io("reading the configuration"))?;
        let text = text.replace("lease-seconds = 3600", &format!("lease-seconds = {LEASE}"));
        let text = text.replace("[publish]", "[dhcpd]\nprobe-milliseconds = 0\n[publish]");
        fs::write(site.config(), text).map_err(Error::io("writing the configuration"))?;
        let card = lab.namespace().beside(Ipv4Addr::UNSPECIFIED)?;
        run(Command::new("ip").args(["-n", card.name(), "link", "set", "eth0", "address", MAC]))?;
        Ok(Self { context, lab, site, card })
    }

    fn start(&'a self) -> Result<Servers<'a>> {
        let mut servers = Servers::new(self.lab, self.context.workspace, &self.site);
        servers.start_one(Service::Dhcpd)?;
        Ok(servers)
    }

    /// The address of the first such event.
    fn wait(
        &self,
        servers: &Servers<'_>,
        mark: &Mark,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Ipv4Addr> {
        self.lab.poll(what, PATIENCE, || {
            Ok(servers.events_since(mark)?.iter().find(|event| wanted(event)).and_then(|event| event.address))
        })
    }

    /// What the client's system believes of the server's hardware address.
    fn set_neighbour(&self, how: &[&str]) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", self.card.name(), "neigh", how[0], "10.77.0.1", "dev", "eth0"]).args(&how[1..]);
        run(&mut ip).map(drop)
    }

    /// As after a power cut: the system's memory is gone, the disk's is not.
    fn forget_address(&self) -> Result<()> {
        run(Command::new("ip").args(["-n", self.card.name(), "addr", "flush", "dev", "eth0"])).map(drop)
    }

    fn reserve(&self, address: Ipv4Addr) -> Result<()> {
        let host = Host { mac: MAC.to_owned(), name: "pc01".to_owned(), address };
        let Host { mac, name, address } = host;
        let text = format!("[[host]]\nmac = \"{mac}\"\nname = \"{name}\"\naddress = \"{address}\"\n");
        let file = self.site.config().with_file_name("hosts.d").join("lab.toml");
        fs::write(&file, text).map_err(Error::io(format!("writing {}", file.display())))
    }
}
