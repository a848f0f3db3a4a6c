//! A disk that forgets what was not flushed, behind a small NBD server.
//!
//! Killing a virtual machine is no power cut: what it wrote stays in the host's page cache. Here each write stays volatile
//! until the client's FLUSH (or FUA) has been answered; [`Disk::cut`] then keeps a random part of the volatile sectors, as
//! a disk does whose cache loses its power.

mod device;
mod protocol;
mod server;
mod volatile;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use device::BlockDevice;

use server::Server;
use volatile::Volatile;

use crate::dice::Dice;
use crate::process::run;
use crate::{Error, Result};

/// A disk that clients reach at [`Disk::socket`]. Dropping it ends the server.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Mutex<Volatile>>,
    socket: PathBuf,
    cache: PathBuf,
    platter: PathBuf,
    _server: Server,
}

/// What was asked of a disk since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes read.
    pub read: u64,
    /// Bytes written, trimmed ones included.
    pub written: u64,
    /// Flushes, writes with FUA not included.
    pub flushes: u64,
}

impl Disk {
    /// Makes an empty disk of `size` bytes (a multiple of 512): all zeros, files sparse, in `dir`.
    pub fn create(dir: &Path, name: &str, size: u64) -> Result<Self> {
        let (cache, platter) = (dir.join(format!("{name}.cache")), dir.join(format!("{name}.platter")));
        let file = |path: &Path| {
            let doing = format!("creating the disk {}", path.display());
            let file = File::options().read(true).write(true).create_new(true).open(path);
            let file = file.and_then(|file| file.set_len(size).map(|()| file));
            file.map_err(Error::io(doing))
        };
        let volatile = Volatile::new(file(&cache)?, file(&platter)?, size);
        Self::serve(volatile, cache, platter, dir.join(format!("{name}.nbd")))
    }

    /// Another disk, which is what this one would be had its power been cut now; this one goes on, for whoever still uses it. Of the
    /// sectors written and not flushed, `percent` of 100 survive, chosen by the dice; those of one block, of `block` bytes, all or none.
    /// Returns how many were kept and lost, too.
    pub fn survivor(
        &self,
        dir: &Path,
        name: &str,
        dice: &mut Dice,
        percent: f64,
        block: u64,
    ) -> Result<(Self, u64, u64)> {
        let (cache, platter) = (dir.join(format!("{name}.cache")), dir.join(format!("{name}.platter")));
        let open = |path: &Path| {
            let doing = format!("opening the disk {}", path.display());
            File::options().read(true).write(true).open(path).map_err(Error::io(doing))
        };
        let disk = self.lock(); // nothing is written meanwhile
        for copy in [&cache, &platter] {
            run(Command::new("cp").arg("--sparse=always").args([&self.platter, copy]))?;
        }
        let (new_cache, new_platter) = (open(&cache)?, open(&platter)?);
        let survived = disk.survive(dice, percent, block, [&new_cache, &new_platter]);
        let (kept, lost) = survived.map_err(Error::io("copying what survives a power cut"))?;
        let volatile = Volatile::new(new_cache, new_platter, disk.size());
        drop(disk);
        let disk = Self::serve(volatile, cache, platter, dir.join(format!("{name}.nbd")))?;
        Ok((disk, kept, lost))
    }

    fn serve(volatile: Volatile, cache: PathBuf, platter: PathBuf, socket: PathBuf) -> Result<Self> {
        let shared = Arc::new(Mutex::new(volatile));
        let server = Server::start(&socket, Arc::clone(&shared))?;
        Ok(Self { shared, socket, cache, platter, _server: server })
    }

    /// Where QEMU connects.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The file with what was flushed. It is whole when the client is off; what is changed there, clients don't see.
    pub fn platter(&self) -> &Path {
        &self.platter
    }

    /// The power is cut: of the sectors written and not flushed, `percent` of 100 survive, chosen by the dice; the others
    /// are again what they were. Returns how many were kept and lost.
    pub fn cut(&self, dice: &mut Dice, percent: f64) -> Result<(u64, u64)> {
        self.lock().cut(dice, percent).map_err(Error::io("cutting the power of a disk"))
    }

    /// Writes to the disk from outside, flushed: a foreign partition table, for example.
    pub fn put(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.lock().put(offset, bytes).map_err(Error::io("filling a disk"))
    }

    /// SHA-256 of what would survive a power cut now.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        self.lock().fingerprint().map_err(Error::io("reading a disk"))
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.lock().size()
    }

    /// What was asked of it so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, Volatile> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A lab of a hundred disks in memory can't keep them all. What can't be removed goes with the scratch directory.
        for file in [&self.cache, &self.platter] {
            let _ = fs::remove_file(file);
        }
    }
}
