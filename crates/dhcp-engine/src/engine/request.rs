//! DISCOVER and REQUEST: RFC 2131 §4.3.1 and §4.3.2.

use std::net::Ipv4Addr;

use dhcproto::v4::OptionCode;

use super::exchange::Exchange;
use super::{Engine, is_broadcast};
use crate::lease::LeaseState;
use crate::outcome::{AckReason, Choice, Decision, Effect, IgnoreReason, NakReason, ProbeBy};
use crate::table::Row;

impl Engine {
    pub(super) fn discover(&mut self, exchange: &Exchange<'_>) -> Result<Decision, IgnoreReason> {
        let (address, choice) = self.choose(exchange).ok_or(IgnoreReason::PoolEmpty)?;
        // A copy of a DISCOVER, by a second relay or a switch, must not overtake the question.
        if choice == Choice::Held && self.tables[exchange.place].is_asked_about(address) {
            return Err(IgnoreReason::Probing);
        }
        let row = self.tables[exchange.place].row(address).filter(|row| row.lease.client == exchange.key);
        if self.store_failing && row.is_none_or(|row| row.durable.is_none()) {
            return Err(IgnoreReason::StoreFailing);
        }
        // What is reserved or promised already needs no hold.
        let promised = row.is_some_and(|row| row.lease.state == LeaseState::Bound && row.deadline > exchange.ms);
        let sure = promised || matches!(choice, Choice::Reserved | Choice::Held);
        let probe = !sure && self.may_probe(exchange);
        if self.policy.subnets[exchange.place].options.rapid_commit
            && exchange.request.options.raw(OptionCode::RapidCommit).is_some()
            && !probe
        {
            return self.grant(exchange, address, AckReason::RapidCommit);
        }
        let mut decision = exchange.answer_offer(self, address, choice)?;
        if choice != Choice::Reserved && !promised {
            self.tables[exchange.place].hold(&exchange.key, address, exchange.ms, probe);
        }
        if probe {
            let by = if exchange.request.is_relayed() { ProbeBy::Echo } else { ProbeBy::Arp };
            decision.effects.insert(0, Effect::Probe { address, by });
        }
        Ok(decision)
    }

    /// Whether the network is asked about an address now. Not in a storm of requests, and not once so many addresses are out of
    /// use that no more may be put there: a guest that answers for every address would gain by the question alone.
    fn may_probe(&mut self, exchange: &Exchange<'_>) -> bool {
        self.policy.probe && self.tables[exchange.place].may_decline(exchange.ms) && self.probes.admit(&[], exchange.ms)
    }

    pub(super) fn request(&mut self, exchange: &Exchange<'_>) -> Result<Decision, IgnoreReason> {
        let options = &exchange.request.options;
        let wished = options.address(OptionCode::RequestedIpAddress);
        if options.address(OptionCode::ServerIdentifier).is_some() {
            return self.selecting(exchange, wished);
        }
        let ciaddr = exchange.request.ciaddr;
        if !ciaddr.is_unspecified() {
            let broadcast = is_broadcast(exchange.from.destination);
            let reason = if broadcast { AckReason::Rebinding } else { AckReason::Renewing };
            return self.extend(exchange, ciaddr, reason);
        }
        self.extend(exchange, wished.ok_or(IgnoreReason::NoAddress)?, AckReason::InitReboot)
    }

    fn selecting(&mut self, exchange: &Exchange<'_>, wished: Option<Ipv4Addr>) -> Result<Decision, IgnoreReason> {
        if let Err(reason) = exchange.check_server_identifier(self) {
            self.tables[exchange.place].drop_offer(&exchange.key);
            return Err(reason);
        }
        let address = wished.ok_or(IgnoreReason::NoAddress)?;
        match self.may_have(exchange, address) {
            Ok(()) => self.grant(exchange, address, AckReason::Selecting),
            Err(reason) => exchange.answer_nak(self, address, reason),
        }
    }

    /// INIT-REBOOT, RENEWING, REBINDING: a client that has an address, or believes so.
    fn extend(
        &mut self,
        exchange: &Exchange<'_>,
        address: Ipv4Addr,
        state: AckReason,
    ) -> Result<Decision, IgnoreReason> {
        let subnet = &self.policy.subnets[exchange.place];
        if !subnet.network.contains(address) {
            return exchange.answer_nak(self, address, NakReason::WrongNetwork);
        }
        let table = &self.tables[exchange.place];
        let own = table.row_of(&exchange.key).map(|row| row.lease.address);
        let refusal = match own {
            _ if exchange.reserved(self) == Some(address) => None,
            Some(own) if own == address => None,
            Some(_) => Some(NakReason::OtherAddress),
            None if !table.is_open_to(&exchange.key, address, exchange.ms) => Some(NakReason::Taken),
            None if subnet.authoritative => Some(NakReason::Unknown),
            None => return Err(IgnoreReason::UnknownLease),
        };
        match refusal.map_or_else(|| self.may_have(exchange, address), Err) {
            Ok(()) => self.grant(exchange, address, state),
            Err(reason) => exchange.answer_nak(self, address, reason),
        }
    }

