//! A server and a client that share a cable.
#![allow(dead_code, reason = "a module of each test file, which uses its own part")]

#[path = "../../../generations/tests/common/mod.rs"]
mod published;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// What udhcpc renews on.
pub(crate) const RENEW: Signal = Signal::SIGUSR1;
/// What udhcpc releases on.
pub(crate) const RELEASE: Signal = Signal::SIGUSR2;

/// Only a hang is longer than this, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server logs, shown when a test fails.
const LOG: &str = "server.log";

/// Whether what these tests need is not there; it is printed then. With `ROOKERY_REQUIRE_PEERS` that is a failure.
pub(crate) fn skipped() -> bool {
    let Some(what) = missing() else { return false };
    assert!(std::env::var_os("ROOKERY_REQUIRE_PEERS").is_none(), "ROOKERY_REQUIRE_PEERS is set, and {what}");
    println!("skipped: {what}");
    true
}

fn missing() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let absent = |program: &&str| Command::new(program).arg("--help").stdin(Stdio::null()).output().is_err();
    let program = ["ip", "udhcpc", "dhclient", "dnsmasq", "strace"].into_iter().find(absent)?;
    Some(format!("{program} is not installed (Debian: iproute2, udhcpc, isc-dhcp-client, dnsmasq-base, strace)"))
}

/// Two namespaces, a veth pair, a state directory; all gone when dropped.
pub(crate) struct Room {
    name: String,
    directory: TempDir,
    server: Option<Child>,
    others: Vec<Child>,
}

impl Room {
    /// `tag` tells rooms of one process apart.
    pub(crate) fn new(tag: &str) -> Self {
        let name = format!("dhcp{}{tag}", std::process::id());
        let room = Self { name, directory: TempDir::new().unwrap(), server: None, others: Vec::new() };
        let (server, client) = (room.server_namespace(), room.client_namespace());
        ip(&["netns", "add", &server]);
        ip(&["netns", "add", &client]);
        ip(&["-n", &server, "link", "add", "lan", "type", "veth", "peer", "name", "card", "netns", &client]);
        ip(&["-n", &server, "addr", "add", "10.77.0.1/24", "dev", "lan"]);
        ip(&["-n", &server, "link", "set", "lan", "up"]);
        ip(&["-n", &server, "link", "set", "lo", "up"]);
        room.change_client_mac("52:54:00:77:00:01");
        let config = format!(
            "state-directory = {:?}\n[[subnet]]\ninterface = \"lan\"\naddress = \"10.77.0.1/24\"\n\
             pools = [\"10.77.0.100-10.77.0.199\"]\nlease-seconds = 3600\nunknown = {{ role = \"lab\" }}\n\
             [[role]]\nname = \"lab\"\ntitle = \"Lab\"\n",
            room.path("state")
        );
        fs::create_dir(room.path("state")).unwrap();
        fs::write(room.path("rookery.toml"), config).unwrap();
        room
    }

    /// Replaces a line of the configuration, before the server is started.
    pub(crate) fn configure(&self, line: &str, by: &str) {
        let file = self.path("rookery.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(line));
        fs::write(&file, text.replace(line, by)).unwrap();
    }

    /// A generation of the role `lab`, and loaders for BIOS and UEFI.
    pub(crate) fn publish_something(&self) {
        let layout = generations::Layout::new(self.path("state"));
        published::set_default(&layout, &published::publish(&layout, 1, 'a'));
        self.write_loaders(r#"{"bios":"lpxelinux.0","uefi-x64":"grubx64.efi"}"#);
    }

    /// The table of loaders, put in its place whole as `rookery loaders install` does.
    pub(crate) fn write_loaders(&self, table: &str) {
        let layout = generations::Layout::new(self.path("state"));
        fs::create_dir_all(layout.loaders()).unwrap();
        let beside = layout.loaders().join(".loaders.json.new");
        fs::write(&beside, table).unwrap();
        fs::rename(beside, layout.loaders_table()).unwrap();
    }

    /// A machine with this address and a MAC address of its own, beside the client.
    pub(crate) fn add_squatter(&self, address: &str) {
        let client = self.client_namespace();
        ip(&["-n", &client, "link", "add", "name", "squatter", "link", "card", "type", "macvlan", "mode", "bridge"]);
        ip(&["-n", &client, "link", "set", "squatter", "up"]);
        ip(&["-n", &client, "addr", "add", &format!("{address}/24"), "dev", "squatter"]);
    }

    /// Another DHCP server beside ours, on the same machine, which says nothing about booting.
    pub(crate) fn start_dnsmasq(&mut self) {
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.server_namespace(),
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
            ])
            .args(["--user=root", "--port=0", "--bind-dynamic", "--interface=lan", "--no-ping", "--log-dhcp"])
            .args(["--dhcp-range=10.77.0.20,10.77.0.90,255.255.255.0,3600", "--dhcp-authoritative", "--pid-file="])
            .arg(format!("--dhcp-leasefile={}", self.path("dnsmasq.leases").display()))
            .arg(format!("--log-facility={}", self.path("dnsmasq.log").display()))
            .spawn()
            .unwrap();
        self.others.push(child);
        self.wait_for_text("dnsmasq.log", "sockets bound exclusively to interface lan");
    }

