//! The transfers of one client port, one after the other.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tftp_engine::{Agreed, FileName, Now, Outcome, Packet, ReadRequest, Received, Repeated, Stats, Transfer, Transmit};
use tokio::sync::mpsc::Receiver;
use tracing::{debug, warn};

use crate::admission::Admission;
use crate::arrived::Arrived;
use crate::desk::{Desk, Ended, Refusal};
use crate::source::{Source, at_leisure};
use crate::wire::{Line, SendError, is_closed};

/// Answers `request`, and further ones that come from the same port while it lasts, until the port is quiet.
///
/// UEFI and the Raspberry Pi's ROM use one port for all their requests, so what arrives there may be a repetition, or
/// the next file.
pub(crate) async fn attend(
    desk: &Arc<Desk>,
    client: SocketAddrV4,
    local: Ipv4Addr,
    request: Vec<u8>,
    mut requests: Receiver<Vec<u8>>,
    admission: &Admission,
) {
    let mut next = Some(request);
    while let Some(request) = next {
        next = answer(desk, client, local, request, &mut requests, admission).await;
        if next.is_none() {
            // Whoever sends from here on finds the channel closed and starts anew.
            requests.close();
            next = requests.try_recv().ok();
        }
    }
}

/// Returns the request that took this one's place, if any.
async fn answer(
    desk: &Arc<Desk>,
    client: SocketAddrV4,
    local: Ipv4Addr,
    bytes: Vec<u8>,
    requests: &mut Receiver<Vec<u8>>,
    admission: &Admission,
) -> Option<Vec<u8>> {
    let started = Instant::now();
    let line = match Line::open(local, client) {
        Ok(line) => line,
        Err(error) => {
            debug!(%client, %local, %error, "no socket for the answer");
            return None;
        }
    };
    let request = match ReadRequest::parse(&bytes) {
        Ok(request) => request,
        Err(error) => {
            debug!(%client, %error, "request refused");
            refuse(desk, &line, error.reply());
            return None;
        }
    };
    let source = match open(desk, &request, local).await {
        Ok(source) => source,
        Err(refusal) => {
            debug!(%client, file = %request.name, %refusal, "request refused");
            refuse(desk, &line, Some(refusal.reply()));
            if !matches!(refusal, Refusal::Unknown) {
                desk.record(&Ended {
                    client,
                    file: &request.name,
                    bytes: 0,
                    agreed: &Agreed::default(),
                    outcome: None,
                    stats: Stats::default(),
                    duration: started.elapsed(),
                });
            }
            return None;
        }
    };
    // Without a known MTU, the size that needs no asking.
    let agreed = request.negotiate(&desk.limits(*client.ip(), line.largest_block().unwrap_or_default()), source.size());
    let transfer = Transfer::new(Now::after_origin(started.elapsed()), &agreed, source.size());
    let mut session = Session { line, source, agreed, transfer, started, request: bytes, admission };
    let (outcome, replacement) = session.run(requests).await;
    session.tell(desk, client, &request.name, outcome.as_ref());
    replacement
}

/// Looking for a file may wait for the disk too; but what one machine of a room has asked for, the next ones find in memory.
async fn open(desk: &Arc<Desk>, request: &ReadRequest, local: Ipv4Addr) -> Result<Source, Refusal> {
    if let Some(opened) = desk.open_cached(request, local) {
        return opened;
    }
    let (desk, request) = (Arc::clone(desk), request.clone());
    let open = move || desk.open(&request, local);
    at_leisure(open).await.map_err(Refusal::Thread)?
}

fn refuse(desk: &Desk, line: &Line, reply: Option<Packet<'_>>) {
    desk.counts.refused.fetch_add(1, Ordering::Relaxed);
    if let Some(packet) = reply
        && desk.may_send_error()
        && let Err(error) = line.send(&packet.encode())
    {
        debug!(%error, "the client does not wait for its ERROR");
    }
}

struct Session<'a> {
    line: Line,
    source: Source,
    agreed: Agreed,
    transfer: Transfer,
    started: Instant,
    /// The bytes that began it.
    request: Vec<u8>,
    admission: &'a Admission,
}

