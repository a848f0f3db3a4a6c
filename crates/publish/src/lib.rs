//! The writer of the published state: a NixOS system becomes a generation that a room can boot.
//!
//! The promise: whatever is visible is complete. Each path of the closure is packed and signed in `cache/`, the kernels and
//! initrds are copied, and only then the generation's name appears, by one rename. Killed at any moment, readers see the last
//! good state, and the next run carries on ([`Event::Persisted`] marks each of those moments, for the test that kills it there).
//!
//! Afterwards, and at nobody's cost who boots it, come the update bundles from the generations before ([`Bundler`]). What no published
//! generation needs is collected ([`Collector`]), never sooner than clients have had time to fetch it.
//!
//! What it deliberately does not do: serve anything, build anything, write into the Nix store or its database. It needs no
//! Nix unless the store's database can't be opened. Only the admin's command line links it.

mod bundle;
mod cache;
mod commit;
mod durable;
mod follow;
mod frames;
mod gc;
mod lock;
mod pack;
mod parallel;
mod profile;
mod publisher;
mod removed;
mod role;
mod secrets;
mod source;
mod stage;
mod store;
mod system;
mod verify;
mod walk;

// Shared with the integration tests: a store that stock Nix made.
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use bundle::{Bundle, Bundler, BundlingError};
pub use durable::{WriteError, make_directories, write_file};
pub use follow::{Follower, Pass, Wake};
pub use gc::{CollectError, Collected, Collection, Collector, Tally};
pub use lock::LockError;
pub use pack::{DEFAULT_LEVEL, PackError};
pub use publisher::{Event, Outcome, PublishError, Publisher, Request};
pub use role::{RoleError, Roles, default_of, published_ids, read_generation, roles};
pub use source::{Source, SourceError};
pub use store::{Store, StoreError};
pub use system::SystemError;
pub use verify::{Finding, all_generations, verify};
