use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use boot_model::{HostName, MacAddr, Timestamp};
use dhcp_engine::Lease;
use generations::Layout;
use serde::Serialize;
use service::Failure;

use crate::store::{self, Loaded};

/// One lease, for `leases --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    address: Ipv4Addr,
    mac: Option<MacAddr>,
    client: String,
    host_name: Option<HostName>,
    /// bound, ended, released or declined.
    state: String,
    written: Timestamp,
    expires: Timestamp,
}

/// The newest state of every address, as text: JSON or a table. `now` is wall clock seconds.
///
/// It only reads, so it may run beside the server.
pub(crate) fn list(layout: &Layout, json: bool, now: u64) -> Result<String, Failure> {
    let loaded = load(layout)?;
    if let Some(damage) = &loaded.damage {
        eprintln!("rookery-dhcpd: {damage}");
    }
    let newest: BTreeMap<Ipv4Addr, Lease> = loaded.leases.into_iter().map(|lease| (lease.address, lease)).collect();
    let rows: Vec<Row> = newest.into_values().map(|lease| row(lease, now)).collect();
    if json {
        return Ok(serde_json::to_string_pretty(&rows)? + "\n");
    }
    let mut text = format!("{:<15} {:<17} {:<9} {:<24} {}\n", "ADDRESS", "MAC", "STATE", "EXPIRES", "HOST");
    for row in rows {
        let mac = row.mac.map_or(row.client, |mac| mac.to_string());
        let host = row.host_name.map_or_else(|| "-".to_owned(), |name| name.to_string());
        text += &format!("{:<15} {mac:<17} {:<9} {:<24} {host}\n", row.address, row.state, row.expires.to_string());
    }
    Ok(text)
}

/// What the lease files hold.
pub(crate) fn load(layout: &Layout) -> Result<Loaded, Failure> {
    store::load(layout).map_err(|(path, error)| Failure::runtime(format!("cannot read {}: {error}", path.display())))
}

fn row(lease: Lease, now: u64) -> Row {
    let ended = lease.state == dhcp_engine::LeaseState::Bound && !lease.is_active(now);
    Row {
        address: lease.address,
        mac: lease.mac,
        client: lease.client.to_string(),
        host_name: lease.host_name,
        state: if ended { "ended".to_owned() } else { lease.state.to_string() },
        written: Timestamp::from_unix_millis(lease.written.saturating_mul(1000)),
        expires: Timestamp::from_unix_millis(lease.expires.saturating_mul(1000)),
    }
}
