//! A response on its way, and the event that it leaves when it has ended.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use boot_model::event::{Content, Event, EventKind};
use boot_model::{MacAddr, Timestamp};

use crate::desk::Desk;
use crate::line::Slot;

/// Shared by a body and by each piece of it that waits for the network; when the last of them goes, the response was sent or
/// cut, and the event is written.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) desk: Arc<Desk>,
    pub(crate) began: Instant,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) path: String,
    /// What it carries; `None` for the answer to a report, which leaves an event of its own.
    pub(crate) content: Option<Content>,
    pub(crate) status: u16,
    /// Bytes of the body that are to be sent.
    pub(crate) expected: u64,
    /// Bytes of it that the network took.
    pub(crate) sent: AtomicU64,
    /// Its turn, once it has come, which ends with it; what is small needs none.
    pub(crate) slot: OnceLock<Slot>,
}

impl Delivery {
    /// Its turn has come.
    pub(crate) fn begins(&self, slot: Slot) {
        // It comes once; a second slot would be given back at once.
        let _ = self.slot.set(slot);
    }

    pub(crate) fn took(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(slot) = self.slot.get() {
            slot.moved(bytes);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(content) = self.content else { return };
        let bytes = *self.sent.get_mut();
        let complete = bytes == self.expected;
        let counts = &self.desk.counts;
        let counter = match (content, complete) {
            (Content::Error, _) => &counts.refused,
            (_, true) => &counts.complete,
            (_, false) => &counts.cut,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        if content == Content::Error && !self.desk.error_events.allows(self.address, self.began) {
            return;
        }
        self.desk.events.write(&Event {
            time: Timestamp::from_unix_millis(service::unix_millis()),
            mac: self.mac,
            address: Some(self.address),
            kind: EventKind::Http {
                path: std::mem::take(&mut self.path),
                content,
                status: self.status,
                bytes,
                complete,
                milliseconds: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            },
        });
    }
}