    /// The address to offer: reserved, else held, else the client's last, else the one it asks for, else by its hash.
    fn choose(&mut self, exchange: &Exchange<'_>) -> Option<(Ipv4Addr, Choice)> {
        let table = &self.tables[exchange.place];
        let wished = exchange.request.options.address(OptionCode::RequestedIpAddress);
        let candidates = [
            (exchange.reserved(self), Choice::Reserved),
            (table.offer_to(&exchange.key, exchange.ms), Choice::Held),
            (table.row_of(&exchange.key).map(|row| row.lease.address), Choice::Previous),
            (wished, Choice::Requested),
        ];
        for (address, choice) in candidates {
            if let Some(address) = address
                && self.may_have(exchange, address).is_ok()
            {
                return Some((address, choice));
            }
        }
        let address = self.tables[exchange.place].pick(&exchange.key, exchange.ms)?;
        Some((address, Choice::Hashed))
    }

    /// Whether the client may have this address now.
    fn may_have(&self, exchange: &Exchange<'_>, address: Ipv4Addr) -> Result<(), NakReason> {
        let table = &self.tables[exchange.place];
        if !self.policy.subnets[exchange.place].network.contains(address) {
            return Err(NakReason::WrongNetwork);
        }
        let open = |address| table.is_open_to(&exchange.key, address, exchange.ms);
        match exchange.reserved(self) {
            Some(reserved) if reserved == address => {}
            // Its own address waits for it.
            Some(reserved) if open(reserved) => return Err(NakReason::NotForThisClient),
            _ if !table.in_pool(address) => return Err(NakReason::NotForThisClient),
            _ => {}
        }
        if open(address) { Ok(()) } else { Err(NakReason::Taken) }
    }

    /// Promises the address. The lease is saved first, unless what is on disk says enough.
    fn grant(
        &mut self,
        exchange: &Exchange<'_>,
        address: Ipv4Addr,
        state: AckReason,
    ) -> Result<Decision, IgnoreReason> {
        let length = u64::from(self.policy.subnets[exchange.place].lease_seconds);
        let table = &mut self.tables[exchange.place];
        let row =
            table.row(address).filter(|row| row.lease.client == exchange.key && row.lease.state == LeaseState::Bound);
        if let Some(row) = row
            && let Some(durable) = row.durable
        {
            let left = durable.saturating_sub(exchange.ms) / 1000;
            let fresh = durable == row.deadline && left <= length && left * 4 >= length * 3;
            if fresh && left > 0 {
                return exchange.answer_ack(self, address, left, AckReason::StillFresh);
            }
            if self.store_failing && left > 0 {
                return exchange.answer_ack(self, address, left, AckReason::StoreFailing);
            }
        }
        if self.store_failing {
            return Err(IgnoreReason::StoreFailing);
        }
        self.check_move(exchange, address)?;
        let lease = exchange.lease(address, length, exchange.name(self));
        // Before anything changes: a promise that cannot be sent is none.
        let mut decision = exchange.answer_ack(self, address, length, state)?;
        let table = &mut self.tables[exchange.place];
        let before = table.put(lease.clone(), exchange.ms, exchange.ms + length * 1000, None);
        let moved = before.and_then(|before| table.release(before.lease.address, exchange.ms, exchange.wall));
        decision.effects.splice(0..0, moved.into_iter().chain([lease]).map(Effect::SaveLease));
        Ok(decision)
    }

    /// A lease that holds is exchanged for another address only if its client can have asked for that: from the address that it
    /// has or from none, as every client does that starts over. Otherwise a program without privileges, on any machine, could
    /// take a third machine's address away, and then ask for it.
    fn check_move(&self, exchange: &Exchange<'_>, address: Ipv4Addr) -> Result<(), IgnoreReason> {
        let holds = |row: &&Row| {
            row.lease.state == LeaseState::Bound && row.deadline > exchange.ms && row.lease.address != address
        };
        match self.tables[exchange.place].row_of(&exchange.key).filter(holds) {
            Some(row) if !exchange.from.source.ip().is_unspecified() => self.check_sender(exchange, row.lease.address),
            _ => Ok(()),
        }
    }
}
