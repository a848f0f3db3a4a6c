//! A DHCPv4 server's decisions for rooms that boot from the network: one message in, ordered effects out.
//!
//! Promises, each held by a test: no input panics; every table is bounded; a lease is saved before it is promised; the same
//! messages at the same times have the same answers; every decision carries its reason.
//!
//! There is deliberately no socket, file, clock, thread or randomness here, no configuration format, and no database: the shell
//! (`rookery-dhcpd`) brings datagrams and the time, and carries out the effects. Not implemented: lease query (RFC 4388),
//! force renew (RFC 3203), boot menus of PXE (43.8 to 43.10) and DNS updates.

mod boot;
mod class;
mod client;
mod engine;
mod guard;
pub mod journal;
mod lease;
mod outcome;
mod policy;
mod pool;
mod table;
mod wire;

pub use boot::{BootVerdict, NoBootFile};
pub use class::{Class, ClassBoot};
pub use client::{ClientClass, ClientInfo};
pub use engine::{Engine, Ingress, Now, ServerPort};
pub use lease::{ClientKey, Lease, LeaseState};
pub use outcome::{
    AckReason, Choice, Decision, Destination, Effect, IgnoreReason, NakReason, Outcome, ProbeBy, Verdict, message_name,
};
pub use policy::{
    AddressRange, BootPolicy, Host, Identity, InvalidNetwork, Ipv4Network, Mode, Policy, Route, Subnet, SubnetOptions,
    UnknownHosts,
};
pub use wire::{MalformedRequest, Options, Reply, Request, TooLarge};
