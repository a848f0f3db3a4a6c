//! The claim: a room that boots generations beats a room that boots images, when the system changes and when it does not.
//!
//! Ours and the peer are the same Debian system with the same firmware, menu, kernel and servers. The peer's initrd downloads one
//! squashfs image of the whole system into memory and mounts it under an overlay, as netboot images do it; its image is made anew
//! for generation 2.
//!
//! It is booted alone, on a cable that carries what it likes, and as one of thirty that start at once. The client's processor is emulated
//! and some thirty times slower than a real one, the cable is not: so the first favours who sends more and computes less.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use boot_model::GenerationRef;

use super::web::Cable;
use super::{Peer, Row, percentile};
use crate::client::{Client, Firmware};
use crate::namespace::SERVER;
use crate::nbd::Disk;
use crate::process::{Process, run as run_program};
use crate::room::{BOOT, Boot, Room, Systems};
use crate::servers::{LEVEL, Servers};
use crate::system::{Toplevel, Via};
use crate::{Error, Lab, Result, Workspace};

/// A round is six boots under emulation, some five minutes, for each link.
const ROUNDS: usize = 5;

/// What a client gets of the server's card.
struct Link {
    name: &'static str,
    /// As tc has it.
    rate: Option<&'static str>,
}

const ALONE: Link = Link { name: "alone", rate: None };
const ONE_OF_THIRTY: Link = Link { name: "one of thirty at 1 Gbit/s", rate: Some("33mbit") };

/// What is booted, and the most that we may need of what the peer needs (issue 3).
const BOOTS: [(&str, f64); 3] =
    [("generation 1, cold", 1.3), ("generation 2, update", 1.0), ("generation 2, again", 1.0)];

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let ours = Systems::build_for(workspace, Via::Rookery)?;
    let peers = Systems::build_for(workspace, Via::Squashfs)?;
    let version = run_program(Command::new("mksquashfs").arg("-version"))?;
    let version = version.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let row = |measure: String, unit, goal, (ours, peer): (f64, f64)| {
        let peer = Peer { value: peer, name: "squashfs netboot, squashfs-tools".into(), version: version.clone() };
        Row::at_most(measure, unit, ours, peer, Some(goal))
    };
    let mut rows = Vec::new();
    let alone = Rounds::run(workspace, (&ours, &peers), &ALONE)?;
    let one_of_thirty = Rounds::run(workspace, (&ours, &peers), &ONE_OF_THIRTY)?;
    for (link, rounds) in [(&ALONE, &alone), (&ONE_OF_THIRTY, &one_of_thirty)] {
        for (index, (what, goal)) in BOOTS.into_iter().enumerate() {
            let seconds = rounds.medians(|round| round.boots[index].login_seconds);
            rows.push(row(format!("{}: {what}: time to login", link.name), "s", goal, seconds));
        }
    }
    // Nothing of what follows depends on the link.
    for (index, (what, goal)) in BOOTS.into_iter().enumerate() {
        let sent = alone.medians(|round| round.boots[index].sent as f64 / 1e6);
        rows.push(row(format!("{what}: bytes from the server"), "MB", goal, sent));
        let memory = alone.medians(|round| round.boots[index].memory as f64 / 1e6);
        rows.push(row(format!("{what}: memory of the client in use"), "MB", goal, memory));
    }
    let (packed, _) = alone.medians(|round| round.boots[2].packed as f64 / 1e6);
    rows.push(Row::ours("generation 2, again: NARs and bundles", "MB", packed, Some(0.0)));
    let (manifests, _) = alone.medians(|round| round.boots[2].manifests as f64);
    rows.push(Row::ours("generation 2, again: manifests", "requests", manifests, Some(1.0)));
    let on_server = alone.medians(|round| round.on_server as f64 / 1e6);
    rows.push(row("both generations on the server".into(), "MB", 1.0, on_server));
    let second = alone.medians(|round| round.second_seconds);
    rows.push(row("generation 2 after 1: until it can be booted".into(), "s", 1.0, second));
    Ok(rows)
}

/// What both sides showed, ours first, a round after the other.
struct Rounds(Vec<[Round; 2]>);

impl Rounds {
    fn run(workspace: &Workspace, (ours, peers): (&Systems, &Systems), link: &Link) -> Result<Self> {
        let both = |_| Ok([round(workspace, ours, Side::Ours, link)?, round(workspace, peers, Side::Peer, link)?]);
        (0..ROUNDS).map(both).collect::<Result<_>>().map(Self)
    }

