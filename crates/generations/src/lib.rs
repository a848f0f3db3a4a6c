//! The state directory of a boot server, for those who read it.
//!
//! All services meet in one directory (docs/generations.md). This crate is the only one that knows a file name in it
//! ([`Layout`]); it reads what is published ([`scan`]), follows it ([`watch`]) and says which file a served name stands for
//! ([`ServedNames`]). It starts no service and writes nothing.
//!
//! Events of the file system are hints: each one leads to the same full scan, whose result replaces an immutable [`Snapshot`].

mod cache_index;
mod layout;
mod removed;
mod scan;
mod served;
mod watch;

pub use cache_index::CacheIndex;
pub use layout::Layout;
pub use removed::Removed;
pub use scan::{Problem, Published, Role, Snapshot, scan};
pub use served::{NotServed, Served, ServedNames};
pub use watch::{Watch, watch};
