//! Disks as clients have them, disks cut in the middle of our own writes, and disks full of nonsense.

mod consents;
mod cuts;
mod docs;
mod properties;
mod simulator;
mod strangers;
mod verdicts;
