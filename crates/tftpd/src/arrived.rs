//! What has arrived at a transfer's socket.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::{mem, ptr};

use nix::libc;

/// The datagrams of one look at a socket: ACK and ERROR; of a longer text the rest is of no interest.
#[derive(Debug)]
pub(crate) struct Arrived {
    buffers: [[u8; LONGEST]; MOST],
    lengths: [usize; MOST],
    count: usize,
}

const LONGEST: usize = 128;
/// Two: whether there is a second tells whether to look again. A client sends one packet for each of ours, and to ask for one that is
/// not there would be a system call more for each block of the file.
const MOST: usize = 2;

impl Arrived {
    pub(crate) const fn new() -> Self {
        Self { buffers: [[0; LONGEST]; MOST], lengths: [0; MOST], count: 0 }
    }

    /// Takes what waits, or says that it would block. True says that there may be more.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.count = 0;
        let mut pieces = self
            .buffers
            .each_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
        let mut messages = pieces.each_mut().map(|piece| {
            // SAFETY: a header of zeros is one without anything.
            #[allow(unsafe_code)]
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (piece, 1);
            message
        });
        // SAFETY: each header points to a piece, and each piece to a buffer of its length; all live until the call returns, and nobody
        // else has them.
        #[allow(unsafe_code)]
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                MOST as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        self.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.lengths = messages.map(|message| message.msg_len as usize);
        Ok(self.count == MOST)
    }

    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers.iter().zip(self.lengths).map(|(buffer, length)| &buffer[..length]).take(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_waits_and_says_whether_there_may_be_more() {
        let [socket, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let send = |bytes: &[u8]| other.send_to(bytes, socket.local_addr().unwrap()).unwrap();
        let mut arrived = Arrived::new();
        let mut look = || {
            let more = arrived.receive(&socket)?;
            Ok::<_, io::Error>((more, arrived.packets().map(<[u8]>::to_vec).collect::<Vec<_>>()))
        };
        assert_eq!(look().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send(b"one");
        assert_eq!(look().unwrap(), (false, vec![b"one".to_vec()]));
        send(b"");
        send(&[7; 1000]);
        send(b"four");
        assert_eq!(look().unwrap(), (true, vec![Vec::new(), vec![7; LONGEST]]));
        assert_eq!(look().unwrap(), (false, vec![b"four".to_vec()]));
        assert!(look().is_err());
    }
}
