use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use crate::lease::{ClientKey, Lease, LeaseState};
use crate::policy::Subnet;
use crate::pool::Pool;

/// The addresses of one subnet: who has them, who is offered them, which are free. Times are monotonic milliseconds.
#[derive(Debug)]
pub(crate) struct Table {
    pool: Pool,
    rows: HashMap<Ipv4Addr, Row>,
    by_client: HashMap<ClientKey, Ipv4Addr>,
    offers: HashMap<Ipv4Addr, Offer>,
    offered_to: HashMap<ClientKey, Ipv4Addr>,
    /// Offers of pool addresses, soonest end first.
    offer_ends: BTreeSet<(u64, Ipv4Addr)>,
    /// Pool rows in the order in which they can be given to somebody else.
    reuse: BTreeSet<(u64, Ipv4Addr)>,
    /// Declined rows by the end of their probation.
    declined: BTreeSet<(u64, Ipv4Addr)>,
}

/// One address that somebody has or had.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) lease: Lease,
    /// When it was last written.
    pub(crate) written: u64,
    /// When it ends.
    pub(crate) deadline: u64,
    /// The end that is known to be on disk.
    pub(crate) durable: Option<u64>,
    /// Under which time `reuse` lists it.
    reuse_key: u64,
}

#[derive(Debug)]
struct Offer {
    client: ClientKey,
    until: u64,
    /// The network is being asked whether somebody uses the address.
    asked: bool,
}

/// How long an offer is kept for its client. A Raspberry Pi goes from OFFER to TFTP without a REQUEST, OVMF collects offers
/// for four seconds and longer.
const OFFER_HOLD: u64 = 60_000;

/// In a small pool so many may be offered at once all the same: a room that is switched on.
const OFFERS_AT_LEAST: u32 = 32;

