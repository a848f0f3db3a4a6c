//! Our own transfer: the packs of a closure from the server into the client's store, without Nix.
//!
//! What is missing is brought by a few workers, the biggest first, each with one connection: bytes go from the socket through zstd
//! into the hash and into files, and no path waits for another. Whole paths are synced and renamed into the store in batches, and
//! then have a receipt each ([`received`]). Whatever happens at whatever time, the next run goes on with what has a receipt,
//! looks again at what lies in the store without one, and wipes the staging place.
//!
//! Memory is bounded, whatever the server sends: for each of the [`workers`], four at most, one zstd window of at most 16 MiB (2 MiB with packs of
//! the usual level) or a small patch of at most 12 MiB, and 1 MiB of buffers; once what [`bundle`] needs, an index of at most 32 MiB, which
//! lists no more than two generations have, and a large patch of at most 144 MiB (most have a few); and the closure manifest, of which a
//! generation of 2000 paths has 1 MB.

mod bundle;
mod commit;
mod pack;
pub(super) mod plan;
pub(super) mod received;
pub(super) mod space;
mod tee;
mod tree;
mod unpack;
pub(super) mod worker;

use std::{
    fs::{self, File},
    io,
    net::SocketAddrV4,
    os::unix::fs::DirBuilderExt as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use boot_model::{GenerationRef, StorePath, report::Progress};
use nix_format::{closure::Closure, signature::PublicKeys};

use self::{
    bundle::Bundle,
    commit::Committer,
    pack::PackError,
    plan::{Names, Task},
    received::Received,
    space::Space,
    unpack::UnpackError,
    worker::Shop,
};
use super::{
    Brought,
    progress::{self, Display},
    store::Store,
    stream::{Server, StreamError},
};
use crate::{Exit, Failure, console, report::Reporter};

const TICK: Duration = Duration::from_millis(100);

/// How many paths are fetched at the same time. More than there are processors would push each other's windows out of the caches (four
/// on two took a quarter longer); more than four would share the same link and the same disk.
fn workers() -> usize {
    thread::available_parallelism().map_or(2, usize::from).clamp(2, 4)
}

/// Where from, where to, and whom to believe.
pub(super) struct Transfer<'a> {
    pub(super) store: &'a Store,
    pub(super) wanted: &'a GenerationRef,
    pub(super) server: SocketAddrV4,
    pub(super) keys: &'a PublicKeys,
    pub(super) patience: Duration,
    pub(super) reporter: &'a Reporter,
}

/// Why a closure did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// The server was not heard for too long.
    #[error("{0}; check the server and the cable, then boot again")]
    Unreachable(StreamError),
    /// It gives something else than what was signed.
    #[error("{0}; run `rookery verify` on the server, then boot again")]
    Content(PackError),
    /// It gives what no trusted key has signed.
    #[error(
        "{0} is not signed by a key of this initrd; publish with the key that is in the initrd, or put the new key into it"
    )]
    Signature(StorePath),
    /// The disk is full.
    #[error("the client's disk is full ({0}); make the store's partition larger in the layout spec")]
    Space(String),
    /// The disk does not work.
    #[error("{doing}: {source}; check the disk")]
    Disk { doing: String, source: io::Error },
    /// Another worker failed first.
    #[error("given up")]
    Stopped,
}

/// Counted by the workers, shown by the one who waits for them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    paths: AtomicU64,
    bytes: AtomicU64,
}