    /// Makes the client's namespace hear what comes for it, as a firmware without an address would.
    pub(crate) fn in_client_namespace<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.client_namespace())).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Returns when the server has said that it is ready.
    pub(crate) fn start_server(&mut self) {
        let ready = self.path("notify");
        let _ = fs::remove_file(&ready);
        let socket = UnixDatagram::bind(&ready).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.server_namespace(), env!("CARGO_BIN_EXE_rookery-dhcpd"), "--config"])
            .arg(self.path("rookery.toml"))
            .env("NOTIFY_SOCKET", &ready)
            .env("RUST_LOG", "debug")
            .stderr(OpenOptions::new().create(true).append(true).open(self.path(LOG)).unwrap())
            .spawn()
            .unwrap();
        self.server = Some(child);
        let mut message = [0; 200];
        let length = socket.recv(&mut message).expect("the server says that it is ready");
        assert!(message[..length].starts_with(b"READY=1"));
    }

    /// A disk that takes this long for the next leases.
    pub(crate) fn delay_next_sync(&mut self, microseconds: u32) {
        let server = self.server.as_ref().unwrap().id().to_string();
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &server, "-e", "trace=fdatasync"])
            .arg(format!("--inject=fdatasync:delay_exit={microseconds}:when=1"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
        self.others.push(strace);
        assert!(said.contains("attached"), "{said}");
    }

    /// Power cut, as far as the process is concerned: `ip netns exec` has become the server.
    pub(crate) fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Reserves an address for a host and tells the server to read its hosts again.
    pub(crate) fn reload_with_host(&self, mac: &str, address: &str) {
        fs::create_dir(self.path("hosts.d")).unwrap();
        let host = format!("[[host]]\nmac = \"{mac}\"\nname = \"pc1\"\nrole = \"lab\"\naddress = \"{address}\"\n");
        fs::write(self.path("hosts.d/lab.toml"), host).unwrap();
        self.reload();
    }

    /// What `systemctl reload` does.
    pub(crate) fn reload(&self) {
        let server = self.server.as_ref().unwrap();
        kill(Pid::from_raw(server.id() as i32), Signal::SIGHUP).unwrap();
    }

    pub(crate) fn change_client_mac(&self, mac: &str) {
        let client = self.client_namespace();
        ip(&["-n", &client, "link", "set", "card", "down"]);
        ip(&["-n", &client, "addr", "flush", "dev", "card"]);
        ip(&["-n", &client, "link", "set", "card", "address", mac, "up"]);
    }

    /// The state that `leases --json` says an address is in.
    pub(crate) fn state_of(&self, address: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_rookery-dhcpd"))
            .arg("--config")
            .arg(self.path("rookery.toml"))
            .args(["leases", "--json"])
            .output()
            .unwrap();
        assert!(output.status.success());
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let row = rows.iter().find(|row| row["address"] == address);
        row.map_or("unknown", |row| row["state"].as_str().unwrap()).to_owned()
    }

    pub(crate) fn events(&self) -> String {
        fs::read_to_string(self.path("state/events/dhcpd/events.jsonl")).unwrap_or_default()
    }

    /// Waits for a line of events: what a client sends last has no answer that could be waited for.
    pub(crate) fn wait_for_event(&self, text: &str) {
        self.wait_for_text("state/events/dhcpd/events.jsonl", text);
    }

    /// Waits until the server has logged `text` so many times.
    pub(crate) fn wait_for_log(&self, text: &str, times: usize) {
        let begun = Instant::now();
        let read = || fs::read_to_string(self.path(LOG)).unwrap_or_default();
        while read().matches(text).count() < times {
            assert!(begun.elapsed() < PATIENCE, "the server does not say {text:?} {times} times");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until dhclient has written its lease, which it does after it has told its script.
    pub(crate) fn wait_for_dhclient_lease(&self, address: &str) {
        self.wait_for_text("dhclient.leases", &format!("fixed-address {address};"));
    }

    fn wait_for_text(&self, file: &str, text: &str) {
        let begun = Instant::now();
        let read = || fs::read_to_string(self.path(file)).unwrap_or_default();
        while !read().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{file} does not say {text:?}:\n{}", read());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn forge_dhclient_lease(&self, from: &str, to: &str) {
        let path = self.path("dhclient.leases");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    pub(crate) fn release_with_dhclient(&self) {
        let script = self.script("released", "exit 0");
        let status = self.dhclient_command(&script).arg("-r").arg("card").status().unwrap();
        assert!(status.success());
    }

    fn dhclient_command(&self, script: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.client_namespace(), "dhclient", "-4", "-1", "-cf", "/dev/null"]);
        command.arg("-lf").arg(self.path("dhclient.leases")).arg("-pf").arg(self.path("dhclient.pid"));
        command.arg("-sf").arg(script);
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn server_namespace(&self) -> String {
        format!("{}s", self.name)
    }

    fn client_namespace(&self) -> String {
        format!("{}c", self.name)
    }

    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path(LOG)).unwrap_or_default());
        }
        for server in self.server.iter_mut().chain(&mut self.others) {
            let _ = server.kill();
            let _ = server.wait();
        }
        for namespace in [self.server_namespace(), self.client_namespace()] {
            let _ = Command::new("ip").args(["netns", "delete", &namespace]).status();
        }
    }
}

