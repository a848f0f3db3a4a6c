use std::io::{ErrorKind, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::Lab;
use crate::process::read_into;
use crate::{Error, Result};

/// A PC's third serial line, `ttyS2`. No firmware here takes it for its console: what comes out, a loader or a system put there
/// itself, and what is typed there only they can read.
#[derive(Debug)]
pub(super) struct SerialLine {
    writer: UnixStream,
    /// Ends with the emulator, which is dropped before.
    reader: Option<JoinHandle<()>>,
}

/// The lab's end of the line, before there is a machine to plug it in.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// How long QEMU may take to connect.
const CONNECTED: Duration = Duration::from_secs(60);

impl Socket {
    pub(super) fn bind(path: PathBuf) -> Result<Self> {
        let bound = UnixListener::bind(&path).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        let listener = bound.map_err(Error::io(format!("listening on {}", path.display())))?;
        Ok(Self { listener, path })
    }

    /// QEMU's words for it. The address and the interrupt are what PCs have there.
    pub(super) fn arguments(&self) -> [String; 4] {
        [
            "-chardev".to_owned(),
            format!("socket,id=l2,path={}", self.path.display()),
            "-device".to_owned(),
            "isa-serial,chardev=l2,index=2,iobase=0x3e8,irq=4".to_owned(),
        ]
    }

    /// Waits for the emulator; from then on what comes goes to the log under `name`.
    pub(super) fn plug(self, lab: &Lab, name: &str) -> Result<SerialLine> {
        let doing = |path: &Path| format!("connecting {}", path.display());
        let stream = lab.poll("the emulator at its serial line", CONNECTED, || match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Error::io(doing(&self.path))(error)),
        })?;
        stream.set_nonblocking(false).map_err(Error::io(doing(&self.path)))?;
        let writer = stream.try_clone().map_err(Error::io(doing(&self.path)))?;
        lab.log().note_start(name);
        let reader = Some(read_into(lab.log().clone(), name.to_owned(), stream, true));
        Ok(SerialLine { writer, reader })
    }
}

impl SerialLine {
    pub(super) fn type_text(&mut self, text: &str) -> Result<()> {
        self.writer.write_all(text.as_bytes()).map_err(Error::io("writing to a serial line"))
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
