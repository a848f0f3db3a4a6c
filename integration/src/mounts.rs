//! What this machine's kernel mounts for the lab.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::process::run;
use crate::{Error, Result};

/// From here on nobody outside sees what this thread mounts. Whatever another lab starts meanwhile gets a copy of this machine's mounts
/// (`ip netns exec` does that), and would keep a client's file system mounted after we have unmounted it.
pub(crate) fn keep_to_ourselves() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::errno("leaving the machine's mounts"))?;
    run(Command::new("mount").args(["--make-rprivate", "/"])).map(drop)
}