    /// Of ours, and of the peer.
    fn medians(&self, pick: impl Fn(&Round) -> f64) -> (f64, f64) {
        let of = |side: usize| percentile(&self.0.iter().map(|round| pick(&round[side])).collect::<Vec<_>>(), 50);
        (of(0), of(1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Peer,
}

/// What one side showed in one round.
struct Round {
    boots: [Seen; 3],
    /// Bytes.
    on_server: u64,
    second_seconds: f64,
}

/// One boot.
struct Seen {
    login_seconds: f64,
    /// Bytes.
    sent: u64,
    /// Bytes of packs and bundles among them.
    packed: u64,
    /// How often a closure manifest was asked for.
    manifests: u64,
    /// Bytes.
    memory: u64,
}

/// An empty disk, or none; generation 1, then 2, then 2 again.
fn round(workspace: &Workspace, systems: &Systems, side: Side, link: &Link) -> Result<Round> {
    let name = if side == Side::Ours { "boot-ours" } else { "boot-peer" };
    let room = Room::for_client(workspace, Lab::open(name, &workspace.logs("bench"), 1)?, systems)?;
    let images = room.lab.scratch().join("images");
    fs::create_dir_all(&images).map_err(Error::io("creating a directory for images"))?;
    let disk = room.disk()?;
    let booth = Booth { room: &room, systems, side, images, disk };
    let (first, _) = booth.publish(&systems.first)?;
    let servers = room.serve()?;
    let _http = booth.serve_images()?;
    let _cable = link.rate.map(|rate| Cable::of_machines(&room.lab, rate)).transpose()?;
    room.wait_for_menu(&first)?;
    let cold = booth.boot(&servers, &systems.first)?;
    let (second, second_seconds) = booth.publish(&systems.second)?;
    room.wait_for_menu(&second)?;
    let update = booth.boot(&servers, &systems.second)?;
    let again = booth.boot(&servers, &systems.second)?;
    Ok(Round { boots: [cold, update, again], on_server: booth.on_server()?, second_seconds })
}

struct Booth<'a> {
    room: &'a Room,
    systems: &'a Systems,
    side: Side,
    images: PathBuf,
    disk: Disk,
}

impl Booth<'_> {
    /// Publishes a toplevel, and says how long it took until clients could have booted it. The peer's menu, kernel and initrd are
    /// served by us, so it is published too; only its image counts.
    fn publish(&self, toplevel: &Toplevel) -> Result<(GenerationRef, f64)> {
        let (generation, bootable_seconds) = self.room.publish_timed(&toplevel.path)?;
        if self.side == Side::Ours {
            return Ok((generation, bootable_seconds));
        }
        let start = Instant::now();
        self.make_image(toplevel)?;
        Ok((generation, start.elapsed().as_secs_f64()))
    }

    /// Every path of the closure in one image, compressed as our packs are.
    fn make_image(&self, toplevel: &Toplevel) -> Result<()> {
        let store = self.systems.store();
        let paths = toplevel.closure.iter().map(|path| store.join(path.path.trim_start_matches('/')));
        let mut mksquashfs = Command::new("mksquashfs");
        mksquashfs.args(paths).arg(self.image(toplevel)).args(["-quiet", "-no-progress", "-all-root", "-comp", "zstd"]);
        mksquashfs.args(["-Xcompression-level", &LEVEL.to_string()]);
        run_program(&mut mksquashfs).map(drop)
    }

    fn image(&self, toplevel: &Toplevel) -> PathBuf {
        let name = toplevel.path.rsplit('/').next().unwrap_or_default();
        self.images.join(format!("{name}.squashfs"))
    }

    fn serve_images(&self) -> Result<Process> {
        let mut httpd = self.room.lab.namespace().command("busybox");
        httpd.args(["httpd", "-f", "-p", &format!("{SERVER}:8000"), "-h"]).arg(&self.images);
        Process::start(self.room.lab.log(), "httpd", &mut httpd)
    }

    /// Boots to the login prompt, looks, and switches off in order.
    fn boot(&self, servers: &Servers<'_>, toplevel: &Toplevel) -> Result<Seen> {
        let mut client = Client::new("client", 0, Firmware::Ipxe);
        if self.side == Side::Ours {
            client.disk = Some(self.disk.socket().to_owned());
        }
        let mut boot = Boot::start(self.room, servers, &client)?;
        boot.expect_running(servers, toplevel)?;
        let memory = boot.memory_in_use(BOOT)?;
        let timeline = boot.timeline(servers)?;
        let login_seconds = timeline.login_seconds.ok_or_else(|| Error::Wrong("no login prompt was seen".into()))?;
        let sent = timeline.traffic;
        let image = if self.side == Side::Peer { size(&self.image(toplevel))? } else { 0 };
        boot.shut_down(BOOT)?;
        Ok(Seen {
            login_seconds,
            sent: sent.loader_bytes + sent.boot_bytes + sent.fetched_bytes() + image,
            packed: sent.nar_bytes + sent.bundle_bytes,
            manifests: sent.manifests,
            memory,
        })
    }

    /// What both generations take there. Kernels and initrds are counted on either side.
    fn on_server(&self) -> Result<u64> {
        let state = self.room.site.state();
        let boot_files = size(&state.join("generations"))?;
        match self.side {
            Side::Ours => Ok(boot_files + size(&state.join("cache"))? + size(&state.join("bundles"))?),
            Side::Peer => Ok(boot_files + size(&self.images)?),
        }
    }
}

/// The bytes of a file, or of all files below a directory.
fn size(path: &Path) -> Result<u64> {
    let printed = run_program(Command::new("du").args(["--summarize", "--bytes"]).arg(path))?;
    let number = printed.split_whitespace().next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| Error::Wrong(format!("du printed {printed:?}")))
}
