//! A cable with rules: frames between a virtual machine and a tap, changed or lost on the way.

mod frame;
mod tap;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dice::Dice;
use crate::log::Log;
use crate::namespace::Namespace;
use crate::{Error, Result};

/// What the cable does to frames.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// DHCP options that are taken out of what the client sends. QEMU's boot ROM is iPXE and says so in the options 77
    /// and 175; without these two a server sees a plain BIOS PXE client.
    pub strip: Vec<u8>,
    /// Percentage of UDP packets lost, in either direction.
    pub loss: f64,
    /// Percentage of UDP packets that arrive twice.
    pub duplication: f64,
    /// Decides which.
    pub seed: u64,
}

/// What passed, see [`Relay::counts`].
#[derive(Debug, Default)]
struct Counters {
    stripped: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
}

/// How many packets the rules touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Options taken out.
    pub stripped: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets doubled.
    pub doubled: u64,
}

/// A relay between a tap and QEMU's `-netdev dgram`. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    counters: Arc<Counters>,
    stop: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<Result<()>>>,
    ours: PathBuf,
    theirs: PathBuf,
}

impl Relay {
    /// Joins `tap` of the namespace with a virtual machine. `dir` takes the two sockets, named after `name`.
    pub fn start(log: &Log, namespace: &Namespace, tap: &str, dir: &Path, name: &str, rules: Rules) -> Result<Self> {
        let ours = dir.join(format!("{name}.relay"));
        let theirs = dir.join(format!("{name}.net"));
        // QEMU removes its own socket file before it binds; the one of an earlier relay is removed here.
        let _ = std::fs::remove_file(&ours);
        let socket = UnixDatagram::bind(&ours).map_err(Error::io(format!("binding {}", ours.display())))?;
        let (stopped, stop) = pipe().map_err(Error::io("making a pipe"))?;
        let counters = Arc::new(Counters::default());
        let interface = tap.to_owned();
        let tap = namespace.run(move || tap::open(&interface))?;
        let cable = Cable {
            dice: Dice::new(rules.seed),
            rules,
            counters: Arc::clone(&counters),
            tap,
            socket,
            machine: theirs.clone(),
            log: log.clone(),
        };
        let thread = std::thread::spawn(move || cable.carry(&stopped));
        Ok(Self { counters, stop: Some(stop), thread: Some(thread), ours, theirs })
    }

    /// The argument of QEMU's `-netdev` that plugs into this relay.
    pub fn netdev(&self, id: &str) -> String {
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            self.theirs.display(),
            self.ours.display()
        )
    }

    /// What the rules did so far.
    pub fn counts(&self) -> Counts {
        Counts {
            stripped: self.counters.stripped.load(Ordering::Relaxed),
            lost: self.counters.lost.load(Ordering::Relaxed),
            doubled: self.counters.doubled.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take()); // the other end of the pipe becomes readable
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Cable {
    rules: Rules,
    dice: Dice,
    counters: Arc<Counters>,
    tap: File,
    socket: UnixDatagram,
    machine: PathBuf,
    log: Log,
}

/// Larger than any Ethernet frame, segmentation offload included.
const FRAME: usize = 65_536;

impl Cable {
    fn carry(mut self, stopped: &impl AsFd) -> Result<()> {
        let mut buffer = vec![0; FRAME];
        loop {
            let (from_machine, from_tap) = {
                let mut ready = [
                    PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.tap.as_fd(), PollFlags::POLLIN),
                    PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                ];
                poll(&mut ready, PollTimeout::NONE).map_err(Error::errno("polling the relay"))?;
                if ready[2].any() == Some(true) {
                    return Ok(());
                }
                (ready[0].any() == Some(true), ready[1].any() == Some(true))
            };
            if from_machine {
                let count = self.socket.recv(&mut buffer).map_err(Error::io("receiving from the machine"))?;
                self.up(&mut buffer[..count]);
            }
            if from_tap {
                let count = self.tap.read(&mut buffer).map_err(Error::io("reading the tap"))?;
                self.down(&buffer[..count]);
            }
        }
    }

    fn up(&mut self, frame: &mut [u8]) {
        if !self.rules.strip.is_empty() {
            let stripped = frame::strip_client_options(frame, &self.rules.strip);
            self.counters.stripped.fetch_add(stripped, Ordering::Relaxed);
        }
        for _ in 0..self.copies(frame) {
            if let Err(error) = self.tap.write_all(frame) {
                self.log.note("relay", format!("a frame was lost on its way to the tap: {error}"));
            }
        }
    }

    fn down(&mut self, frame: &[u8]) {
        for _ in 0..self.copies(frame) {
            // The machine is not there yet, or gone, or its queue is full: on a cable, that frame is lost too.
            let _ = self.socket.send_to(frame, &self.machine);
        }
    }

    fn copies(&mut self, frame: &[u8]) -> usize {
        if !frame::is_udp(frame) {
            return 1;
        }
        if self.dice.hits(self.rules.loss) {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return 0;
        }
        if self.dice.hits(self.rules.duplication) {
            self.counters.doubled.fetch_add(1, Ordering::Relaxed);
            return 2;
        }
        1
    }
}
