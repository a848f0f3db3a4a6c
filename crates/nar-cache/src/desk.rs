//! What all requests share, and the way from a request to its response.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use boot_model::MacAddr;
use boot_model::event::Content;
use generations::{Layout, Served, ServedNames};
use hyper::body::Incoming;
use hyper::header::USER_AGENT;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use service::EventWriter;
use service::confined::Root;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::debug;

use crate::blob::{Blob, ETag, Payload};
use crate::body::Body;
use crate::line::Line;
use crate::machines::Machines;
use crate::name;
use crate::rate::Rate;
use crate::refusal::Refusal;
use crate::reply::{Reply, Sent};
use crate::report;
use crate::selection::Selection;
use crate::shelf::Shelf;
use crate::turns::Asker;
use crate::wire::Lane;

/// What all requests share.
#[derive(Debug)]
pub struct Desk {
    root: Root,
    shelf: Shelf,
    addresses: Vec<Ipv4Addr>,
    names: watch::Receiver<Arc<ServedNames>>,
    machines: Machines,
    line: Arc<Line>,
    pub(crate) events: EventWriter,
    pub(crate) error_events: Rate,
    pub(crate) reports: Rate,
    pub(crate) counts: Counts,
}

/// Counts since the start. What strangers can cause is counted here and logged at debug at most.
#[derive(Debug, Default)]
pub struct Counts {
    /// Responses that were sent whole, reports not counted.
    pub complete: AtomicU64,
    /// Responses that the client or the network cut.
    pub cut: AtomicU64,
    /// Requests answered with an error.
    pub refused: AtomicU64,
    /// Bytes of bodies that the network took.
    pub bytes: AtomicU64,
    /// Reports taken.
    pub reports: AtomicU64,
    /// Reports about a machine that does not have the sender's address.
    pub strangers: AtomicU64,
    /// Connections closed at once because their address had too many.
    pub crowded: AtomicU64,
    /// Connections closed at once because they came to an address that is not served at.
    pub elsewhere: AtomicU64,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client's address.
    pub(crate) client: Ipv4Addr,
    /// Our address that the client asked.
    pub(crate) server: Ipv4Addr,
}

/// A file found for a request, opened, and what of it is sent.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) served: Served,
    pub(crate) len: u64,
    pub(crate) etag: ETag,
    pub(crate) selection: Selection,
    /// `None` to HEAD, and to who has it already.
    pub(crate) payload: Option<Payload>,
}

impl Desk {
    /// Serves what `names` holds at each moment, from the state directory with this layout, to connections that come to one of these
    /// addresses of ours; what is large to `clients` of them at once, while `most_waiting` requests may wait for it. `machines` tells who
    /// asks.
    pub fn new(
        layout: &Layout,
        machines: Machines,
        addresses: Vec<Ipv4Addr>,
        clients: usize,
        most_waiting: usize,
        names: watch::Receiver<Arc<ServedNames>>,
    ) -> Self {
        Self {
            line: Line::new(clients, most_waiting),
            root: Root::new(layout.root()),
            shelf: Shelf::new(layout.root()),
            addresses,
            names,
            machines,
            events: EventWriter::new(layout.events("nar-cache")),
            error_events: Rate::new(ERROR_EVENTS),
            reports: Rate::new(REPORTS),
            counts: Counts::default(),
        }
    }

    /// The counts since the start.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether the address that a connection came to is one of those configured: a socket of systemd's listens at all.
    pub(crate) fn answers_at(&self, server: Ipv4Addr) -> bool {
        self.addresses.contains(&server)
    }

    /// Answers one request.
    pub(crate) async fn answer(self: Arc<Self>, ends: Ends, lane: Lane, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        if has_few_buffers(&head) {
            lane.narrow();
        }
        let is_agent = is_agent(&head);
        let name = name::decode(head.uri.path());
        let path = name.as_deref().map_or_else(|_| "/".to_owned(), event_path);
        let is_head = head.method == Method::HEAD;
        let (mac, reply) = match (&head.method, head.uri.path()) {
            (&Method::POST, report::PATH) => {
                let mac = self.clone().mac(ends.client).await;
                (mac, report::take(&self, ends.client, mac, body).await.map(|()| Reply::Taken))
            }
            (_, report::PATH) => (self.clone().mac(ends.client).await, Err(Refusal::Method { allow: "POST" })),
            (&Method::GET | &Method::HEAD, _) => self.clone().look_up(ends, name, head).await,
            _ => (self.clone().mac(ends.client).await, Err(Refusal::Method { allow: "GET, HEAD" })),
        };
        let (reply, turn) = match reply {
            Ok(Reply::Found(found)) if found.is_large() => match self.line.ask(ends.client, found.asker(is_agent)) {
                turn @ Some(_) => (Ok(Reply::Found(found)), turn),
                None => (Err(Refusal::Busy), None),
            },
            other => (other, None),
        };
        let reply = reply.unwrap_or_else(|refusal| {
            debug!(client = %ends.client, path, %refusal, "request refused");
            Reply::Refused(refusal)
        });
        let sent = Sent { desk: self, began, address: ends.client, mac, path, lane, turn };
        reply.into_response(is_head, sent)
    }

    /// Large responses that had to wait for their turn.
    pub fn waited(&self) -> u64 {
        self.line.waited.load(Ordering::Relaxed)
    }

