//! What all transfers share: the files, the limits, the counts and where events go.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use service::confined::{OpenError, Root};
use tftp_engine::{Agreed, ErrorCode, FileName, Limits, Mode, Outcome, Packet, ReadRequest, Stats};

use crate::admission::{Admissions, ErrorBudget};
use crate::gaps::Gaps;
use crate::source::Source;
use crate::wire::LARGEST_DATAGRAM;

/// Bounds of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Transfers in progress at once; requests beyond are dropped, and clients ask again.
    pub max_transfers: usize,
    /// Of these, for one client address.
    pub max_transfers_per_client: usize,
    /// The largest `windowsize` that is accepted.
    pub max_window: u16,
    /// The largest `blksize` that is accepted, in bytes; the route's MTU lowers it further.
    pub block_size_max: u16,
}

/// Which files a name may stand for, for a request that came to this address of ours: paths beneath the root, of which
/// the first that exists is served.
pub type Resolve = dyn Fn(&FileName, Ipv4Addr) -> Vec<PathBuf> + Send + Sync;

/// Whether a machine of this address may ask at all.
pub type Clients = dyn Fn(Ipv4Addr) -> bool + Send + Sync;

/// Where ended transfers are told.
pub type Record = dyn Fn(&Ended<'_>) + Send + Sync;

/// Everything that transfers share.
pub struct Desk {
    root: Root,
    addresses: Vec<Ipv4Addr>,
    clients: Box<Clients>,
    resolve: Box<Resolve>,
    record: Box<Record>,
    bounds: Bounds,
    errors: ErrorBudget,
    pub(crate) gaps: Gaps,
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) counts: Counts,
}

/// A transfer that ended, or was refused because of the file.
#[derive(Debug)]
pub struct Ended<'a> {
    /// The client.
    pub client: SocketAddrV4,
    /// The name that was asked for.
    pub file: &'a FileName,
    /// Bytes of the file that the client acknowledged.
    pub bytes: u64,
    /// The options.
    pub agreed: &'a Agreed,
    /// How it ended; `None` where the file could not be opened or read.
    pub outcome: Option<&'a Outcome>,
    /// What was sent.
    pub stats: Stats,
    /// From the request to the end.
    pub duration: Duration,
}

/// Counts since the start. What strangers can cause is counted here and logged at debug at most.
#[derive(Debug, Default)]
pub struct Counts {
    /// Transfers whose last block was acknowledged.
    pub complete: AtomicU64,
    /// Transfers that ended otherwise.
    pub incomplete: AtomicU64,
    /// Requests answered with ERROR.
    pub refused: AtomicU64,
    /// Requests dropped because no place was free.
    pub dropped_busy: AtomicU64,
    /// ERROR packets not sent because the budget was used up.
    pub dropped_errors: AtomicU64,
    /// Transfers cut off before their client had answered, because others wanted the place.
    pub evicted: AtomicU64,
    /// Datagrams at the service's port that were no request, came to an address that is not served at, or from one that
    /// is not served.
    pub dropped_noise: AtomicU64,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no served name")]
    Unknown,
    #[error(transparent)]
    Open(OpenError),
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("opening: {0}")]
    Thread(std::io::Error),
}

impl Desk {
    /// Serves what `resolve` names beneath `root`, to requests of `clients` that come to one of these addresses of ours.
    pub fn new(
        root: Root,
        addresses: Vec<Ipv4Addr>,
        clients: Box<Clients>,
        bounds: Bounds,
        resolve: Box<Resolve>,
        record: Box<Record>,
    ) -> Self {
        Self {
            root,
            addresses,
            clients,
            resolve,
            record,
            bounds,
            errors: ErrorBudget::new(Instant::now()),
            gaps: Gaps::default(),
            admissions: Admissions::new(bounds.max_transfers, bounds.max_transfers_per_client),
            counts: Counts::default(),
        }
    }

    /// The counts since the start.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether the address that a request came to is one of those configured (a socket of systemd's hears on all), and
    /// the client one of those that may ask. Others get no answer at all: it would go to whoever was named as the source.
    pub(crate) fn answers(&self, local: Ipv4Addr, client: Ipv4Addr) -> bool {
        self.addresses.contains(&local) && (self.clients)(client)
    }

    /// How far to go along with this client's options when its blocks may have `largest_block` bytes.
    pub(crate) fn limits(&self, client: Ipv4Addr, largest_block: u16) -> Limits {
        Limits {
            block_size_max: self.bounds.block_size_max.min(largest_block),
            window_max: self.gaps.window(client, self.bounds.max_window),
            in_flight_max: u32::try_from(LARGEST_DATAGRAM).unwrap_or(u32::MAX),
            timeout_max: LONGEST_TIMEOUT,
        }
    }

    /// Opens the file of a request that came to our address `local`.
    pub(crate) fn open(&self, request: &ReadRequest, local: Ipv4Addr) -> Result<Source, Refusal> {
        self.open_by(request, local, Root::open, Source::new)
    }

    /// As [`Desk::open`], if all that it takes is in memory; `None` if a disk would have to be waited for.
    pub(crate) fn open_cached(&self, request: &ReadRequest, local: Ipv4Addr) -> Option<Result<Source, Refusal>> {
        match self.open_by(request, local, Root::open_cached, Source::cached) {
            Err(Refusal::Open(OpenError::Io { source, .. }) | Refusal::Read { source, .. })
                if source.kind() == io::ErrorKind::WouldBlock =>
            {
                None
            }
            opened => Some(opened),
        }
    }

    fn open_by(
        &self,
        request: &ReadRequest,
        local: Ipv4Addr,
        open: impl Fn(&Root, &Path) -> Result<(File, u64), OpenError>,
        source: impl Fn(File, u64, Mode) -> io::Result<Source>,
    ) -> Result<Source, Refusal> {
        for path in (self.resolve)(&request.name, local) {
            match open(&self.root, &path) {
                Ok((file, size)) => {
                    return source(file, size, request.mode).map_err(|source| Refusal::Read { path, source });
                }
                Err(OpenError::NotFound(_)) => {}
                Err(error) => return Err(Refusal::Open(error)),
            }
        }
        Err(Refusal::Unknown)
    }

    /// Whether one more ERROR may be sent; counted if not.
    pub(crate) fn may_send_error(&self) -> bool {
        let may = self.errors.take(Instant::now());
        if !may {
            self.counts.dropped_errors.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    pub(crate) fn record(&self, ended: &Ended<'_>) {
        (self.record)(ended);
    }
}

impl Refusal {
    /// Fixed texts: nothing of the file system is told.
    pub(crate) fn reply(&self) -> Packet<'static> {
        match self {
            Self::Unknown => Packet::Error { code: ErrorCode::NOT_FOUND, message: b"file not found" },
            Self::Open(_) | Self::Read { .. } | Self::Thread(_) => {
                Packet::Error { code: ErrorCode::ACCESS, message: b"access violation" }
            }
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("root", &self.root).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// In seconds; a client that left would hold its place for three times that.
const LONGEST_TIMEOUT: u8 = 10;