/// A DHCP client that runs and tells what happens to it, one line "what address" each.
pub(crate) struct Client {
    child: Child,
    lines: Receiver<String>,
}

impl Client {
    pub(crate) fn udhcpc(room: &Room, arguments: &[&str]) -> Self {
        let (fifo, lines) = told(room, "udhcpc");
        let body =
            format!("case $1 in bound) ip addr replace $ip/24 dev card;; esac\necho \"$1 $ip\" > {}", fifo.display());
        let script = room.script("udhcpc.sh", &body);
        let child = Command::new("ip")
            .args(["netns", "exec", &room.client_namespace(), "udhcpc", "-f", "-i", "card", "-T", "1", "-s"])
            .arg(script)
            .args(arguments)
            .spawn()
            .unwrap();
        let mut client = Self { child, lines };
        client.next("deconfig");
        client
    }

    pub(crate) fn dhclient(room: &Room) -> Self {
        let (fifo, lines) = told(room, "dhclient");
        let body = format!(
            "case $reason in BOUND|REBOOT) ip addr replace $new_ip_address/24 dev card;; esac\n\
             echo \"$reason $new_ip_address\" > {}",
            fifo.display()
        );
        let script = room.script("dhclient.sh", &body);
        let child = room.dhclient_command(&script).args(["-d", "-v", "card"]).spawn().unwrap();
        Self { child, lines }
    }

    /// The address that belongs to the next time that `what` happens.
    pub(crate) fn next(&mut self, what: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} did not happen"));
            if let Some(address) = line.strip_prefix(what) {
                return address.trim().to_owned();
            }
        }
    }

    /// Sends the signal and returns the address of whichever of these happens next; a NAK comes before a new address.
    pub(crate) fn next_of(&mut self, what: &[&str], signal: Signal) -> String {
        self.signal(signal);
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("none of {what:?} happened"));
            if let Some(address) = what.iter().find_map(|what| line.strip_prefix(what)) {
                // Faster than two a second is more than the server's rate guard lets any client have.
                thread::sleep(Duration::from_millis(500));
                return address.trim().to_owned();
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it without a word to the server.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// A named pipe that a client's script writes to, and the lines that come out of it.
fn told(room: &Room, name: &str) -> (PathBuf, Receiver<String>) {
    let fifo = room.path(&format!("{name}.fifo"));
    let _ = fs::remove_file(&fifo);
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both directions, it never comes to an end between two writers.
    let file: File = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (fifo, lines)
}

/// `ip` in the namespace of the thread that calls.
pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {}", arguments.join(" "));
}
