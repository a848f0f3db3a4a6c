//! The readiness protocol of systemd (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names.
//!
//! Some 30 lines instead of a crate. Where no such socket is named (a service run by hand), each call does nothing.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says that every socket is bound and requests are being answered.
pub fn ready(status: &str) -> io::Result<()> {
    send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")))
}

/// Says that no more requests are taken and those under way are being finished.
pub fn stopping() -> io::Result<()> {
    send("STOPPING=1")
}

/// Says that the service lives.
pub fn watchdog() -> io::Result<()> {
    send("WATCHDOG=1")
}

/// How long the service may be silent before systemd ends it, if it watches this process at all (sd_watchdog_enabled(3)).
pub fn watchdog_interval() -> Option<Duration> {
    let watched: u32 = env::var("WATCHDOG_PID").ok()?.parse().ok()?;
    let microseconds: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (watched == std::process::id() && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

fn send(message: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}