impl Transfer<'_> {
    /// Brings what is missing of `closure`; returns when all of it has its receipt.
    pub(super) fn run(&self, closure: &Closure, received: &mut Received) -> Result<Brought, TransferError> {
        let space = Space { store: self.store, wanted: self.wanted, closure };
        let missing = plan::missing(closure, &Names::read(self.store), received);
        let brought = total(&missing);
        let mut full = match self.attempt(missing, &space, received) {
            Err(TransferError::Space(full)) => full,
            outcome => return outcome.map(|()| brought),
        };
        // The estimate was too small. What has a receipt stays; the rest is brought where something else was.
        while space.evict_one(received)? {
            let missing = plan::missing(closure, &Names::read(self.store), received);
            full = match self.attempt(missing, &space, received) {
                Err(TransferError::Space(full)) => full,
                outcome => return outcome.map(|()| brought),
            };
        }
        Err(TransferError::Space(full))
    }

    fn attempt(&self, tasks: Vec<Task>, space: &Space<'_>, received: &mut Received) -> Result<(), TransferError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let staging = self.prepare().map_err(|error| TransferError::disk("preparing the store", error))?;
        space.make(&tasks, received)?;
        let total = total(&tasks);
        let server = Server::new(self.server, self.patience, workers());
        let bundle = Bundle::find(&server, self.store, self.wanted, space.closure, &tasks);
        if let Some(bundle) = &bundle {
            console::say(&format!("rookery: the update is built on generation {}", bundle.old));
        }
        let disk = |error| TransferError::disk("opening the store", error);
        let committed = staging.try_clone().map_err(disk)?;
        let committer = Committer::new(self.store, committed, received).map_err(disk)?;
        let counters = Counters::default();
        let shop = Shop {
            store: self.store,
            staging: &staging,
            server: &server,
            keys: self.keys,
            bundle: bundle.as_ref().map(Bundle::paths),
            tasks: Mutex::new(tasks),
            counters: &counters,
        };
        let mut display = Display::new(self.reporter);
        let outcome = work(&shop, committer, || {
            let progress = counters.progress(total);
            display.tick(progress, || server.is_queued().then(|| progress::queued(progress)));
        });
        display.finish();
        outcome
    }

    /// Makes the directories, and wipes what an earlier run left.
    fn prepare(&self) -> io::Result<File> {
        let mut directories = fs::DirBuilder::new();
        directories.recursive(true).mode(0o755).create(self.store.paths())?;
        worker::remove(&self.store.staging())?;
        fs::DirBuilder::new().mode(0o700).create(self.store.staging())?;
        File::open(self.store.staging())
    }
}

/// Runs workers and committer to their end, and calls `tick` meanwhile.
fn work(shop: &Shop<'_>, committer: Committer<'_>, mut tick: impl FnMut()) -> Result<(), TransferError> {
    thread::scope(|scope| {
        let workers = workers();
        let (whole, incoming) = mpsc::sync_channel(2 * workers);
        let (done, outcomes) = mpsc::channel();
        for _ in 0..workers {
            let (whole, done) = (whole.clone(), done.clone());
            // Dropping `whole` is what tells the committer that no more will come.
            scope.spawn(move || done.send(shop.work(&whole)));
        }
        drop(whole);
        scope.spawn(move || done.send(committer.run(&incoming)));
        let mut first = Ok(());
        loop {
            match outcomes.recv_timeout(TICK) {
                Ok(Err(error)) => {
                    shop.server.stop();
                    if matches!(first, Ok(()) | Err(TransferError::Stopped)) {
                        first = Err(error);
                    }
                }
                Ok(Ok(())) => {}
                Err(RecvTimeoutError::Timeout) => tick(),
                Err(RecvTimeoutError::Disconnected) => return first,
            }
        }
    })
}

/// Is there no room for what was to be written?
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn total(tasks: &[Task]) -> Brought {
    Brought { paths: tasks.len() as u64, bytes: tasks.iter().map(|task| task.info.nar_size).sum() }
}

impl Counters {
    fn path(&self) {
        self.paths.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    fn undo(&self, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
    }

    fn progress(&self, total: Brought) -> Progress {
        let (paths, bytes) = (self.paths.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        Progress { paths, total_paths: total.paths, bytes, total_bytes: total.bytes }
    }
}

impl TransferError {
    fn disk(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        if is_full(&source) {
            return Self::Space(format!("{doing}: {source}"));
        }
        Self::Disk { doing, source }
    }

    /// May another attempt bring something else?
    fn is_wrong_content(&self) -> bool {
        matches!(self, Self::Content(_))
    }
}

impl From<PackError> for TransferError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Stream(StreamError::Stopped) => Self::Stopped,
            PackError::Stream(error @ StreamError::Unreachable { .. }) => Self::Unreachable(error),
            PackError::Unpack { path, source: UnpackError::Write { name, source } } => {
                Self::disk(format!("writing {name} of {path}"), source)
            }
            error => Self::Content(error),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let exit = match error {
            TransferError::Unreachable(_) => Exit::Unavailable,
            TransferError::Signature(_) => Exit::Refused,
            _ => Exit::Failure,
        };
        let failure = Self::new(exit, &error);
        match error {
            TransferError::Content(cause) => failure.with_spoilt(cause),
            _ => failure,
        }
    }
}