    async fn mac(self: Arc<Self>, client: Ipv4Addr) -> Option<MacAddr> {
        // A thread that panicked knows no machine.
        spawn_blocking(move || self.machines.mac_at(client, service::unix_millis())).await.unwrap_or_default()
    }

    async fn look_up(
        self: Arc<Self>,
        ends: Ends,
        name: Result<String, Refusal>,
        head: Parts,
    ) -> (Option<MacAddr>, Result<Reply, Refusal>) {
        if let Some((mac, found)) = name.as_deref().ok().and_then(|name| self.at_hand(ends, name, &head)) {
            return (mac, Ok(Reply::Found(Box::new(found))));
        }
        let found = spawn_blocking(move || {
            let mac = self.machines.mac_at(ends.client, service::unix_millis());
            (mac, name.and_then(|name| self.find(ends, mac, &name, &head)))
        });
        match found.await {
            Ok((mac, found)) => (mac, found.map(|found| Reply::Found(Box::new(found)))),
            Err(error) => (None, Err(error.into())),
        }
    }

    /// A narinfo from memory. Of the disk it needs stamps only, so it costs no hop to another thread.
    fn at_hand(&self, ends: Ends, name: &str, head: &Parts) -> Option<(Option<MacAddr>, Found)> {
        if !name.ends_with(".narinfo") {
            return None;
        }
        let served = self.names.borrow().resolve(name, ends.server, None).ok()?;
        let (etag, text) = self.shelf.find(served.candidates.first()?)?;
        let mac = self.machines.known_mac_at(ends.client, service::unix_millis())?;
        let len = text.len() as u64;
        let (selection, range) = choose(head, &etag, len).ok()?;
        let payload = range.map(|range| Payload::Bytes(text.slice(range.start as usize..range.end as usize)));
        Some((mac, Found { served, len, etag, selection, payload }))
    }

    /// Everything that touches the file before the first byte can leave. It blocks.
    fn find(&self, ends: Ends, mac: Option<MacAddr>, name: &str, head: &Parts) -> Result<Found, Refusal> {
        let names = Arc::clone(&self.names.borrow());
        let served = names.resolve(name, ends.server, mac)?;
        let blob = Blob::open(&self.root, &served)?;
        let (len, etag, path) = (blob.len, blob.etag.clone(), blob.path.clone());
        let (selection, range) = choose(head, &etag, len)?;
        let payload = range.map(|range| blob.payload(range)).transpose();
        let payload = payload.map_err(|source| Refusal::Read { path: path.clone(), source })?;
        if let (Content::Narinfo, Selection::Whole, Some(Payload::Bytes(text))) = (served.content, &selection, &payload)
        {
            self.shelf.put(&path, &etag, text);
        }
        Ok(Found { served, len, etag, selection, payload })
    }
}

/// Whether this is Syslinux, which offers a window of 64 kB and in BIOS takes packets by way of the boot ROM, where there may be room for
/// four (iPXE's driver of the rtl8139). A longer burst loses its end, and Syslinux's TCP has no way to say what did arrive.
fn has_few_buffers(head: &Parts) -> bool {
    head.headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Syslinux/"))
}

/// Whether this is rookery-agent, which comes again when it is told to.
fn is_agent(head: &Parts) -> bool {
    head.headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"rookery-agent/"))
}

/// What of a file a request gets, and which bytes of it are sent.
fn choose(head: &Parts, etag: &ETag, len: u64) -> Result<(Selection, Option<Range<u64>>), Refusal> {
    // Ranges are for GET alone (RFC 9110 §14.2).
    Ok(match (Selection::of(&head.headers, etag, len), head.method == Method::HEAD) {
        (Selection::NotModified, _) => (Selection::NotModified, None),
        (_, true) => (Selection::Whole, None),
        (Selection::Whole, false) => (Selection::Whole, Some(0..len)),
        (Selection::Part(range), false) => (Selection::Part(range.clone()), Some(range)),
        (Selection::Unsatisfiable, false) => return Err(Refusal::Unsatisfiable { len }),
    })
}

impl Found {
    /// Whether it is sent only when it is its client's turn.
    fn is_large(&self) -> bool {
        let can_be = matches!(self.served.content, Content::Nar | Content::Bundle | Content::Boot);
        can_be && self.payload.as_ref().is_some_and(|payload| payload.len() > LARGE)
    }

    /// Kernels and initrds are for boot loaders, whatever they call themselves.
    const fn asker(&self, is_agent: bool) -> Asker {
        match (self.served.content, is_agent) {
            (Content::Boot, _) => Asker::Loader,
            (_, true) => Asker::Agent,
            (_, false) => Asker::Program,
        }
    }
}

/// The path as events carry it: one form for each served name. Of a client's own words only plain ones are kept, and not many.
fn event_path(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+?=/".contains(&b);
    if name.len() > 256 || !name.bytes().all(plain) {
        return "/".to_owned();
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

/// Events about refused requests, per address in ten seconds: pxelinux looks for a dozen menus that are not there.
const ERROR_EVENTS: u32 = 100;

/// Reports, per address in ten seconds: each step of a boot, and a fetch's progress.
const REPORTS: u32 = 100;

/// Bytes of a response that waits for nothing: most packs of a closure, and together a small part of it.
const LARGE: u64 = 256 * 1024;
