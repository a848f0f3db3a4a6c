//! The program as stage 1 runs it: against a real Nix, a real mkfs and a small server.

#![allow(clippy::unwrap_used, reason = "in a test, a helper that fails is a test that fails")]

mod client;
mod disk;
mod eviction;
mod fetch;
mod killed;
mod receipts;
mod report;
mod room;
mod server;
mod support;
mod transfer;
mod tree;
mod update;
