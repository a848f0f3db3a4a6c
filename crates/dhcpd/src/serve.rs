use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot_model::Timestamp;
use boot_model::event::{Event, EventKind};
use dhcp_engine::{
    BootVerdict, Decision, Effect, Engine, IgnoreReason, Ingress, Lease, Now, Outcome, Policy, Request, Verdict,
};
use service::{EventWriter, Failure};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::commit::{Committer, PATIENCE, Promise, Reply, Report};
use crate::inbox::{self, Inbox};
use crate::port::Port;
use crate::probe::{Heard, Prober};
use crate::store::LeaseStore;
use crate::telling::Telling;

/// What is served and where it is kept.
#[derive(Debug)]
pub struct Site {
    /// What the engine is told; a new value replaces the old one.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// The lease files.
    pub store: LeaseStore,
    /// What they held.
    pub leases: Vec<Lease>,
    /// Where events go.
    pub events: Arc<EventWriter>,
    /// What asks whether an address is in use; without it they are offered unasked.
    pub prober: Option<Prober>,
}

/// How often clocks are compared, a failing store is tried again and counts are looked at.
const TICK: Duration = Duration::from_secs(2);

/// Requests decided before sockets, reports and signals are looked at again: few, for the kernel holds only some hundred datagrams.
const TURN: usize = 32;

/// Counts are logged this often, in ticks.
const SUMMARY: u64 = 30;

/// Serves until `shutdown` resolves; what was promised until then is on disk and sent when it returns.
///
/// # Errors
/// If a socket fails for good. What a single client can provoke is no error.
pub async fn serve(site: Site, ports: Vec<Port>, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let inbox = Arc::new(Inbox::new());
    let mut receivers = JoinSet::new();
    for port in ports.into_iter().map(Arc::new) {
        let socket = UdpSocket::from_std(port.receiver()?)?;
        receivers.spawn(receive(port, socket, Arc::clone(&inbox)));
    }
    let (committer, mut reports) = Committer::start(site.store, Arc::clone(&site.events))?;
    let mut answers = site.prober.as_ref().map(Prober::listen).transpose()?;
    let mut policy = site.policy;
    let clock = Clock::start();
    let first = policy.borrow_and_update().as_ref().clone();
    let engine = Engine::new(first, site.leases, clock.now());
    let mut server = Server {
        engine,
        clock,
        committer,
        prober: site.prober,
        events: site.events,
        untold: Vec::new(),
        telling: Telling::new(Instant::now()),
        failing: false,
        counts: BTreeMap::new(),
    };
    let mut tick = tokio::time::interval(TICK);
    let mut ticks = 0;
    tokio::pin!(shutdown);
    loop {
        // While the disk is behind, requests wait in the inbox, which drops the oldest.
        let ready = server.committer.has_room();
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            () = inbox.filled(), if ready => server.turn(&inbox),
            () = at(server.prober.as_ref().and_then(Prober::next)) => server.go_on(),
            Some(heard) = next(answers.as_mut()) => server.in_use(heard),
            Some(report) = reports.recv() => {
                server.hear(report);
                // Room again: what waited in the inbox has no wake-up of its own left.
                server.turn(&inbox);
            }
            Ok(()) = policy.changed() => {
                let policy = policy.borrow_and_update().as_ref().clone();
                server.engine.reload(policy, server.clock.now());
            }
            Some(ended) = receivers.join_next() => ended.map_err(Failure::runtime)??,
            _ = tick.tick() => {
                ticks += 1;
                server.tick();
                if ticks % SUMMARY == 0 {
                    server.summary(&inbox);
                }
            }
        }
        server.tell();
        if !inbox.is_empty() {
            // For the sockets, which are read on this thread too.
            tokio::task::yield_now().await;
        }
    }
}

/// Resolves at this instant, without one never.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

async fn next(answers: Option<&mut mpsc::Receiver<Heard>>) -> Option<Heard> {
    match answers {
        Some(answers) => answers.recv().await,
        None => None,
    }
}

