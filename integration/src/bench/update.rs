//! An update's way to a client that has the generation before: a bundle, beside the packs of the paths that changed.
//!
//! Two updates. One is Debian's: bookworm as released, then with its security updates. The other is a rebuild in which only hashes
//! changed: the same packages under another label, which is what a changed dependency far below does to a NixOS closure.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use boot_model::{GenerationRef, StorePath};
use nix_format::bundle::{Head, Index, Limits};
use nix_format::narinfo::NarInfo;

use super::closure::{Clients, agent, closure, fetch_and_register, open};
use super::measured::Cost;
use super::peer::StockNix;
use super::web::{Cable, Web};
use super::{Peer, Row};
use crate::process::run as run_program;
use crate::room::Room;
use crate::servers::{Servers, Service};
use crate::system::{Difference, GenerationKind, Toplevel, Work, build_elf};
use crate::{Error, Result, Workspace};

const ROUNDS: usize = 5;
/// A port of nginx' own.
const NGINX: u16 = 8081;
/// The wire to the client, as tc has it and as a row has it.
const WIRES: [(&str, &str); 2] = [("1gbit", "1 Gbit/s"), ("100mbit", "100 Mbit/s")];

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let work = Work::at(&workspace.logs("systems"))?;
    let released = build_elf(&work, GenerationKind::Released, "a")?;
    let updated = build_elf(&work, GenerationKind::Updated, "a")?;
    let rebuilt = build_elf(&work, GenerationKind::Released, "b")?;
    let room = open(workspace, "update", &work)?;
    let old = room.publish(&released.path)?;
    let new = room.publish(&updated.path)?;
    let rebuild = room.publish(&rebuilt.path)?;
    eprintln!("{}", Difference::between(&released, &updated));

    let update = Weight::of(&room, &old, &new)?;
    let without_kernel = update.without(|path| path.name().starts_with("linux-image-"));
    let hashes = Weight::of(&room, &old, &rebuild)?;
    let mut rows = vec![
        update.row("released to security updates", 1.0 / 3.0),
        without_kernel.row("  without the kernel package", 0.1),
        hashes.row("a rebuild that changes only hashes", 0.01),
    ];

    let race = Race { workspace, room: &room, old: (&old, &released), new: (&new, &updated) };
    rows.extend(race.run()?);
    Ok(rows)
}

/// What the wire carries of an update, path by path. Bytes.
struct Weight {
    /// Head and index of the bundle, which belong to no path.
    index: u64,
    /// Ours, and the pack's.
    paths: BTreeMap<StorePath, (u64, u64)>,
}

impl Weight {
    fn of(room: &Room, old: &GenerationRef, new: &GenerationRef) -> Result<Self> {
        let held = closure(room, old)?;
        let held: HashSet<&StorePath> = held.paths().iter().map(|info| &info.store_path).collect();
        let wanted = closure(room, new)?;
        let pack = |info: &NarInfo| (info.store_path.clone(), (info.file_size, info.file_size));
        let mut paths: BTreeMap<_, _> =
            wanted.paths().iter().filter(|info| !held.contains(&info.store_path)).map(pack).collect();
        let (head, index) = read_index(&room.bundle(old, new))?;
        for path in index.paths() {
            if let Some((ours, _)) = paths.get_mut(path.store_path()) {
                *ours = path.frames().end - path.frames().start;
            }
        }
        Ok(Self { index: head.frames_begin(), paths })
    }

    fn without(&self, left_out: impl Fn(&StorePath) -> bool) -> Self {
        let paths = self.paths.iter().filter(|(path, _)| !left_out(path));
        Self { index: self.index, paths: paths.map(|(path, weight)| (path.clone(), *weight)).collect() }
    }

    fn row(&self, measure: &str, goal: f64) -> Row {
        let ours = self.index + self.paths.values().map(|(ours, _)| ours).sum::<u64>();
        let packs = self.paths.values().map(|(_, pack)| pack).sum::<u64>() as f64;
        let peer =
            Peer { value: packs / 1e6, name: format!("packs of {} paths", self.paths.len()), version: String::new() };
        Row::at_most(measure, "MB", ours as f64 / 1e6, peer, Some(goal))
    }
}

fn read_index(bundle: &Path) -> Result<(Head, Index)> {
    let doing = || format!("reading {}", bundle.display());
    let wrong = |error: nix_format::bundle::BundleError| Error::Wrong(format!("{}: {error}", doing()));
    let file = File::open(bundle).map_err(Error::io(doing()))?;
    let mut head = [0; Head::SIZE];
    file.read_exact_at(&mut head, 0).map_err(Error::io(doing()))?;
    let head = Head::parse(&head).map_err(wrong)?;
    let mut frame = vec![0; head.index_frame() as usize];
    file.read_exact_at(&mut frame, Head::SIZE as u64).map_err(Error::io(doing()))?;
    let mut raw = Vec::new();
    let decoder = zstd::Decoder::new(&frame[..]).map_err(Error::io(doing()))?;
    decoder.take(u64::from(head.index_size()) + 1).read_to_end(&mut raw).map_err(Error::io(doing()))?;
    let index = Index::parse(&head, raw, Limits::NONE).map_err(wrong)?;
    Ok((head, index))
}

/// The same update over the same wires, ours and stock Nix'.
struct Race<'a> {
    workspace: &'a Workspace,
    room: &'a Room,
    old: (&'a GenerationRef, &'a Toplevel),
    new: (&'a GenerationRef, &'a Toplevel),
}

impl Race<'_> {
    fn run(&self) -> Result<Vec<Row>> {
        let lab = &self.room.lab;
        let mut servers = Servers::new(lab, self.workspace, &self.room.site);
        servers.start_one(Service::NarCache)?;
        let nginx = Web::nginx(self.workspace, self.room, NGINX, true)?;
        let nix = StockNix::from(self.workspace, &nginx, "")?;
        let (ours, peers) = (Clients::at(&lab.scratch().join("ours"))?, Clients::at(&lab.scratch().join("nix"))?);
        // What every round begins with: a client of each kind that has the old generation.
        let (ours_old, peers_old) = (lab.scratch().join("ours-old"), lab.scratch().join("nix-old"));
        fetch_and_register(&agent(self.workspace, self.room, &ours_old)?, self.old.0, self.old.1)?;
        Cost::of("nix-store", || nix.realise(self.room, self.old.1, &peers_old))?;

        let mut rows = Vec::new();
        for (rate, words) in WIRES {
            let cable = Cable::of(lab, rate)?;
            let (mut own, mut peer) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let root = copy(&ours_old, &ours)?;
                own.push(fetch_and_register(&agent(self.workspace, self.room, &root)?, self.new.0, self.new.1)?);
                let root = copy(&peers_old, &peers)?;
                peer.push(Cost::of("nix-store", || nix.realise(self.room, self.new.1, &root))?);
            }
            drop(cable);
            let (own, peer) = (Cost::median(&own), Cost::median(&peer));
            let measure = format!("the security updates at {words}");
            rows.push(Row::at_most(measure, "s", own.seconds, nix.peer(peer.seconds), Some(1.0)));
        }
        servers.stop_all()?;
        Ok(rows)
    }
}

fn copy(from: &Path, clients: &Clients) -> Result<std::path::PathBuf> {
    let root = clients.empty()?;
    fs::remove_dir(&root).map_err(Error::io(format!("removing {}", root.display())))?;
    run_program(Command::new("cp").arg("--archive").args([from, &root]))?;
    Ok(root)
}
