//! The program beside another DHCP server: there are no leases to know a machine by, and a cable to ask.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, in its helper functions too, and says why it is skipped"
)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread;

use common::{Client, Response, State};
use nix::sched::{CloneFlags, setns};

const PC01: &str = "52:54:00:77:00:01";
const STRANGER: &str = "52:54:00:77:00:02";
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 8080);

#[test]
fn a_machine_without_a_lease_is_known_by_its_card() {
    if skipped() {
        return;
    }
    let cable = Cable::lay();
    let server = Server::start(&cable);
    // Left over from the day when we gave the addresses.
    server.state.lease([10, 77, 0, 20].into(), STRANGER.parse().unwrap());

    cable.plug_in(PC01, "10.77.0.20/24");
    let from = Ipv4Addr::new(10, 77, 0, 20);
    assert_eq!(cable.get(from, "/boot.ipxe").text(), "#!ipxe\nmenu pc01\n");
    assert_eq!(cable.report(from, PC01), 204);
    assert_eq!(cable.report(from, STRANGER), 403);

    cable.plug_in(STRANGER, "10.77.0.21/24");
    let from = Ipv4Addr::new(10, 77, 0, 21);
    assert_eq!(cable.get(from, "/boot.ipxe").text(), "#!ipxe\nnot registered\n");
    assert_eq!(cable.report(from, PC01), 403);
    let events = server.events();
    assert!(events.contains(&format!(r#""mac":"{PC01}","address":"10.77.0.20""#)), "{events}");

    // In a network behind a router one card answers for everybody.
    ip(&["-n", &cable.server, "route", "add", "10.78.0.0/24", "dev", "lan"]);
    cable.plug_in(PC01, "10.78.0.20/24");
    ip(&["-n", &cable.client, "route", "add", "10.77.0.0/24", "dev", "card"]);
    let from = Ipv4Addr::new(10, 78, 0, 20);
    assert_eq!(cable.get(from, "/boot.ipxe").text(), "#!ipxe\nnot registered\n");
    assert!(cable.neighbours().contains(PC01), "it did answer ARP: {}", cable.neighbours());
    assert_eq!(cable.report(from, PC01), 403);
}

/// Whether what this test needs is not there; it is printed then. With `ROOKERY_REQUIRE_PEERS` that is a failure.
fn skipped() -> bool {
    let ip = Command::new("ip").arg("-V").output().is_ok();
    if ip && nix::unistd::Uid::effective().is_root() {
        return false;
    }
    let what = "network namespaces need root and `ip` (Debian: iproute2)";
    assert!(std::env::var_os("ROOKERY_REQUIRE_PEERS").is_none(), "ROOKERY_REQUIRE_PEERS is set, and {what}");
    println!("skipped: {what}");
    true
}

/// Two namespaces and a veth pair between them; gone when dropped.
struct Cable {
    server: String,
    client: String,
}

impl Cable {
    fn lay() -> Self {
        let name = format!("nar{}", std::process::id());
        let cable = Self { server: format!("{name}s"), client: format!("{name}c") };
        ip(&["netns", "add", &cable.server]);
        ip(&["netns", "add", &cable.client]);
        ip(&[
            "-n",
            &cable.server,
            "link",
            "add",
            "lan",
            "type",
            "veth",
            "peer",
            "name",
            "card",
            "netns",
            &cable.client,
        ]);
        ip(&["-n", &cable.server, "addr", "add", "10.77.0.1/24", "dev", "lan"]);
        ip(&["-n", &cable.server, "link", "set", "lan", "up"]);
        cable
    }

    /// Makes the client another machine.
    fn plug_in(&self, mac: &str, address: &str) {
        ip(&["-n", &self.client, "link", "set", "card", "down"]);
        ip(&["-n", &self.client, "addr", "flush", "dev", "card"]);
        ip(&["-n", &self.client, "link", "set", "card", "address", mac, "up"]);
        ip(&["-n", &self.client, "addr", "add", address, "dev", "card"]);
    }

    fn get(&self, from: Ipv4Addr, path: &str) -> Response {
        self.ask(from, "GET", &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// The status that a report about this card is answered with.
    fn report(&self, from: Ipv4Addr, mac: &str) -> u16 {
        let body = format!(r#"{{"mac":"{mac}","boot-id":7,"step":"disk","status":"ok","uptime-ms":2100}}"#);
        let head = format!("POST /report HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        self.ask(from, "POST", &(head + &body)).status()
    }

    fn ask(&self, from: Ipv4Addr, method: &str, request: &str) -> Response {
        let namespace = File::open(format!("/run/netns/{}", self.client)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                let mut client = Client::connect_from(from, SERVER);
                client.send(request);
                client.response_to(method)
            });
            inside.join().unwrap()
        })
    }

    fn neighbours(&self) -> String {
        let output = Command::new("ip").args(["-n", &self.server, "neigh", "show", "10.78.0.20"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// The program in the server's namespace; ended with the test.
struct Server {
    state: State,
    child: Child,
}

impl Server {
    fn start(cable: &Cable) -> Self {
        let state = State::new();
        state.write("menus/current/10.77.0.1/ipxe/default.ipxe", b"#!ipxe\nnot registered\n");
        state.write("menus/current/10.77.0.1/ipxe/52-54-00-77-00-01.ipxe", b"#!ipxe\nmenu pc01\n");
        let config = state.outside().join("rookery.toml");
        let lan = "[[subnet]]\ninterface = \"lan\"\naddress = \"10.77.0.1/24\"\nunknown = \"nothing\"\n";
        let root = state.layout.root();
        let text = format!(
            "state-directory = {root:?}\n{lan}mode = \"proxy\"\n{lan}mode = \"off\"\nnetwork = \"10.78.0.0/24\"\n[[role]]\nname = \"lab\"\n"
        );
        fs::write(&config, text).unwrap();
        let host = format!("[[host]]\nmac = \"{PC01}\"\nname = \"pc01\"\nrole = \"lab\"\n");
        fs::create_dir(state.outside().join("hosts.d")).unwrap();
        fs::write(state.outside().join("hosts.d/lab.toml"), host).unwrap();

        let mut command = Command::new("ip");
        command.args(["netns", "exec", &cable.server, env!("CARGO_BIN_EXE_rookery-nar-cache"), "--config"]).arg(config);
        let mut child = command.env_remove("RUST_LOG").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().ends_with(" at 10.77.0.1:8080"));
        assert!(ready, "it ended: {:?}", child.wait());
        Self { state, child }
    }

    fn events(&self) -> String {
        fs::read_to_string(self.state.layout.events("nar-cache").join("events.jsonl")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}
