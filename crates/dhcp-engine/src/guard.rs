use boot_model::MacAddr;

use crate::pool::spread;

/// A token bucket per MAC address, in a table of fixed size. Two addresses that meet in a slot displace each other, so a flood
/// from many addresses weakens the guard and never costs memory.
#[derive(Debug)]
pub(crate) struct RateGuard(Vec<Slot>);

#[derive(Debug, Clone)]
struct Slot {
    mac: MacAddr,
    /// Thousandths of a packet.
    tokens: u64,
    seen: u64,
}

const SLOTS: usize = 4096;

/// A boot takes about ten messages in a few seconds (ROM, chainloaded iPXE, running system), retries included twenty.
const BURST: u64 = 24_000;

/// Per millisecond, in thousandths of a packet: two packets a second.
const REFILL: u64 = 2;

impl RateGuard {
    pub(crate) fn new() -> Self {
        Self(vec![Slot { mac: MacAddr::new([0; 6]), tokens: BURST, seen: 0 }; SLOTS])
    }

    /// Whether this client may be answered now (monotonic milliseconds).
    pub(crate) fn admit(&mut self, mac: MacAddr, now: u64) -> bool {
        let slot = &mut self.0[(spread(&mac.bytes()) % SLOTS as u64) as usize];
        if slot.mac != mac {
            *slot = Slot { mac, tokens: BURST, seen: now };
        }
        slot.tokens = (slot.tokens + now.saturating_sub(slot.seen) * REFILL).min(BURST);
        slot.seen = now;
        let admitted = slot.tokens >= 1000;
        if admitted {
            slot.tokens -= 1000;
        }
        admitted
    }
}
