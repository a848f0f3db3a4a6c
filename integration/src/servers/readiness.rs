use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::{Error, Result, interrupt};

/// The other end of a service's `NOTIFY_SOCKET` (sd_notify(3)): what systemd is to it elsewhere.
pub(super) struct Readiness {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Readiness {
    pub(super) fn listen(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(format!("{name}.notify"));
        // An earlier run of the service has left it.
        let _ = std::fs::remove_file(&path);
        let doing = || format!("listening on {}", path.display());
        let socket = UnixDatagram::bind(&path).map_err(Error::io(doing()))?;
        socket.set_read_timeout(Some(interrupt::INTERVAL)).map_err(Error::io(doing()))?;
        Ok(Self { socket, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when the service has said `READY=1`. What it says later is read by nobody.
    pub(super) fn wait(self, process: &mut Process, name: &str, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let what = || "its readiness".to_owned();
        let mut message = [0; 4096];
        loop {
            match self.socket.recv(&mut message) {
                Ok(count) if message[..count].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(Error::io(format!("waiting for {name}"))(error)),
            }
            interrupt::check()?;
            if process.exited()?.is_some() {
                return Err(Error::Ended { what: what(), origin: name.to_owned() });
            }
            if Instant::now() >= deadline {
                return Err(Error::Deadline { what: what(), origin: name.to_owned(), seconds: within.as_secs_f64() });
            }
        }
    }
}
