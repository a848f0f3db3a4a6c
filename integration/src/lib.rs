//! The lab: real firmware and real servers in network namespaces, and what is asked of them.
//!
//! A [`Lab`] is one namespace with a bridge, one scratch directory and one merged log on one monotonic clock. Everything
//! started in it (servers, virtual machines, relays) ends with it, also after a failure, a panic or a signal.
//!
//! What this crate does not do: it serves nothing to a client itself. Whatever a client receives comes from the real
//! service binaries (or, in the lab's own control test, from dnsmasq); the lab only starts, watches, disturbs and judges.
#![allow(clippy::print_stdout, reason = "the lab is a command line tool: its reports go to standard output")]

pub mod bench;
pub mod client;
pub mod console;
pub mod demo;
pub mod dice;
mod error;
pub mod interrupt;
mod lab;
pub mod log;
mod mounts;
pub mod namespace;
pub mod nbd;
pub mod process;
pub mod relay;
pub mod room;
pub mod servers;
pub mod soak;
pub mod suite;
pub mod system;
pub mod timeline;
pub mod units;
mod workspace;

pub use error::{Error, Result};
pub use lab::Lab;
pub use workspace::Workspace;
