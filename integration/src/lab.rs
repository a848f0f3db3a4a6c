use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::log::{Awaited, Log};
use crate::namespace::{self, BRIDGE, Namespace};
use crate::process::{Process, run};
use crate::{Error, Result, interrupt};

/// One experiment: a namespace, a scratch directory and a log. Everything ends with it, the log's file excepted.
///
/// Fields are dropped in this order: programs before the namespace and the directory that they use.
#[derive(Debug)]
pub struct Lab {
    advertiser: Option<Process>,
    namespace: Namespace,
    scratch: tempfile::TempDir,
    log: Log,
}

impl Lab {
    /// Makes a lab with `taps` places for clients, its log in `logs/<name>.log`.
    pub fn open(name: &str, logs: &Path, taps: usize) -> Result<Self> {
        fs::create_dir_all(logs).map_err(Error::io(format!("creating {}", logs.display())))?;
        let log = Log::create(&logs.join(format!("{name}.log")))?;
        let scratch = tempfile::Builder::new()
            .prefix(&namespace::prefix()) // short: Unix socket paths end at 108 bytes
            .tempdir_in(scratch_root())
            .map_err(Error::io("creating a scratch directory"))?;
        let namespace = Namespace::create(taps)?;
        let mut lab = Self { advertiser: None, namespace, scratch, log };
        lab.advertiser = Some(lab.advertise(&lab.namespace, BRIDGE, "fd77::")?);
        Ok(lab)
    }

    /// Removes what earlier labs left behind that were killed before they could.
    pub fn sweep() -> Result<()> {
        let root = scratch_root();
        let entries = fs::read_dir(&root).map_err(Error::io(format!("reading {}", root.display())))?;
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(namespace::orphaned) {
                unmount_below(&entry.path())?;
                let doing = format!("removing {}", entry.path().display());
                fs::remove_dir_all(entry.path()).map_err(Error::io(doing))?;
            }
        }
        Namespace::sweep()
    }

    /// The merged log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A directory in memory for this lab's files; removed with the lab.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Lets time pass, because passing time is what is tested. Not for waiting until something has happened.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            interrupt::check()?;
            thread::sleep(interrupt::INTERVAL.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Looks again and again until there is something to see. For what writes no log and sends no signal, files above all.
    pub fn poll<T>(&self, what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            interrupt::check()?;
            if Instant::now() >= deadline {
                let (what, origin) = (what.to_owned(), "lab".to_owned());
                return Err(Error::Deadline { what, origin, seconds: within.as_secs_f64() });
            }
            thread::sleep(interrupt::INTERVAL);
        }
    }

    /// IPv6 router advertisements on a card that has an address with this prefix: without any, every iPXE solicits for 13 s
    /// before its first TFTP packet.
    pub fn advertise(&self, namespace: &Namespace, card: &str, prefix: &str) -> Result<Process> {
        let mut dnsmasq = namespace.command("dnsmasq");
        dnsmasq.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0", "--bind-interfaces"]);
        dnsmasq.arg(format!("--interface={card}"));
        dnsmasq.args(["--enable-ra", &format!("--dhcp-range={prefix},ra-only")]);
        self.start_server("router", &mut dnsmasq, "router advertisement")
    }

    /// Starts a server of others and waits until it has said that it is there.
    pub fn start_server(&self, name: &str, command: &mut Command, ready: &str) -> Result<Process> {
        let since = self.log.place();
        let process = Process::start(&self.log, name, command)?;
        let within = Duration::from_secs(30);
        let awaited = Awaited { what: ready, source: name, since, within, fatal: &["failed"] };
        self.log.wait(&awaited, |text| text.contains(ready))?;
        Ok(process)
    }
}

/// Takes away what a lab had mounted: nobody uses it any more, and a directory cannot be removed under it.
fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(Error::io("reading /proc/self/mounts"))?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    let below: Vec<&Path> = places.filter(|place| place.starts_with(directory)).collect();
    // The last one mounted may lie on one before it.
    below.into_iter().rev().try_for_each(|place| run(Command::new("umount").arg("--lazy").arg(place)).map(drop))
}

/// Disks, stores and caches of a test live in memory where there is a tmpfs.
fn scratch_root() -> PathBuf {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { shared_memory.to_owned() } else { std::env::temp_dir() }
}
