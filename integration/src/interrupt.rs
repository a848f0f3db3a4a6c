//! SIGINT, SIGTERM and SIGHUP end the lab the way an error does: every wait returns [`Error::Interrupted`], so that each
//! destructor runs and nothing of the lab stays behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Call first in `main`: the signals are blocked in this thread and in all that it starts (not in programs: the standard
/// library gives those an empty mask), and one thread waits for them. The second signal ends the process at once; its
/// children then die with it, see [`crate::namespace::Namespace::command`].
pub fn arm() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(Error::errno("blocking SIGINT, SIGTERM and SIGHUP"))?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if REQUESTED.swap(true, Ordering::SeqCst) {
                std::process::abort();
            }
            eprintln!("\nlab: cleaning up; once more to leave at once");
        }
    });
    Ok(())
}

/// Fails once a signal has come. Every wait of the lab calls it at least each [`INTERVAL`].
pub fn check() -> Result<()> {
    if REQUESTED.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}

/// The longest that a wait may go without looking.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);
