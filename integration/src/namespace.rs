//! A network namespace with a bridge and taps: the cable, switch and room of a lab.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};

use crate::process::run;
use crate::{Error, Result};

/// The lab's server side: the address of the bridge.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The length of the network's prefix: room for more hosts than a /24 has.
pub const PREFIX_LENGTH: u8 = 16;

/// The bridge that joins servers and taps.
pub const BRIDGE: &str = "br0";

const PREFIX: &str = "rookery-lab-";

/// A network namespace of our own. Dropping it removes it and every device in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with the bridge `br0` (10.77.0.1/16, fd77::1/64) and `taps` taps (`tap0`, `tap1`, ...).
    pub fn create(taps: usize) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !geteuid().is_root() {
            return Err(Error::Usage("network namespaces need root".into()));
        }
        let name = format!("{}{}", prefix(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name }; // from here on dropped, also on an error below
        namespace.batch(&devices(taps))?;
        Ok(namespace)
    }

    /// Makes another namespace, and a cable from its only card, `eth0`, to the bridge `br0`. The card has this address, and none if
    /// that is unspecified.
    pub fn beside(&self, address: Ipv4Addr) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}c{}", prefix(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let other = Self { name }; // from here on dropped, also on an error below
        other.batch("link set lo up\n")?;
        self.connect(&other, "eth0", BRIDGE)?;
        if !address.is_unspecified() {
            other.give("eth0", address)?;
        }
        Ok(other)
    }

    /// Lays a cable from a new card of another namespace to a bridge of this one.
    pub fn connect(&self, other: &Self, card: &str, bridge: &str) -> Result<()> {
        static CABLES: AtomicU32 = AtomicU32::new(0);
        let cable = format!("cable{}", CABLES.fetch_add(1, Ordering::Relaxed));
        self.batch(&format!(
            "link add name {cable} type veth peer name {card} netns {}\nlink set {cable} master {bridge} up\n",
            other.name
        ))?;
        other.batch(&format!("link set {card} up\n"))
    }

    /// Adds a bridge, a switch of its own: nothing passes between it and the others.
    pub fn add_bridge(&self, bridge: &str) -> Result<()> {
        self.batch(&format!("{}link set {bridge} up\n", new_bridge(bridge)))
    }

    /// Moves a tap to another bridge.
    pub fn plug(&self, tap: &str, bridge: &str) -> Result<()> {
        self.batch(&format!("link set {tap} master {bridge}\n"))
    }

    /// Gives a card or bridge a further address, in a network with a prefix of [`PREFIX_LENGTH`]. An IPv6 address has one of 64.
    pub fn give(&self, card: &str, address: impl Into<IpAddr>) -> Result<()> {
        self.batch(&match address.into() {
            IpAddr::V4(address) => format!("addr add {address}/{PREFIX_LENGTH} dev {card}\n"),
            IpAddr::V6(address) => format!("addr add {address}/64 dev {card} nodad\n"),
        })
    }

    /// Reaches the network that an address is in by way of a router.
    pub fn route(&self, within: Ipv4Addr, router: Ipv4Addr) -> Result<()> {
        let network = Ipv4Addr::from_bits(within.to_bits() & (u32::MAX << (32 - PREFIX_LENGTH)));
        self.batch(&format!("route add {network}/{PREFIX_LENGTH} via {router}\n"))
    }

    /// Lets packets pass from one card to another: makes the namespace a router.
    pub fn forward(&self) -> Result<()> {
        const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
        // The file is of the namespace of the thread that opens it.
        self.run(|| std::fs::write(SWITCH, "1").map_err(Error::io(format!("writing {SWITCH}"))))
    }

    /// The name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside. `ip` and `setpriv` replace themselves by the program, so the process id is the
    /// program's; and it dies with the lab, even if the lab itself is killed. (It dies with the *thread* that started it:
    /// start programs only from threads that outlive them.)
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Runs a thread inside: the sockets and taps that it opens are the namespace's.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<Result<T>>> {
        let path = format!("/run/netns/{}", self.name);
        let namespace = File::open(&path).map_err(Error::io(format!("opening {path}")))?;
        Ok(thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Error::errno("entering the network namespace"))?;
            Ok(work())
        }))
    }

    /// As [`Namespace::spawn`], and waits for the result.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let thread = self.spawn(work)?;
        thread.join().map_err(|_| Error::Wrong("a thread of the lab panicked".into()))??
    }

    /// Removes the namespaces of labs that are gone and could not clean up (SIGKILL).
    pub(crate) fn sweep() -> Result<()> {
        for line in run(Command::new("ip").args(["netns", "list"]))?.lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            if orphaned(name) {
                run(Command::new("ip").args(["netns", "del", name]))?;
            }
        }
        Ok(())
    }

    fn batch(&self, script: &str) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ip.spawn().map_err(Error::io("running ip -batch"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).map_err(Error::io("writing to ip -batch"))?;
        }
        let output = child.wait_with_output().map_err(Error::io("waiting for ip -batch"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Command { command: "ip -batch".into(), status: output.status, output: said });
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("lab: the network namespace stays behind: {error}");
        }
    }
}

/// What a lab makes outside its own process carries this name, so that it is found if the lab can't remove it.
pub(crate) fn prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Is this the name of something that belonged to a lab whose process is gone?
pub(crate) fn orphaned(name: &str) -> bool {
    let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
    owner.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err())
}

/// `nodad`: the IPv6 address, source of the router advertisements that iPXE waits for, is there without a second of doubt.
fn devices(taps: usize) -> String {
    let mut script = format!(
        "link set lo up\n\
         {}\
         addr add {SERVER}/{PREFIX_LENGTH} dev {BRIDGE}\n\
         addr add fd77::1/64 dev {BRIDGE} nodad\n\
         link set {BRIDGE} up\n",
        new_bridge(BRIDGE)
    );
    for tap in 0..taps {
        script += &format!("tuntap add dev tap{tap} mode tap\nlink set tap{tap} master {BRIDGE} up\n");
    }
    script
}

/// Without spanning tree and forward delay a port forwards at once; with them the first DISCOVERs would be lost.
fn new_bridge(bridge: &str) -> String {
    format!("link add {bridge} type bridge stp_state 0 forward_delay 0\n")
}
