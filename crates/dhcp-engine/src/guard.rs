use crate::pool::spread;

/// A token bucket for each sender, in a table of fixed size. Two senders that meet in a slot displace each other, so a flood from
/// many addresses weakens the guard and never costs memory.
#[derive(Debug)]
pub(crate) struct RateGuard {
    rate: Rate,
    slots: Vec<Slot>,
}

/// How much one sender may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Thousandths of a packet that may come at once.
    burst: u64,
    /// Thousandths of a packet for each millisecond: packets a second.
    refill: u64,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Hash of the sender.
    sender: u64,
    /// Thousandths of a packet.
    tokens: u64,
    seen: u64,
}

/// A boot takes about ten messages in a few seconds (ROM, chainloaded iPXE, running system), retries included twenty.
pub(crate) const CLIENT: Rate = Rate { burst: 24_000, refill: 2 };

/// A port of a switch, or a whole network whose relay names all its clients alike: a room of 500 that is switched on must pass.
pub(crate) const CIRCUIT: Rate = Rate { burst: 4_000_000, refill: 400 };

/// Addresses that are asked about. A room that is switched on must not turn into a storm of broadcasts.
pub(crate) const PROBES: Rate = Rate { burst: 100_000, refill: 100 };

const SLOTS: usize = 4096;

impl RateGuard {
    pub(crate) fn new(rate: Rate) -> Self {
        Self::with_slots(rate, SLOTS)
    }

    /// One bucket for all.
    pub(crate) fn single(rate: Rate) -> Self {
        Self::with_slots(rate, 1)
    }

    fn with_slots(rate: Rate, slots: usize) -> Self {
        Self { rate, slots: vec![Slot { sender: 0, tokens: rate.burst, seen: 0 }; slots] }
    }

    /// Whether this sender may have its way now (monotonic milliseconds).
    pub(crate) fn admit(&mut self, sender: &[u8], now: u64) -> bool {
        let Rate { burst, refill } = self.rate;
        let sender = spread(sender);
        let place = (sender % self.slots.len() as u64) as usize;
        let slot = &mut self.slots[place];
        if slot.sender != sender {
            *slot = Slot { sender, tokens: burst, seen: now };
        }
        slot.tokens = (slot.tokens + now.saturating_sub(slot.seen) * refill).min(burst);
        slot.seen = now;
        let admitted = slot.tokens >= 1000;
        if admitted {
            slot.tokens -= 1000;
        }
        admitted
    }
}
