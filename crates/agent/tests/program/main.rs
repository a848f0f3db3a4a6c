//! The program as stage 1 runs it: against a real Nix, a real mkfs and a small server.

mod disk;
mod fetch;
mod server;
mod support;
