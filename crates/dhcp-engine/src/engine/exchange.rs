use std::net::Ipv4Addr;

use boot_model::{Circuit, HostName};
use dhcproto::v4::OptionCode;

use super::{Engine, Ingress, Now};
use crate::boot::BootVerdict;
use crate::client::ClientInfo;
use crate::lease::{ClientKey, Lease, LeaseState};
use crate::outcome::{Decision, Effect, IgnoreReason, Verdict};
use crate::policy::Host;
use crate::table::Table;
use crate::wire::Request;

/// One message on its way through the engine, with all that was worked out about it.
pub(super) struct Exchange<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) from: Ingress<'a>,
    pub(super) client: ClientInfo,
    pub(super) key: ClientKey,
    /// Index of the subnet.
    pub(super) place: usize,
    /// Our identifier towards this client, option 54.
    pub(super) server: Ipv4Addr,
    /// Monotonic milliseconds.
    pub(super) ms: u64,
    /// Wall clock seconds.
    pub(super) wall: u64,
}

/// The relay wants this address as server identifier, so that renewals pass it (RFC 5107).
const SERVER_ID_OVERRIDE: u8 = 11;

impl<'a> Exchange<'a> {
    pub(super) fn new(
        engine: &Engine,
        place: usize,
        request: &'a Request<'a>,
        from: Ingress<'a>,
        client: ClientInfo,
        key: ClientKey,
        now: Now,
    ) -> Self {
        let server = request.relay_address(SERVER_ID_OVERRIDE).unwrap_or(engine.policy.subnets[place].server);
        Self { request, from, client, key, place, server, ms: engine.clock.ms(now), wall: engine.clock.wall(now) }
    }

    /// Refuses a message that names another server. One that names none passes: old clients release without option 54.
    pub(super) fn check_server_identifier(&self, engine: &Engine) -> Result<(), IgnoreReason> {
        let named = self.request.options.address(OptionCode::ServerIdentifier);
        let ours = |id| id == self.server || engine.policy.subnets.iter().any(|subnet| subnet.server == id);
        if named.is_none_or(ours) { Ok(()) } else { Err(IgnoreReason::OtherServer) }
    }

    /// Whether the address is this client's by a lease that holds or has run out, not one given back or declined.
    pub(super) fn has_bound(&self, table: &Table, address: Ipv4Addr) -> bool {
        let bound = |lease: &Lease| lease.client == self.key && lease.state == LeaseState::Bound;
        table.row(address).is_some_and(|row| bound(&row.lease))
    }

    /// What the configuration says of this client.
    pub(super) fn host<'e>(&self, engine: &'e Engine) -> Option<&'e Host> {
        engine.policy.subnets[self.place].hosts.get(&self.client.mac?)
    }

    pub(super) fn reserved(&self, engine: &Engine) -> Option<Ipv4Addr> {
        self.host(engine)?.address
    }

    /// The configured name, else the client's own where it is one. Old clients end it with a NUL (dnsmasq `borken_opt`).
    pub(super) fn name(&self, engine: &Engine) -> Option<HostName> {
        let configured = self.host(engine).and_then(|host| host.name.clone());
        configured.or_else(|| {
            let sent = std::str::from_utf8(self.request.options.raw(OptionCode::Hostname)?).ok()?;
            sent.trim_end_matches('\0').to_ascii_lowercase().parse().ok()
        })
    }

    /// A lease of this client from now on.
    pub(super) fn lease(&self, address: Ipv4Addr, seconds: u64, host_name: Option<HostName>) -> Lease {
        Lease {
            address,
            client: self.key.clone(),
            mac: self.client.mac,
            host_name,
            state: LeaseState::Bound,
            written: self.wall,
            expires: self.wall + seconds,
        }
    }

    /// A decision that sends nothing.
    pub(super) fn saving(&self, engine: &Engine, verdict: Verdict, lease: Lease) -> Decision {
        let address = lease.address;
        self.decision(engine, verdict, Some(address), BootVerdict::NotAsked, vec![Effect::SaveLease(lease)])
    }

    pub(super) fn decision(
        &self,
        engine: &Engine,
        verdict: Verdict,
        address: Option<Ipv4Addr>,
        boot: BootVerdict,
        effects: Vec<Effect>,
    ) -> Decision {
        let host_name = self.host(engine).and_then(|host| host.name.clone());
        let circuit = self.request.circuit().and_then(Circuit::new);
        Decision { verdict, mac: self.client.mac, address, host_name, circuit, boot, effects }
    }
}