impl Session<'_> {
    /// Runs to the end. The outcome is `None` if the file could not be read; the client then hears nothing more, because
    /// an ERROR after the OACK would confuse pxelinux more than silence.
    async fn run(&mut self, requests: &mut Receiver<Vec<u8>>) -> (Option<Outcome>, Option<Vec<u8>>) {
        let mut arrived = Arrived::new();
        let alarm = tokio::time::sleep_until(self.started.into());
        tokio::pin!(alarm);
        loop {
            if let Err(error) = self.flush().await {
                debug!(%error, "the file can't be read any more");
                return (None, None);
            }
            let Some(deadline) = self.transfer.next_deadline() else {
                return (self.transfer.outcome().cloned(), None);
            };
            let deadline = (self.started + deadline.since_origin()).into();
            // An alarm that goes off too early is set anew then; this saves doing so for each ACK.
            if alarm.is_elapsed() || deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                received = self.line.receive(&mut arrived) => match received {
                    Ok(()) => self.take(&arrived),
                    Err(error) if is_closed(&error) => self.transfer.on_unreachable(),
                    // Some router's opinion; the timers know better.
                    Err(error) => debug!(%error, "receiving"),
                },
                Some(request) = requests.recv() => {
                    // What the client sent before it asked again comes first: it may have been the end of a probe.
                    while let Ok(()) = self.line.try_receive(&mut arrived) {
                        self.take(&arrived);
                    }
                    let same = request == self.request;
                    if self.transfer.on_request(self.now(), same) == Repeated::Replace {
                        return (self.transfer.outcome().cloned(), Some(request));
                    }
                }
                () = &mut alarm => self.transfer.on_timer(self.now()),
            }
        }
    }

    fn now(&self) -> Now {
        Now::after_origin(self.started.elapsed())
    }

    fn take(&mut self, arrived: &Arrived) {
        for packet in arrived.packets() {
            if self.transfer.on_packet(self.now(), packet) == Received::Progress {
                self.admission.prove();
            }
        }
    }

    /// Sends what is due.
    async fn flush(&mut self) -> Result<(), std::io::Error> {
        while let Some(transmit) = self.transfer.poll(self.now()) {
            let sent = match transmit {
                Transmit::Oack => self.line.send(&self.agreed.oack().unwrap_or_default()).map_err(SendError::Socket),
                Transmit::Blocks { first, count } => {
                    self.line.send_blocks(&self.source, self.agreed.block_size, first, count).await
                }
            };
            match sent {
                Ok(()) => {}
                Err(SendError::Socket(error)) if is_closed(&error) => self.transfer.on_unreachable(),
                Err(SendError::Socket(error)) => debug!(%error, "sending"),
                Err(SendError::Source(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn tell(&self, desk: &Desk, client: SocketAddrV4, file: &FileName, outcome: Option<&Outcome>) {
        let window = self.agreed.window;
        if let Some(granted) = desk.gaps.learn(*client.ip(), window, self.transfer.stats()) {
            warn!(
                client = %client.ip(), %file, window, granted,
                "a client loses a part of many windows, as cards with few buffers do; it is granted smaller ones from now on.                  Where that is many machines: a smaller [tftpd] max-window"
            );
        }
        let count = if outcome == Some(&Outcome::Complete) { &desk.counts.complete } else { &desk.counts.incomplete };
        count.fetch_add(1, Ordering::Relaxed);
        let (bytes, stats) = (self.transfer.bytes_acknowledged(), *self.transfer.stats());
        debug!(%client, %file, bytes, ?outcome, ?stats, round_trip = ?self.transfer.round_trip(), "transfer ended");
        // A source that never answered may be forged: it gets no line in a file that is kept.
        if outcome == Some(&Outcome::Unproven) {
            return;
        }
        let duration = self.started.elapsed();
        desk.record(&Ended { client, file, bytes, agreed: &self.agreed, outcome, stats, duration });
    }
}
