//! Files that are not what they were: on the server, and on the client's disk.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::scene;
use crate::dice::Dice;
use crate::room::Room;
use crate::suite::Context;
use crate::{Error, Result};

/// A pack with one bit wrong is refused, with a sentence that names it; when it is right again, the fetch ends well.
pub(super) fn pack(context: &Context<'_>) -> Result<()> {
    scene(context, |scene| {
        let victim = largest_pack(scene.room)?;
        let at = context.dice().below(length(&victim)?);
        flip(&victim, at)?;
        scene.agent.choose(&scene.first, &scene.systems.first)?;
        let ended = scene.agent.fetch(&["--patience", "20"])?;
        context.expect(!ended.status.success(), || "a corrupt pack was taken".into())?;
        context.expect(ended.says("/nix/store/"), || format!("no path is named: {:?}", ended.said))?;
        context.expect(scene.agent.init().is_none(), || "stage 1 would have gone on".into())?;
        flip(&victim, at)?;
        scene.boot(&scene.first, &scene.systems.first)
    })
}

/// A bundle with wrong bytes costs packs, not the boot.
pub(super) fn bundle(context: &Context<'_>) -> Result<()> {
    scene(context, |scene| {
        scene.boot(&scene.first, &scene.systems.first)?;
        let second = scene.room.publish(&scene.systems.second.path)?;
        let file = scene.room.bundle(&scene.first, &second);
        let (mut dice, length) = (context.dice(), length(&file)?);
        for _ in 0..16 {
            flip(&file, dice.below(length))?;
        }
        let before = scene.servers.mark()?;
        scene.boot(&second, &scene.systems.second)?;
        scene.expect_sent(&before, "packs in place of the bundle", |sent| sent.nar_bytes > 0)
    })
}

/// Whatever is wrong in the agent's own state on the disk, it is found out and made again.
pub(super) fn receipts(context: &Context<'_>) -> Result<()> {
    scene(context, |scene| {
        scene.boot(&scene.first, &scene.systems.first)?;
        let mut dice = context.dice();
        let state = scene.agent.state().join("rookery");
        let count = files(&state)?.len();
        context.expect(count > 0, || format!("there is nothing below {}", state.display()))?;
        for index in 0..count {
            // Each round may have made other files.
            if let Some(file) = files(&state)?.get(index) {
                damage(file, &mut dice)?;
            }
            scene.boot(&scene.first, &scene.systems.first)?;
        }
        files(&state)?.iter().try_for_each(|file| damage(file, &mut dice))?;
        scene.boot(&scene.first, &scene.systems.first)
    })
}

/// A database that no Nix can open ("schema is corrupt") is set aside and made anew from what is on the disk.
pub(super) fn database(context: &Context<'_>) -> Result<()> {
    scene(context, |scene| {
        let first = &scene.systems.first;
        scene.boot(&scene.first, first)?;
        let database = scene.agent.state().join("nix/db");
        for (file, content) in [("schema", ""), ("schema", "x"), ("db.sqlite", ""), ("db.sqlite", "SQLite format 2")] {
            let file = database.join(file);
            fs::write(&file, content).map_err(Error::io(format!("damaging {}", file.display())))?;
            let before = scene.servers.mark()?;
            scene.boot(&scene.first, first)?;
            scene.expect_sent(&before, "no pack", |sent| sent.nar_bytes == 0)?;
        }
        Ok(())
    })
}

/// One of three things that happen to files: a bit turns over, the end is missing, or everything.
fn damage(file: &Path, dice: &mut Dice) -> Result<()> {
    let length = length(file)?;
    match dice.below(3) {
        0 if length > 0 => flip(file, dice.below(length)),
        1 => cut(file, dice.below(length)),
        _ => cut(file, 0),
    }
}

fn cut(file: &Path, length: u64) -> Result<()> {
    let doing = || format!("cutting {}", file.display());
    let file = fs::File::options().write(true).open(file).map_err(Error::io(doing()))?;
    file.set_len(length).map_err(Error::io(doing()))
}

/// Turns one bit over; twice is as before.
pub(in crate::suite) fn flip(file: &Path, at: u64) -> Result<()> {
    let doing = || format!("damaging {}", file.display());
    let file = fs::File::options().read(true).write(true).open(file).map_err(Error::io(doing()))?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).map_err(Error::io(doing()))?;
    file.write_all_at(&[byte[0] ^ 1], at).map_err(Error::io(doing()))
}

/// The largest file of the site's cache.
pub(in crate::suite) fn largest_pack(room: &Room) -> Result<PathBuf> {
    let mut largest = (0, PathBuf::new());
    for file in files(&room.site.state().join("cache/nar"))? {
        largest = largest.max((length(&file)?, file));
    }
    Ok(largest.1)
}

fn length(file: &Path) -> Result<u64> {
    fs::metadata(file).map(|file| file.len()).map_err(Error::io(format!("looking at {}", file.display())))
}

/// Every file below a directory, in the order of their names.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("reading {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io(doing()))? {
        let path = entry.map_err(Error::io(doing()))?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}
