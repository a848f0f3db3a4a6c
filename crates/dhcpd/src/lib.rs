//! `rookery-dhcpd`: the sockets, files and loops around `dhcp-engine`.
//!
//! Promises: an ACK that was sent is a lease on disk; a full queue drops the oldest request, and nothing is answered later than a
//! client waits; after a failed write known leases are kept and nothing new is promised. No decision about a client is made here:
//! that is the engine's, and `explain` shows it without a network.
//!
//! It writes `leases/` and `events/dhcpd/` in the state directory and nothing else, and answers nobody whose interface has no
//! `[[subnet]]`.

mod cli;
mod commit;
mod explain;
mod frame;
mod inbox;
mod leases;
mod link;
mod pcap;
mod policy;
mod port;
mod probe;
mod serve;
mod store;
mod telling;

pub use cli::{Cli, run};
pub use explain::explain;
pub use pcap::{InvalidCapture, Packet, packets};
pub use policy::{ServableRoles, engine_policy};
pub use port::{Hearing, Port};
pub use probe::Prober;
pub use serve::{Site, serve};
pub use store::{LeaseStore, StoreError};
