//! A disk that has no room for all generations.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::scene_at;
use crate::process::run;
use crate::room::{Room, Systems};
use crate::suite::Context;
use crate::system::{Toplevel, Via};
use crate::{Error, Result};

/// Two generations fill the disk. The third makes the oldest go, and not the last good one. When nothing is left that may go, the
/// client says that the disk is full, and still has what ran last.
pub(super) fn disk_full(context: &Context<'_>) -> Result<()> {
    // The third one of this story: another initrd, and hardly anything besides.
    let wanted = &Systems::build_for(context.workspace, Via::Nix)?.first;
    scene_at(context, SmallDisk::mount, |scene| {
        let (oldest, good) = (&scene.systems.second, &scene.systems.first);
        let old = scene.room.publish(&oldest.path)?;
        scene.boot(&old, oldest)?;
        let last_good = scene.room.publish(&good.path)?;
        scene.boot(&last_good, good)?;
        scene.agent.came_up(&last_good)?;
        let newest = scene.room.publish(&wanted.path)?;
        let here = |path: &str| scene.agent.store().join(path.rsplit('/').next().unwrap_or_default()).exists();

        let too_little = missing(wanted, &[oldest, good]) / 2;
        let filler = Filler::leave(&scene.agent.store(), too_little)?;
        scene.boot(&newest, wanted)?;
        context.expect(!here(&oldest.path), || "the oldest generation is still there".into())?;
        context.expect(here(&good.path), || "the last good generation is gone".into())?;
        scene.agent.came_up(&newest)?;
        drop(filler);

        // An update's worth of packages, for which the generation before last makes no room.
        let filler = Filler::leave(&scene.agent.store(), too_little)?;
        scene.agent.choose(&old, oldest)?;
        let ended = scene.agent.fetch(&["--patience", "20"])?;
        context.expect(!ended.status.success(), || "more was fetched than there is room for".into())?;
        context.expect(ended.says("disk is full"), || format!("nothing is said of a full disk: {:?}", ended.said))?;
        scene.boot(&newest, wanted)?;
        drop(filler);
        scene.boot(&old, oldest)
    })
}

/// The bytes of `toplevel`'s paths that none of `others` has.
fn missing(toplevel: &Toplevel, others: &[&Toplevel]) -> u64 {
    let elsewhere = |path| others.iter().any(|other| other.closure.contains(path));
    toplevel.closure.iter().filter(|path| !elsewhere(*path)).map(|path| path.nar_size).sum()
}

/// A file system of its own for the client's `/nix`. Dropping it unmounts.
struct SmallDisk {
    root: PathBuf,
}

const SIZE: u64 = 1 << 30;

impl SmallDisk {
    fn mount(room: &Room) -> Result<Self> {
        let image = room.lab.scratch().join("small.image");
        let root = room.lab.scratch().join("client");
        let nix = root.join("nix");
        let make = || {
            fs::create_dir_all(&nix)?;
            File::create(&image)?.set_len(SIZE)
        };
        make().map_err(Error::io(format!("making {}", image.display())))?;
        // -m 0: nothing is kept back for root, who is the agent.
        run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &nix]))?;
        Ok(Self { root })
    }
}

impl AsRef<Path> for SmallDisk {
    fn as_ref(&self) -> &Path {
        &self.root
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.root.join("nix"))) {
            eprintln!("lab: the small disk stays mounted: {error}");
        }
    }
}

/// A file that takes all space of a file system but some. Dropping it removes it.
struct Filler(PathBuf);

impl Filler {
    fn leave(directory: &Path, free: u64) -> Result<Self> {
        let printed = run(Command::new("df").args(["--block-size=1", "--output=avail"]).arg(directory))?;
        let available: Option<u64> = printed.lines().last().and_then(|number| number.trim().parse().ok());
        let available = available.ok_or_else(|| Error::Wrong(format!("df printed {printed:?}")))?;
        // Beside the store: it is the client's own.
        let filler = Self(directory.with_file_name("filler"));
        run(Command::new("fallocate").arg("--length").arg(available.saturating_sub(free).to_string()).arg(&filler.0))?;
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // It goes with the file system at the latest.
        let _ = fs::remove_file(&self.0);
    }
}
