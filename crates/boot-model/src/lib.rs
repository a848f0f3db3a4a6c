//! The words that every part of Rookery shares: names, addresses, generations and what a client says of itself.
//!
//! Each type is parsed once, at the edge, and cannot hold a value that would be wrong further in: a [`RoleName`] is safe in
//! a path, a URL and a menu; a [`KernelParameter`] is safe on a kernel command line. There is no I/O here and no clock.

mod circuit;
mod command_line;
mod consent;
mod digest;
mod generation_id;
mod label;
mod mac;
mod name;
mod platform;
mod store_path;
mod text;
mod timestamp;

pub mod event;
pub mod generation;
pub mod intent;
pub mod report;
pub mod turn;

pub use circuit::{Circuit, InvalidCircuit};
pub use command_line::{CommandLine, InvalidParameter, KernelParameter, TooLong};
pub use consent::{DiskSerial, EraseConsent, InvalidConsent, Nonce};
pub use digest::{InvalidDigest, Sha256Digest};
pub use generation_id::{GenerationId, GenerationRef, InvalidGenerationId};
pub use label::{InvalidLabel, Label};
pub use mac::{InvalidMac, MacAddr};
pub use name::{HostName, InvalidName, RoleName, SpecialisationName};
pub use platform::{Architecture, Firmware};
pub use store_path::{InvalidStorePath, STORE_DIR, StoreHash, StorePath};
pub use timestamp::{InvalidTimestamp, Timestamp};
