//! `rookery-tftpd`: the boot loaders, menus, kernels and initrds of the state directory by TFTP.
//!
//! The promise: only regular files beneath the state directory that the table of served names knows leave this machine;
//! a stranger can make the service hold, send and log only a bounded amount; a transfer keeps the file it opened,
//! whatever is published meanwhile.
//!
//! The protocol is in `tftp-engine`; here are the sockets, the files and the loop. Deliberately not here: writing,
//! IPv6, one port for all transfers (a firewall needs the TFTP helper), and knowing what lies where in the state
//! directory (`generations`).

mod admission;
mod ahead;
mod arrived;
mod desk;
mod gaps;
pub mod get;
mod program;
mod server;
mod source;
mod transfer;
mod wire;

pub use desk::{Bounds, Clients, Counts, Desk, Ended, Record, Resolve};
pub use program::Program;
pub use server::serve;