impl Table {
    pub(crate) fn new(subnet: &Subnet) -> Self {
        Self {
            pool: Pool::new(subnet),
            rows: HashMap::new(),
            by_client: HashMap::new(),
            offers: HashMap::new(),
            offered_to: HashMap::new(),
            offer_ends: BTreeSet::new(),
            reuse: BTreeSet::new(),
            declined: BTreeSet::new(),
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub(crate) fn into_rows(self) -> impl Iterator<Item = Row> {
        self.rows.into_values()
    }

    pub(crate) fn row(&self, address: Ipv4Addr) -> Option<&Row> {
        self.rows.get(&address)
    }

    pub(crate) fn in_pool(&self, address: Ipv4Addr) -> bool {
        self.pool.contains(address)
    }

    /// The row of this client, ended or not.
    pub(crate) fn row_of(&self, client: &ClientKey) -> Option<&Row> {
        self.rows.get(self.by_client.get(client)?)
    }

    /// The address held for this client.
    pub(crate) fn offer_to(&self, client: &ClientKey, now: u64) -> Option<Ipv4Addr> {
        let address = *self.offered_to.get(client)?;
        self.offers.get(&address).filter(|offer| offer.until > now).map(|_| address)
    }

    /// Whether nobody else has the address or is offered it.
    pub(crate) fn is_open_to(&self, client: &ClientKey, address: Ipv4Addr, now: u64) -> bool {
        let had = self.rows.get(&address).is_none_or(|row| {
            let theirs = row.lease.client == *client && row.lease.state != LeaseState::Declined;
            theirs || row.deadline <= now
        });
        let offered = self.offers.get(&address).is_none_or(|offer| offer.client == *client || offer.until <= now);
        had && offered
    }

    /// A pool address for a client that has none: one that nobody ever had, else the one that has been unused for longest.
    pub(crate) fn pick(&mut self, client: &ClientKey, now: u64) -> Option<Ipv4Addr> {
        self.end_offers(now);
        self.pool.pick(&client.bytes()).or_else(|| {
            let (key, address) = *self.reuse.first()?;
            (key <= now).then_some(address)
        })
    }

    /// Holds an address for a client. At most a quarter of the pool is held for clients without a lease: a flood of DISCOVERs
    /// then only shortens offers, the oldest first, and cannot exhaust the pool. `asked`: the network is asked about it first.
    pub(crate) fn hold(&mut self, client: &ClientKey, address: Ipv4Addr, now: u64, asked: bool) {
        self.drop_offer(client);
        if let Some(other) = self.offers.get(&address).map(|offer| offer.client.clone()) {
            self.drop_offer(&other);
        }
        let bound = (self.pool.size() / 4).max(OFFERS_AT_LEAST) as usize;
        while self.offer_ends.len() >= bound {
            let Some((_, oldest)) = self.offer_ends.first().copied() else { break };
            self.forget_offer(oldest);
        }
        let until = now + OFFER_HOLD;
        self.offers.insert(address, Offer { client: client.clone(), until, asked });
        self.offered_to.insert(client.clone(), address);
        self.offer_ends.insert((until, address));
        self.pool.take(address);
        self.list_for_reuse(address);
    }

    /// Whether the network is being asked about an address that is held.
    pub(crate) fn is_asked_about(&self, address: Ipv4Addr) -> bool {
        self.offers.get(&address).is_some_and(|offer| offer.asked)
    }

    /// Nobody answered.
    pub(crate) fn not_in_use(&mut self, address: Ipv4Addr) {
        if let Some(offer) = self.offers.get_mut(&address) {
            offer.asked = false;
        }
    }

    /// Ends the offer to a client: it chose another server, or it has the address now.
    pub(crate) fn drop_offer(&mut self, client: &ClientKey) {
        if let Some(&address) = self.offered_to.get(client) {
            self.forget_offer(address);
        }
    }

    /// Takes a lease into the table. Returns the row that the client had before, if that was another address.
    pub(crate) fn put(&mut self, lease: Lease, now: u64, deadline: u64, durable: Option<u64>) -> Option<Row> {
        let address = lease.address;
        self.drop_offer(&lease.client);
        let old = self.rows.remove(&address);
        if let Some(old) = &old {
            self.reuse.remove(&(old.reuse_key, address));
            self.declined.remove(&(old.deadline, address));
            if self.by_client.get(&old.lease.client) == Some(&address) {
                self.by_client.remove(&old.lease.client);
            }
        }
        // An end that is on disk stays there while the new one is being written, unless it was somebody else's.
        let kept = old.filter(|old| old.lease.client == lease.client && old.lease.state == lease.state);
        let durable = durable.or(kept.and_then(|old| old.durable));
        if lease.state == LeaseState::Declined {
            self.declined.insert((deadline, address));
        }
        let before = match lease.state {
            LeaseState::Declined => None,
            // Leases of one second come back in any order; what the client gave up takes nothing from what it has.
            LeaseState::Released if self.has_bound(&lease.client) => None,
            _ => self.by_client.insert(lease.client.clone(), address).filter(|before| *before != address),
        };
        self.rows.insert(address, Row { lease, written: now, deadline, durable, reuse_key: 0 });
        self.pool.take(address);
        self.list_for_reuse(address);
        before.and_then(|before| self.rows.get(&before)).cloned()
    }

    /// Ends a row now, keeping its client's claim for as long as nobody needs the address.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: u64, wall: u64) -> Option<Lease> {
        let row = self.rows.get_mut(&address)?;
        row.lease.state = LeaseState::Released;
        (row.lease.written, row.lease.expires) = (wall, wall);
        (row.written, row.deadline, row.durable) = (now, now, None);
        let lease = row.lease.clone();
        self.list_for_reuse(address);
        Some(lease)
    }

    /// This lease is on disk.
    pub(crate) fn saved(&mut self, lease: &Lease) {
        let row = self.rows.get_mut(&lease.address);
        if let Some(row) = row.filter(|row| row.lease.client == lease.client && row.lease.expires == lease.expires) {
            row.durable = Some(row.deadline);
        }
    }

    /// Puts an address that is held for a client out of use until `deadline`, if that is not promised to anybody and as many
    /// may be out of use. `now` is monotonic milliseconds and wall clock seconds.
    pub(crate) fn conflict(&mut self, address: Ipv4Addr, deadline: u64, (now, wall): (u64, u64)) {
        let Some(client) = self.offers.get(&address).map(|offer| offer.client.clone()) else { return };
        self.drop_offer(&client);
        if !self.may_decline(now) || self.rows.get(&address).is_some_and(|row| row.deadline > now) {
            return;
        }
        let mac = if let ClientKey::Mac(mac) = client { Some(mac) } else { None };
        let expires = wall + deadline.saturating_sub(now) / 1000;
        let state = LeaseState::Declined;
        self.put(Lease { address, client, mac, host_name: None, state, written: wall, expires }, now, deadline, None);
    }

    /// Moves the wall clock times of all rows to what they are by the clock of today.
    pub(crate) fn restate(&mut self, now: u64, wall: u64) {
        for row in self.rows.values_mut() {
            row.lease.written = wall.saturating_sub(now.saturating_sub(row.written) / 1000);
            row.lease.expires = match row.deadline.checked_sub(now) {
                Some(left) => wall + left / 1000,
                None => wall.saturating_sub((now - row.deadline) / 1000),
            };
        }
    }

    /// Whether one more address may be put out of use by a DECLINE. Unbounded, a guest could decline the pool away.
    pub(crate) fn may_decline(&mut self, now: u64) -> bool {
        self.declined = self.declined.split_off(&(now + 1, Ipv4Addr::UNSPECIFIED));
        self.declined.len() < (self.pool.size() / 8).max(1) as usize
    }

    /// Ends a row now and its client's claim with it: the client says that somebody else uses the address.
    pub(crate) fn disown(&mut self, address: Ipv4Addr, now: u64, wall: u64) -> Option<Lease> {
        let lease = self.release(address, now, wall)?;
        self.by_client.remove(&lease.client);
        Some(lease)
    }

    fn has_bound(&self, client: &ClientKey) -> bool {
        self.row_of(client).is_some_and(|row| row.lease.state == LeaseState::Bound)
    }

    fn end_offers(&mut self, now: u64) {
        while let Some(&(until, address)) = self.offer_ends.first()
            && until <= now
        {
            self.forget_offer(address);
        }
    }

    fn forget_offer(&mut self, address: Ipv4Addr) {
        let Some(offer) = self.offers.remove(&address) else { return };
        self.offer_ends.remove(&(offer.until, address));
        self.offered_to.remove(&offer.client);
        match self.rows.contains_key(&address) {
            true => self.list_for_reuse(address),
            false => self.pool.free(address),
        }
    }

    /// Lists a pool row under the time from which somebody else may have it.
    fn list_for_reuse(&mut self, address: Ipv4Addr) {
        let offered = self.offers.get(&address).map_or(0, |offer| offer.until);
        let pool = self.pool.contains(address);
        if let Some(row) = self.rows.get_mut(&address) {
            self.reuse.remove(&(row.reuse_key, address));
            row.reuse_key = row.deadline.max(offered);
            if pool {
                self.reuse.insert((row.reuse_key, address));
            }
        }
    }
}