/// Reads an interface's socket until it fails for good.
async fn receive(port: Arc<Port>, socket: UdpSocket, inbox: Arc<Inbox>) -> Result<(), Failure> {
    let mut batch = Vec::new();
    loop {
        socket.readable().await?;
        let received = socket.try_io(Interest::READABLE, || port.receive(&mut batch));
        let arrived = Instant::now();
        inbox.push(batch.drain(..).map(|received| inbox::Request { port: Arc::clone(&port), received, arrived }));
        match received {
            // There may be more; what has come is decided in between.
            Ok(()) => tokio::task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The interface goes down and up again (a cable, a bridge without ports): nothing to end for. An ICMP error that a
            // client provokes does not reach an unconnected socket.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::EINTR | libc::ENOBUFS)) => {
                warn!(interface = port.interface(), %error, "the interface cannot be read for a moment");
                tokio::time::sleep(TICK).await;
            }
            Err(error) => {
                return Err(Failure::runtime(format!("cannot read from {}: {error}", port.interface())));
            }
        }
    }
}

struct Clock {
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now() }
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.start.elapsed().as_millis() as u64, unix: service::unix_millis() / 1000 }
    }
}

/// The engine with all that carries out its decisions.
struct Server {
    engine: Engine,
    clock: Clock,
    committer: Committer,
    prober: Option<Prober>,
    events: Arc<EventWriter>,
    /// What is to be written there: after the replies, and all that a turn brought at once.
    untold: Vec<Event>,
    /// What of it is left out in a flood.
    telling: Telling,
    failing: bool,
    /// What was not answered, by reason; anyone on the LAN can make these happen, so they are counted and not logged.
    counts: BTreeMap<&'static str, u64>,
}

impl Server {
    /// Decides about requests that wait, and returns for others to have their turn.
    fn turn(&mut self, inbox: &Inbox) {
        for _ in 0..TURN {
            if !self.committer.has_room() {
                return;
            }
            match inbox.pop() {
                Some(request) => self.answer(request),
                None => return,
            }
        }
        // Whatever is left is seen by the next turn.
        inbox.wake();
    }

    fn answer(&mut self, waiting: inbox::Request) {
        if waiting.arrived.elapsed() > PATIENCE {
            return self.count("late");
        }
        let received = &waiting.received;
        let request = match Request::parse(&received.payload) {
            Ok(request) => request,
            Err(error) => {
                debug!(source = %received.source, %error, "not a DHCP request");
                return self.count("malformed");
            }
        };
        let interface = waiting.port.interface();
        let port = waiting.port.number();
        let from = Ingress { interface, source: received.source, destination: received.destination, port };
        match self.engine.handle(self.clock.now(), &request, from) {
            Outcome::Act(decision) => {
                debug!(interface, mac = ?decision.mac, address = ?decision.address, verdict = %decision.verdict,
                    boot = %decision.boot, "decided");
                drop(request);
                self.carry_out(decision, waiting);
            }
            Outcome::Ignore(reason) => {
                debug!(interface, mac = ?request.mac(), %reason, "not answered");
                self.count(reason.name());
            }
        }
    }

    fn carry_out(&mut self, mut decision: Decision, waiting: inbox::Request) {
        if let Some(&Effect::Probe { address, by }) = decision.effects.first() {
            decision.effects.remove(0);
            if let Some(prober) = &mut self.prober
                && prober.ask(address, by, waiting.port.interface())
            {
                return prober.park(address, decision, waiting);
            }
            self.engine.not_in_use(address);
        }
        let event = event(&decision);
        let silent = decision.effects.is_empty();
        let mut leases = Vec::new();
        let mut reply = None;
        for effect in decision.effects {
            match effect {
                Effect::Probe { .. } => {}
                Effect::SaveLease(lease) => leases.push(lease),
                Effect::Send { reply: bytes, from, to } => {
                    reply = Some(Reply { port: Arc::clone(&waiting.port), bytes, from, to, arrived: waiting.arrived });
                }
            }
        }
        if !leases.is_empty() {
            self.committer.promise(Promise { leases, reply, event });
        } else if (silent || reply.is_some_and(|reply| reply.send())) && self.telling.admits(Instant::now()) {
            self.untold.push(event);
        }
    }

