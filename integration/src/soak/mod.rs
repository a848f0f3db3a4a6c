//! What takes too long for every day: the same accident again and again, at other moments.

mod closure;
mod power;

use crate::dice::Dice;
use crate::{Error, Lab, Result, Workspace, mounts};

/// What `lab soak` understands.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to soak; `closure` is all there is.
    name: Option<String>,
    /// How many power cuts.
    #[arg(long, default_value_t = 100)]
    cuts: u32,
    /// The client's file system.
    #[arg(long, default_value = "ext4")]
    file_system: FileSystem,
    /// Decides every moment and every lost sector. Printed with the result.
    #[arg(long)]
    seed: Option<u64>,
    /// Only name what there is.
    #[arg(long)]
    list: bool,
}

/// What the client's disk carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FileSystem {
    Ext4,
    Xfs,
}

const ABOUT: &str = "closure    power cuts at random moments of a first fetch, of an update and of the minute after; after each the next \
                     fetch must succeed and every file of the closure be right";

/// Runs it; true if the client survived every accident.
pub fn main(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        println!("{ABOUT}");
        return Ok(true);
    }
    if arguments.name.as_deref().is_some_and(|name| name != "closure") {
        return Err(Error::Usage("there is only one soak: closure".into()));
    }
    Lab::sweep()?;
    mounts::keep_to_ourselves()?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{ABOUT}\n--seed {seed}");
    let failed = closure::run(workspace, arguments.cuts, arguments.file_system, &mut Dice::new(seed))?;
    println!("the same again: --seed {seed} --cuts {} --file-system {}", arguments.cuts, arguments.file_system.name());
    println!("{} passed, {failed} failed", arguments.cuts - failed);
    Ok(failed == 0)
}

impl FileSystem {
    /// What the disk under it writes whole or not at all, in bytes. ext4's journal holds whole blocks, so a torn one is mended. XFS looks at
    /// the sequence number in a block's first sector to see whether it must be replayed, and so asks for a disk of 4096 byte sectors.
    const fn block(self) -> u64 {
        match self {
            Self::Ext4 => 512,
            Self::Xfs => 4096,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}
