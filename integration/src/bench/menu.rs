//! How long a published generation takes to reach the menus.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use boot_model::GenerationRef;

use super::{Row, percentile};
use crate::dice::Dice;
use crate::process::run as run_program;
use crate::room::{Room, Systems};
use crate::servers::{Host, Servers, Service};
use crate::{Error, Lab, Result, Workspace, interrupt};

/// Generations that are there all the time.
const GENERATIONS: u64 = 100;
/// Generations that appear, one by one. Each counts once: a directory that was seen before is not read again.
const SAMPLES: u64 = 30;
const HOSTS: u32 = 300;
/// The sizes of a NixOS kernel and initrd: they are read whole before a generation is believed.
const KERNEL: usize = 12 << 20;
const INITRD: usize = 28 << 20;
/// Milliseconds.
const GOAL: f64 = 100.0;

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Row>> {
    let lab = Lab::open("menu", &workspace.logs("bench"), 0)?;
    let store = lab.scratch().join("store");
    let key = Systems::secret_key(workspace)?;
    let hosts: Vec<_> = (0..HOSTS).map(host).collect();
    let room = Room::open(workspace, lab, &key, store.clone(), &hosts)?;
    for number in 1..=GENERATIONS {
        room.publish(&toplevel(&store, room.lab.scratch(), number, 1000, 1000)?)?;
    }
    let aside = room.lab.scratch().join("aside");
    fs::create_dir_all(&aside).map_err(Error::io("creating a directory"))?;
    let mut waiting = Vec::new();
    for number in GENERATIONS + 1..=GENERATIONS + SAMPLES {
        let generation = room.publish(&toplevel(&store, room.lab.scratch(), number, KERNEL, INITRD)?)?;
        let place = room.site.state().join("generations").join(generation.to_string());
        waiting.push((aside.join(generation.id.to_string()), place, generation));
    }
    room.set_default(GENERATIONS)?;
    // Only now, when each has a number of its own.
    waiting.iter().try_for_each(|(aside, place, _)| rename(place, aside))?;
    let mut servers = Servers::new(&room.lab, workspace, &room.site);
    servers.start_one(Service::MenuGenerator)?;
    let samples = waiting.iter().map(|(aside, place, generation)| appear(&room, generation, aside, place));
    let samples = samples.collect::<Result<Vec<_>>>()?;
    servers.stop_all()?;
    let row = |percent| {
        let measure = format!("new menus after a rename, p{percent}");
        Row::ours(measure, "ms", percentile(&samples, percent), Some(GOAL))
    };
    Ok(vec![row(50), row(99)])
}

/// Milliseconds from the rename until the menus in force offer the generation.
fn appear(room: &Room, generation: &GenerationRef, from: &Path, to: &Path) -> Result<f64> {
    let current = room.site.state().join("menus/current");
    let before = read_link(&current)?;
    let start = Instant::now();
    rename(from, to)?;
    loop {
        // Looks at nothing but one link until there is a new set, so as not to compete with what is measured.
        if read_link(&current)? != before && room.menu()?.position(generation).is_some() {
            return Ok(start.elapsed().as_secs_f64() * 1000.0);
        }
        interrupt::check()?;
        if start.elapsed() > Duration::from_secs(60) {
            return Err(Error::Wrong(format!("{generation} did not reach the menus within a minute")));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A toplevel of its own: files as NixOS has them, and as much kernel and initrd as asked for.
pub(super) fn toplevel(store: &Path, scratch: &Path, number: u64, kernel: usize, initrd: usize) -> Result<String> {
    let dir = scratch.join("nixos-system-bench");
    let _ = fs::remove_dir_all(&dir);
    let mut dice = Dice::new(number);
    let mut noise = |length: usize| (0..length / 8).flat_map(|_| dice.roll().to_le_bytes()).collect::<Vec<u8>>();
    let version = format!("26.05.{number}");
    let texts = [
        ("nixos-version", version.as_str()),
        ("kernel-params", "loglevel=4 quiet"),
        ("system", "x86_64-linux"),
        ("init", "#!/bin/sh\n"),
    ];
    let mut write = || {
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("kernel"), noise(kernel))?;
        fs::write(dir.join("initrd"), noise(initrd))?;
        texts.iter().try_for_each(|(name, text)| fs::write(dir.join(name), text))
    };
    write().map_err(Error::io("writing a toplevel"))?;
    let remote = format!("local?root={}", store.display());
    let path = run_program(Command::new("nix-store").arg("--add").arg(&dir).env("NIX_REMOTE", remote))?;
    Ok(path.trim().to_owned())
}

fn host(number: u32) -> Host {
    let [_, _, high, low] = number.to_be_bytes();
    let mac = format!("52:54:00:77:{high:02x}:{low:02x}");
    Host { mac, name: format!("client-{number}"), address: Ipv4Addr::new(10, 77, 2 + high, low) }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(format!("renaming {} to {}", from.display(), to.display())))
}

fn read_link(link: &Path) -> Result<PathBuf> {
    fs::read_link(link).map_err(Error::io(format!("reading the link {}", link.display())))
}