    /// Nobody uses the addresses that were asked about.
    fn go_on(&mut self) {
        while let Some(parked) = self.prober.as_mut().and_then(Prober::due) {
            self.engine.not_in_use(parked.address);
            self.carry_out(parked.decision, parked.request);
        }
    }

    /// Somebody uses an address: its client is offered another, if it still waits.
    fn in_use(&mut self, heard: Heard) {
        let Some(parked) = self.prober.as_mut().and_then(|prober| prober.refuted(heard)) else { return };
        debug!(address = %heard.address, mac = ?heard.mac, "the address is in use and not offered");
        self.count("in-use");
        self.engine.in_use(self.clock.now(), heard.address);
        self.answer(parked.request);
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Saved(leases) => self.engine.saved(&leases),
            Report::Rewritten(leases) => {
                self.engine.saved(&leases);
                if std::mem::replace(&mut self.failing, false) {
                    info!("leases can be written again");
                    self.engine.set_store_failing(false);
                }
            }
            Report::Failed(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, "leases cannot be written: known ones are kept, no new ones are made; free or mend the disk");
                    self.engine.set_store_failing(true);
                }
            }
        }
    }

    fn tell(&mut self) {
        self.events.write_all(&self.untold);
        self.untold.clear();
    }

    fn tick(&mut self) {
        let stepped = self.engine.wall_clock_was_set(self.clock.now());
        if stepped {
            info!("the wall clock was set; the ends of leases are written anew");
        }
        if stepped || self.failing {
            self.committer.rewrite(self.engine.leases());
        }
    }

    fn count(&mut self, reason: &'static str) {
        *self.counts.entry(reason).or_default() += 1;
    }

    fn summary(&mut self, inbox: &Inbox) {
        let counts = std::mem::take(&mut self.counts);
        let dropped = inbox.take_dropped();
        if counts.contains_key("in-use") {
            warn!(
                "an address of a pool is in use by a machine that did not get it here; give that one a host entry or another address"
            );
        }
        if counts.contains_key(IgnoreReason::PoolEmpty.name()) {
            warn!("a pool has no address left for a client that asked; make it larger or the leases shorter");
        }
        if dropped > 0 {
            warn!(dropped, "more requests than can be answered in time; the oldest were dropped");
        }
        let left_out = self.telling.take_left_out();
        if left_out > 0 {
            warn!(
                left_out,
                "more messages were answered than a room needs, and not all answers are in the events; somebody may be flooding the network"
            );
        }
        if !counts.is_empty() {
            debug!(?counts, "not answered in the last minute");
        }
    }
}

/// The line that the room's view reads.
fn event(decision: &Decision) -> Event {
    let message = match decision.verdict {
        Verdict::Offer(_) | Verdict::ProxyOffer => "OFFER",
        // An ACK is of a lease. These two are acknowledged as well, and their addresses are whatever the sender wrote.
        Verdict::Ack(..) => "ACK",
        Verdict::Informed => "INFORM",
        Verdict::BootServer => "BOOT-SERVER",
        Verdict::NothingToAdd => "DISCOVER",
        Verdict::Nak(_) => "NAK",
        Verdict::Released => "RELEASE",
        Verdict::Declined => "DECLINE",
        Verdict::Bootp => "BOOTREPLY",
    };
    let (boot_file, reason) = match &decision.boot {
        BootVerdict::File { name, .. } => (Some(name.clone()), decision.verdict.to_string()),
        BootVerdict::NotAsked => (None, decision.verdict.to_string()),
        nothing @ BootVerdict::Nothing(_) => (None, format!("{}; {nothing}", decision.verdict)),
    };
    Event {
        time: Timestamp::from_unix_millis(service::unix_millis()),
        mac: decision.mac,
        address: decision.address,
        kind: EventKind::Dhcp { message: message.to_owned(), boot_file, circuit: decision.circuit.clone(), reason },
    }
}
