//! `rookery-nar-cache`: menus, loaders, kernels, initrds, generations and the packs of their closures by HTTP, and the
//! clients' reports of themselves.
//!
//! The promise: only regular files beneath the state directory that the table of served names knows leave this machine; a body
//! is whole or the connection is cut, never padded or silently short; a stranger can make the service hold, send and log
//! only a bounded amount; a response keeps the file it opened, whatever is published or removed meanwhile.
//!
//! What is large goes by sendfile(2) and to a few clients at a time, in the order in which they came; what is small never waits.
//! Packs and bundles that wait have half of the connections at most, and an agent one; whoever else asks for them is told to come
//! again (503 with Retry-After). Kernels and initrds wait in any case, for boot loaders take a 503 for the end.
//!
//! HTTP/1.0 and 1.1 with a `Content-Length` always, written with capitals: GRUB under UEFI HTTP boot takes a file for empty whose
//! headers are in lower case (rhboot/grub2 PR 216). Deliberately not here: chunked coding, compression on the way (packs are
//! compressed already, and Nix resumes only what has no `Content-Encoding`), redirects, TLS, uploads, directory
//! listings, and knowing what lies where in the state directory (`generations`).

mod blob;
mod body;
mod check;
mod delivery;
mod desk;
mod explain;
mod leases;
mod line;
mod machines;
mod name;
mod neighbours;
mod program;
mod publication;
mod rate;
mod refusal;
mod reply;
mod report;
mod selection;
mod server;
mod shelf;
mod span;
mod turns;
mod wire;

pub use desk::{Counts, Desk};
pub use machines::Machines;
pub use program::Program;
pub use publication::Publication;
pub use server::{Bounds, serve};
