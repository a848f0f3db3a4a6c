//! SIGINT, SIGTERM and SIGHUP end the lab the way an error does: every wait returns [`Error::Interrupted`], so that each
//! destructor runs and nothing of the lab stays behind.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Call once, first in `main`. The second signal ends the process at once; its children then die with it, see
/// [`crate::namespace::Namespace::command`].
///
/// Handlers, not a blocked mask and a thread that waits: programs inherit a mask (std since 1.66), and services that the lab
/// starts would be deaf to its SIGTERM.
pub fn arm() -> Result<()> {
    let flags = SaFlags::SA_RESETHAND | SaFlags::SA_RESTART;
    let action = SigAction::new(SigHandler::Handler(request), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: `request` does nothing but store to an atomic, which is async-signal-safe (signal-safety(7)).
        #[allow(unsafe_code)]
        unsafe { sigaction(signal, &action) }.map_err(Error::errno(format!("handling {signal}")))?;
    }
    Ok(())
}

extern "C" fn request(_signal: libc::c_int) {
    REQUESTED.store(true, Ordering::SeqCst);
}

/// Fails once a signal has come. Every wait of the lab calls it at least each [`INTERVAL`].
pub fn check() -> Result<()> {
    if REQUESTED.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}

/// The longest that a wait may go without looking.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);
