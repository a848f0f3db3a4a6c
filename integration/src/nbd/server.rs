use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::protocol::{self, Command, EINVAL, EIO, Request};
use super::volatile::Volatile;
use crate::{Error, Result};

/// Serves a disk to one client at a time.
#[derive(Debug)]
pub(super) struct Server {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    current: Arc<Mutex<Option<UnixStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(socket: &Path, disk: Arc<Mutex<Volatile>>) -> Result<Self> {
        let listener = UnixListener::bind(socket).map_err(Error::io(format!("binding {}", socket.display())))?;
        let stop = Arc::new(AtomicBool::new(false));
        let current = Arc::new(Mutex::new(None));
        let thread = {
            let (stop, current) = (Arc::clone(&stop), Arc::clone(&current));
            thread::spawn(move || accept(&listener, &disk, &stop, &current))
        };
        Ok(Self { socket: socket.to_owned(), stop, current, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(stream) = self.current.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes a server that waits for a client.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Only now: by this name it was woken.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn accept(listener: &UnixListener, disk: &Mutex<Volatile>, stop: &AtomicBool, current: &Mutex<Option<UnixStream>>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
        // Looked at after `current` is set: a drop sees the stream, or this sees the drop.
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // A client that leaves without a word was killed: that is what this disk is for.
        let _ = serve(&mut stream, disk);
        *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn serve(stream: &mut UnixStream, disk: &Mutex<Volatile>) -> io::Result<()> {
    let lock = || disk.lock().unwrap_or_else(PoisonError::into_inner);
    let size = lock().size();
    if !protocol::negotiate(stream, size)? {
        return Ok(());
    }
    loop {
        let request = protocol::request(stream)?;
        if request.command == Command::Disconnect {
            return Ok(());
        }
        let answer = perform(&mut lock(), &request);
        let (error, data) = answer.map_or_else(|error| (error, Vec::new()), |data| (0, data));
        protocol::reply(stream, request.handle, error, &data)?;
    }
}

/// Does what was asked; returns what was read.
fn perform(disk: &mut Volatile, request: &Request) -> Result<Vec<u8>, u32> {
    let length = u64::from(request.length);
    if request.offset.checked_add(length).is_none_or(|end| end > disk.size()) {
        return Err(EINVAL);
    }
    let mut data = Vec::new();
    let done = match &request.command {
        Command::Read => {
            data.resize(request.length as usize, 0);
            disk.read(request.offset, &mut data)
        }
        Command::Write(bytes) => disk.write(request.offset, bytes),
        Command::Flush => disk.flush(),
        // A trimmed range may read as anything; zeros are the choice that hurts a careless reader most.
        Command::Trim => disk.trim(request.offset, length),
        Command::Unknown(_) | Command::Disconnect => return Err(EINVAL),
    };
    let done = done.and_then(|()| if request.fua { disk.flush_range(request.offset, length) } else { Ok(()) });
    done.map(|()| data).map_err(|_| EIO)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::Disk;
    use super::*;
    use crate::dice::Dice;

    /// A client that knows just enough: OPT_GO without information requests.
    fn connect(disk: &Disk) -> UnixStream {
        let mut stream = UnixStream::connect(disk.socket()).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        stream.write_all(&3_u32.to_be_bytes()).unwrap();
        stream.write_all(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0").unwrap();
        let mut replies = [0; 20 + 12 + 20];
        stream.read_exact(&mut replies).unwrap();
        stream
    }

    fn ask(stream: &mut UnixStream, flags: u16, command: u16, offset: u64, length: u32, data: &[u8]) -> u32 {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend(flags.to_be_bytes());
        request.extend(command.to_be_bytes());
        request.extend(77_u64.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        stream.write_all(&request).unwrap();
        let mut reply = [0; 16];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply[8..], 77_u64.to_be_bytes());
        u32::from_be_bytes(reply[4..8].try_into().unwrap())
    }

    #[test]
    fn a_flushed_write_survives_a_client_and_a_cut() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(dir.path(), "d", 1 << 20).unwrap();
        let mut stream = connect(&disk);
        assert_eq!(ask(&mut stream, 0, 1, 512, 512, &[5; 512]), 0);
        assert_eq!(ask(&mut stream, 0, 3, 0, 0, &[]), 0);
        assert_eq!(ask(&mut stream, 1, 1, 2048, 512, &[6; 512]), 0, "with FUA");
        assert_eq!(ask(&mut stream, 0, 1, 4096, 512, &[7; 512]), 0);
        drop(stream);
        let before = disk.fingerprint().unwrap();
        assert_eq!(disk.cut(&mut Dice::new(1), 0.0).unwrap(), (0, 1));
        assert_eq!(disk.fingerprint().unwrap(), before);
        let mut stream = connect(&disk);
        assert_eq!(ask(&mut stream, 0, 0, 0, 8192, &[]), 0);
        let mut data = vec![0; 8192];
        stream.read_exact(&mut data).unwrap();
        assert_eq!((data[512], data[2048], data[4096]), (5, 6, 0));
        assert_eq!(disk.counts().flushes, 1);
    }

    #[test]
    fn requests_beyond_the_end_are_refused_and_the_disk_ends_with_a_client_connected() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(dir.path(), "d", 1 << 20).unwrap();
        let mut stream = connect(&disk);
        assert_eq!(ask(&mut stream, 0, 0, u64::MAX, 512, &[]), 22);
        assert_eq!(ask(&mut stream, 0, 1, (1 << 20) - 1, 2, &[0; 2]), 22);
        assert_eq!(ask(&mut stream, 0, 9, 0, 0, &[]), 22);
        drop(disk);
    }
}
