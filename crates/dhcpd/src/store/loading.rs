use std::path::PathBuf;
use std::{fs, io};

use dhcp_engine::Lease;
use dhcp_engine::journal::{self, Replay};
use generations::{Layout, Problem};

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Oldest first; a later one of the same address replaces an earlier one.
    pub(crate) leases: Vec<Lease>,
    /// The last number in use.
    pub(crate) last: u64,
    /// The snapshot was whole when it was renamed into place, and is not any more.
    pub(crate) damage: Option<Problem>,
}

/// Reads both files, of which either may be missing. Nothing is written, so it may be done beside the server.
pub(crate) fn load(layout: &Layout) -> Result<Loaded, (PathBuf, io::Error)> {
    let read = |path: PathBuf| match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| (path, error)),
    };
    // The journal first: should the server fold it into a new snapshot in between, its records are found there again by their
    // numbers. In the other order they would be in neither.
    let journal = read(layout.lease_journal())?;
    let bytes = read(layout.lease_snapshot())?;
    let Replay { mut leases, valid_len, last } = journal::replay(&bytes, 0);
    let damage = (valid_len < bytes.len()).then(|| Problem {
        path: layout.lease_snapshot(),
        reason: format!("it is damaged at byte {valid_len}; the leases behind that are lost, so look after the disk"),
    });
    // A snapshot that was written in slices has them in no order.
    leases.sort_by_key(|lease| (lease.written, lease.address));
    let newer = journal::replay(&journal, last);
    leases.extend(newer.leases);
    Ok(Loaded { leases, last: last.max(newer.last), damage })
}
