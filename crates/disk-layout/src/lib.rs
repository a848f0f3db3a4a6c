//! Decides what to do with a client's disk.
//!
//! Promise: a disk that is neither provably ours nor provably blank, or has a partition on it that is not provably ours, is never given a
//! step that writes, unless the site's policy *and* a one-shot [`boot_model::EraseConsent`] for this disk say so, and none is honoured
//! twice. And whatever moment power goes at while the steps are being carried out, the disk that is left is recognised as ours and
//! half-written, so the next boot starts over without asking.
//!
//! [`wanted`] says which bytes to read, [`choose()`] picks the disk, [`plan()`] gives the verdict and [`steps()`] the way there. The crate
//! opens no file, asks no clock and draws no random number: what was read comes in as [`DiskFacts`], what is to be written goes out
//! as [`Step`]s. It does not grow partitions, and it knows nothing of LUKS beyond recognising it as somebody's data.

mod choose;
mod consent;
mod document;
mod facts;
pub mod gpt;
mod layout;
pub mod mbr;
mod meta;
mod ownership;
mod plan;
mod probe;
mod reason;
mod spec;
mod steps;

pub use choose::{Choice, choose};
pub use consent::objection;
pub use document::SpecError;
pub use facts::{Contents, DiskFacts, Transport, wanted};
pub use layout::{Layout, PlacedPartition};
pub use meta::MetaRecord;
pub use plan::{Verdict, plan};
pub use probe::{Kind, Signature, Window};
pub use reason::{Mismatch, Reason};
pub use spec::{
    DiskRule, DiskSelector, FileSystem, LayoutSpec, OnRefuse, PartitionSpec, Persist, Policy, SizeRange, SpecId,
};
pub use steps::{Step, steps};

/// One mebibyte: partitions start and end at its multiples, and blankness is judged by the first and last one of a disk.
pub const MIB: u64 = 1 << 20;
