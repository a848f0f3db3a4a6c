use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Result};

/// QEMU's human monitor. One connection at a time is served; it ends with this value.
pub(super) struct Monitor {
    socket: UnixStream,
}

const PROMPT: &[u8] = b"(qemu) ";

impl Monitor {
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let doing = || format!("talking to QEMU's monitor {}", path.display());
        let socket = UnixStream::connect(path).map_err(Error::io(doing()))?;
        // A screendump of a busy machine takes a second or two.
        socket.set_read_timeout(Some(Duration::from_secs(60))).map_err(Error::io(doing()))?;
        let mut monitor = Self { socket };
        monitor.read_to_prompt()?;
        Ok(monitor)
    }

    /// Gives one command and returns the answer; most have none.
    pub(super) fn command(&mut self, command: &str) -> Result<String> {
        let doing = || format!("giving QEMU's monitor {command:?}");
        self.socket.write_all(format!("{command}\n").as_bytes()).map_err(Error::io(doing()))?;
        let answer = self.read_to_prompt()?;
        // The first line is the echo of what was typed.
        Ok(answer.split_once('\n').map_or("", |(_, answer)| answer).trim().to_owned())
    }

    fn read_to_prompt(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !bytes.ends_with(PROMPT) {
            let count = self.socket.read(&mut buffer).map_err(Error::io("reading from QEMU's monitor"))?;
            if count == 0 {
                return Err(Error::Wrong("QEMU closed its monitor".into()));
            }
            bytes.extend(&buffer[..count]);
        }
        bytes.truncate(bytes.len() - PROMPT.len());
        Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
    }
}
