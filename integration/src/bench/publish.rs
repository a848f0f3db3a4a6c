//! How long the second generation takes to publish after the first: until a client can boot it, and until its bundles are there.
//!
//! Beside it, what else would bring the same system to clients, at the same level of zstd: an image of the whole system, and
//! Nix' own binary cache, which has the first generation already, as our cache has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::closure::{SITE_LEVEL, open};
use super::measured::Cost;
use super::{Peer, Row, percentile};
use crate::process::{Process, run as run_program};
use crate::room::Room;
use crate::servers::ROLE;
use crate::system::{GenerationKind, NewerNix, Toplevel, Work, build_elf};
use crate::{Error, Result, Workspace, interrupt};

const ROUNDS: usize = 5;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let work = Work::at(&workspace.logs("systems"))?;
    let first = build_elf(&work, GenerationKind::Released, "a")?;
    let second = build_elf(&work, GenerationKind::Updated, "a")?;
    let room = open(workspace, "publish", &work)?;
    room.publish(&first.path)?;
    let nix = Nix { program: NewerNix::obtain(&work)?.program("nix"), store: work.store() };
    let site = Saved::of(&room.site.state())?;
    let cache = room.lab.scratch().join("nix-cache");
    nix.copy(&room, &first, &cache)?;
    let cache = Saved::of(&cache)?;

    let (mut bootable, mut bundled, mut images, mut copies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        site.restore()?;
        let (until_bootable, until_bundled) = publish(workspace, &room, &work, &second)?;
        bootable.push(until_bootable);
        bundled.push(until_bundled);
        images.push(image(&room, &work, &second)?);
        cache.restore()?;
        copies.push(nix.copy(&room, &second, &cache.place)?);
    }
    let median = |samples: &[f64]| percentile(samples, 50);
    let beside = |measure: &str, ours: &[f64], peers: &[f64], name: &str, version: &str, goal| {
        let peer = Peer { value: median(peers), name: name.to_owned(), version: version.to_owned() };
        Row::at_most(measure, "s", median(ours), peer, goal)
    };
    let squashfs = run_program(Command::new("mksquashfs").arg("-version"))?;
    let squashfs = squashfs.split_whitespace().nth(2).unwrap_or_default();
    let nix_version = run_program(Command::new(&nix.program).arg("--version"))?;
    let nix_version = nix_version.split_whitespace().last().unwrap_or_default();
    Ok(vec![
        beside("generation 2 after 1 until bootable", &bootable, &images, "mksquashfs", squashfs, Some(1.0)),
        beside("generation 2 after 1 until bootable", &bootable, &copies, "nix copy", nix_version, Some(1.0)),
        beside("generation 2 after 1 until its bundle is ready", &bundled, &images, "mksquashfs", squashfs, None),
    ])
}

/// Seconds until the generation is bootable, and until its bundle is there.
fn publish(workspace: &Workspace, room: &Room, work: &Work, toplevel: &Toplevel) -> Result<(f64, f64)> {
    let mut command = Command::new(workspace.program("rookery")?);
    command
        .arg("--config")
        .arg(room.site.config())
        .args(["publish", ROLE, &toplevel.path, "--store"])
        .arg(work.store());
    let generations = room.site.state().join("generations").join(ROLE);
    let (before, begun) = (published(&generations)?, Instant::now());
    let mut process = Process::start(room.lab.log(), "publish", &mut command)?;
    let mut bootable = None;
    let status = loop {
        // One directory is read, so as not to compete with what is measured.
        if bootable.is_none() && published(&generations)? > before {
            bootable = Some(begun.elapsed().as_secs_f64());
        }
        if let Some(status) = process.exited()? {
            break status;
        }
        interrupt::check()?;
        thread::sleep(Duration::from_millis(1));
    };
    let all = begun.elapsed().as_secs_f64();
    match bootable {
        Some(bootable) if status.success() => Ok((bootable, all)),
        _ => Err(Error::Wrong(format!("rookery publish ended with {status}; its output is in the log"))),
    }
}

/// How many generations there are.
fn published(generations: &Path) -> Result<usize> {
    let entries = fs::read_dir(generations).map_err(Error::io(format!("listing {}", generations.display())))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.filter(|name| name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)).count())
}

/// Seconds for an image of the whole closure.
fn image(room: &Room, work: &Work, toplevel: &Toplevel) -> Result<f64> {
    let image = room.lab.scratch().join("image.squashfs");
    let _ = fs::remove_file(&image);
    let paths = toplevel.closure.iter().map(|path| work.store().join(path.path.trim_start_matches('/')));
    let mut command = Command::new("mksquashfs");
    command.args(paths).arg(&image).args(["-quiet", "-no-progress", "-all-root", "-comp", "zstd"]);
    command.args(["-Xcompression-level", &SITE_LEVEL.to_string()]);
    Ok(Cost::of("mksquashfs", || Process::start(room.lab.log(), "mksquashfs", &mut command))?.seconds)
}

struct Nix {
    program: PathBuf,
    store: PathBuf,
}

impl Nix {
    /// Seconds for what a binary cache lacks of a closure.
    fn copy(&self, room: &Room, toplevel: &Toplevel, cache: &Path) -> Result<f64> {
        let to = format!(
            "file://{}?compression=zstd&compression-level={SITE_LEVEL}&parallel-compression=true",
            cache.display()
        );
        let mut command = Command::new(&self.program);
        command.args(["copy", "--to", &to, &toplevel.path]);
        command.env("NIX_REMOTE", format!("local?root={}", self.store.display()));
        command.env("XDG_CACHE_HOME", room.lab.scratch().join("nix-home"));
        command.env("NIX_CONF_DIR", room.lab.scratch()).env("NIX_USER_CONF_FILES", "");
        Ok(Cost::of("nix copy", || Process::start(room.lab.log(), "nix-copy", &mut command))?.seconds)
    }
}

/// A directory as it was once.
struct Saved {
    place: PathBuf,
    copy: PathBuf,
}

impl Saved {
    fn of(place: &Path) -> Result<Self> {
        let saved = Self { place: place.to_owned(), copy: place.with_extension("saved") };
        copy(&saved.place, &saved.copy)?;
        Ok(saved)
    }

    fn restore(&self) -> Result<()> {
        fs::remove_dir_all(&self.place).map_err(Error::io(format!("removing {}", self.place.display())))?;
        copy(&self.copy, &self.place)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run_program(Command::new("cp").arg("--archive").args([from, to])).map(drop)
}
