//! Sockets: the one that requests arrive at, and the one of a transfer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, getsockopt, recvmsg, sendmsg, setsockopt, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use tftp_engine::data_header;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

use crate::ahead::Ahead;
use crate::arrived::Arrived;
use crate::source::Source;

/// A socket that requests arrive at.
#[derive(Debug)]
pub(crate) struct Door {
    socket: UdpSocket,
}

/// A datagram that arrived at a door.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) bytes: Vec<u8>,
    pub(crate) client: SocketAddrV4,
    /// Our address, as the client knows it; the answer has to come from it.
    pub(crate) local: Ipv4Addr,
}

impl Door {
    /// Takes over a bound socket, of this process or from systemd.
    pub(crate) fn new(socket: StdSocket) -> io::Result<Self> {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(socket)? })
    }

    /// The next datagram; `None` for one that cannot be answered. May be dropped and called again without losing one.
    pub(crate) async fn knock(&self) -> io::Result<Option<Knock>> {
        self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await
    }
}

/// The connected socket of one transfer: the kernel checks the client's port (RFC 1350's TID) and tells of closed ones.
#[derive(Debug)]
pub(crate) struct Line {
    /// Watched for what arrives only. A socket of tokio's own is also told of each packet that has left, and wakes a
    /// thread for nothing as often as it sends.
    socket: AsyncFd<StdSocket>,
    /// Whether the kernel may be handed a window in one piece (UDP_SEGMENT).
    segmented: bool,
    ahead: Ahead,
}

impl Line {
    pub(crate) fn open(local: Ipv4Addr, client: SocketAddrV4) -> io::Result<Self> {
        let socket = StdSocket::bind((local, 0))?;
        // Where a router on the way takes less than our own card, it may split a block; refused, the block would come again
        // as large as before.
        setsockopt(&socket, MtuDiscover, &libc::IP_PMTUDISC_DONT)?;
        socket.connect(client)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: watch(socket, Interest::READABLE)?, segmented: true, ahead: Ahead::default() })
    }

    /// The largest payload of DATA that reaches the client in one piece, as far as the routing table knows.
    pub(crate) fn largest_block(&self) -> io::Result<u16> {
        let mtu = getsockopt(self.socket.get_ref(), sockopt::IpMtu)?;
        Ok(u16::try_from(mtu.saturating_sub(HEADERS).max(0)).unwrap_or(u16::MAX))
    }

    /// Waits for what arrives. May be dropped and called again without losing anything.
    pub(crate) async fn receive(&self, arrived: &mut Arrived) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            match arrived.receive(ready.get_inner()) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    // What arrives from here on wakes us by itself.
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// What has arrived already.
    pub(crate) fn try_receive(&self, arrived: &mut Arrived) -> io::Result<()> {
        arrived.receive(self.socket.get_ref()).map(drop)
    }

    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(packet).map(drop).or_else(as_lost)
    }

    /// Sends `count` blocks from `first` on, each `block_size` bytes but the file's last.
    pub(crate) async fn send_blocks(
        &mut self,
        source: &Source,
        block_size: u16,
        first: u64,
        count: u16,
    ) -> Result<(), SendError> {
        let end = first + u64::from(count);
        let mut next = first;
        let mut warm = false;
        while next < end {
            let most = if self.segmented { segments(block_size) } else { 1 };
            let some = most.min(end - next);
            match self.try_send_blocks(source, block_size, next, some, warm) {
                Ok(()) => (next, warm) = (next + some, false),
                Err(SendError::Source(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let length = usize::from(block_size) * usize::from(count);
                    source.warm((next - 1) * u64::from(block_size), length).await.map_err(SendError::Source)?;
                    warm = true;
                }
                Err(SendError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The buffer is this thread's, not ours: it is filled again after the wait.
                    self.writable().await.map_err(SendError::Socket)?;
                }
                // The card, the route's MTU or the kernel does not do it.
                Err(SendError::Socket(error)) if some > 1 && !is_closed(&error) => self.segmented = false,
                Err(SendError::Socket(error)) => {
                    as_lost(error).map_err(SendError::Socket)?;
                    next += some;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the socket's buffer has room: a card is slower than the disk, now and then.
    async fn writable(&self) -> io::Result<()> {
        watch(self.socket.get_ref().try_clone()?, Interest::WRITABLE)?.writable().await.map(drop)
    }

    fn try_send_blocks(
        &mut self,
        source: &Source,
        block_size: u16,
        first: u64,
        count: u64,
        warm: bool,
    ) -> Result<(), SendError> {
        WINDOW.with_borrow_mut(|window| {
            let offset = (first - 1) * u64::from(block_size);
            let length = (count * u64::from(block_size)).min(source.size().saturating_sub(offset));
            let length = usize::try_from(length).map_err(|error| SendError::Source(io::Error::other(error)))?;
            let Window { bytes, headers } = window;
            // The first block's header stands before it, so that one block alone is one piece.
            bytes.resize(HEADER + length, 0);
            let (header, payload) = bytes.split_at_mut(HEADER);
            self.ahead.read(source, payload, offset, warm).map_err(SendError::Source)?;
            header.copy_from_slice(&data_header(first));
            if count == 1 {
                return self.socket.get_ref().send(bytes).map(drop).map_err(SendError::Socket);
            }
            let (begin, rest) = bytes.split_at((HEADER + usize::from(block_size)).min(HEADER + length));
            headers.clear();
            headers.extend((first + 1..first + count).map(data_header));
            let mut payloads = rest.chunks(block_size.into());
            // A file that fills its last block is followed by an empty one.
            let further = headers
                .iter()
                .flat_map(|header| [IoSlice::new(header), IoSlice::new(payloads.next().unwrap_or_default())]);
            let pieces: Vec<IoSlice<'_>> = [IoSlice::new(begin)].into_iter().chain(further).collect();
            let segment = block_size + HEADER as u16;
            let segmented = [ControlMessage::UdpGsoSegments(&segment)];
            let fd = self.socket.get_ref().as_raw_fd();
            let sent = sendmsg::<SockaddrIn>(fd, &pieces, &segmented, MsgFlags::MSG_DONTWAIT, None);
            sent.map(drop).map_err(|error| SendError::Socket(error.into()))
        })
    }
}

/// Why blocks could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("reading the file: {0}")]
    Source(io::Error),
    #[error("sending: {0}")]
    Socket(io::Error),
}

/// Whether the network said that nobody listens at the client's port.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// What the kernel could not send now is a lost packet, for which there are timers; only a closed port is final.
fn as_lost(error: io::Error) -> io::Result<()> {
    if is_closed(&error) { Err(error) } else { Ok(()) }
}

fn watch(socket: StdSocket, interest: Interest) -> io::Result<AsyncFd<StdSocket>> {
    // SAFETY: std's socket has one descriptor from its making to its drop, and `AsyncFd` stops watching before it drops it.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(socket, interest) };
    Ok(watched?)
}

/// How many blocks of this size one `sendmsg` can take.
fn segments(block_size: u16) -> u64 {
    (LARGEST_DATAGRAM / (u64::from(block_size) + 4)).clamp(1, MOST_SEGMENTS)
}

fn receive(socket: &UdpSocket) -> io::Result<Option<Knock>> {
    let mut buffer = [0; 1024];
    let mut pieces = [io::IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let fd = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrIn>(fd, &mut pieces, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let client = message.address.map(|client| SocketAddrV4::new(client.ip(), client.port()));
    // Control messages that did not fit are of a socket unit's making; what there is of them may be enough.
    let local = message.cmsgs().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => local_address(&info),
        _ => None,
    });
    let length = message.bytes;
    Ok(client.zip(local).map(|(client, local)| Knock { bytes: buffer[..length].to_vec(), client, local }))
}

/// Which of our addresses was asked.
fn local_address(info: &libc::in_pktinfo) -> Option<Ipv4Addr> {
    let [own, destination] =
        [info.ipi_spec_dst, info.ipi_addr].map(|address| Ipv4Addr::from(address.s_addr.to_ne_bytes()));
    // The header's destination may be a broadcast address; `own` is the interface's then. But it is only filled in for
    // what arrived after IP_PKTINFO was set: not for a request that waited in a socket of systemd's.
    [own, destination].into_iter().find(|address| !address.is_unspecified() && !address.is_broadcast())
}

/// One for each thread, not for each of a thousand transfers: filled, sent and forgotten.
struct Window {
    /// The first block with its header, then the payload of the others.
    bytes: Vec<u8>,
    /// Those of the others.
    headers: Vec<[u8; HEADER]>,
}

thread_local! {
    static WINDOW: RefCell<Window> = const { RefCell::new(Window { bytes: Vec::new(), headers: Vec::new() }) };
}

sockopt_impl!(
    /// Whether packets may be split on their way (ip(7), IP_MTU_DISCOVER).
    MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);

/// A room that is switched on at once must fit. The kernel grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Of DATA, in bytes.
const HEADER: usize = 4;
/// IPv4, UDP, TFTP.
const HEADERS: i32 = 20 + 8 + 4;
/// 65,535 less the headers of IPv4 and UDP; it bounds what is handed over in one piece, too.
pub(crate) const LARGEST_DATAGRAM: u64 = 65_507;
/// UDP_MAX_SEGMENTS of Linux before 6.9.
const MOST_SEGMENTS: u64 = 64;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use tempfile::TempDir;
    use tftp_engine::Mode;

    use super::*;

    sockopt_impl!(
        /// Without checksums the kernel refuses to split a window (udp_send_skb), as some cards do.
        NoCheck,
        SetOnly,
        libc::SOL_SOCKET,
        libc::SO_NO_CHECK,
        libc::c_int
    );

    /// A file whose `length` bytes at `offset` are counted up, and nothing but a hole before them.
    fn file(directory: &TempDir, offset: u64, length: u64) -> Source {
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..=255).cycle().take(usize::try_from(length).unwrap()).collect();
        std::fs::write(&path, "").unwrap();
        File::options().write(true).open(&path).unwrap().write_all_at(&bytes, offset).unwrap();
        Source::new(File::open(&path).unwrap(), offset + length, Mode::Octet).unwrap()
    }

    fn client() -> (StdSocket, SocketAddrV4) {
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    }

    fn datagrams(socket: &StdSocket) -> Vec<Vec<u8>> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 65_536];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
    }

    /// The headers and first bytes of blocks 4,000,000 to 4,000,007, of which the last is empty: beyond 4 GiB, and for
    /// the 62nd time around the 16 bits of the wire.
    const FIRST: u64 = 4_000_000;
    const BLOCK: u16 = 1468;

    fn far(directory: &TempDir) -> Source {
        file(directory, (FIRST - 1) * u64::from(BLOCK), 7 * u64::from(BLOCK))
    }

    fn expect(datagrams: &[Vec<u8>]) {
        assert_eq!(datagrams.len(), 8);
        for (block, datagram) in (FIRST..).zip(datagrams) {
            assert_eq!(datagram[..4], data_header(block));
        }
        assert_eq!(datagrams[0][4..260], (0..=255).collect::<Vec<u8>>()[..]);
        assert_eq!((datagrams[6].len(), datagrams[7].len()), (1472, 4));
    }

    #[tokio::test]
    async fn the_kernel_is_handed_a_window_in_one_piece() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, address) = client();
        // Who can take several segments at once sees what was handed over, not what a cable would carry.
        setsockopt(&socket, sockopt::UdpGroSegment, &true).unwrap();
        let mut line = Line::open(Ipv4Addr::LOCALHOST, address).unwrap();
        line.send_blocks(&far(&directory), BLOCK, FIRST, 8).await.unwrap();
        let whole = datagrams(&socket);
        assert_eq!(whole.iter().map(Vec::len).collect::<Vec<_>>(), [7 * 1472 + 4]);
        assert!(line.segmented);
    }

    #[tokio::test]
    async fn the_window_arrives_as_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, address) = client();
        let mut line = Line::open(Ipv4Addr::LOCALHOST, address).unwrap();
        line.send_blocks(&far(&directory), BLOCK, FIRST, 8).await.unwrap();
        expect(&datagrams(&socket));
    }

    #[tokio::test]
    async fn a_card_that_splits_no_windows_is_given_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, address) = client();
        let mut line = Line::open(Ipv4Addr::LOCALHOST, address).unwrap();
        setsockopt(line.socket.get_ref(), NoCheck, &1).unwrap();
        line.send_blocks(&far(&directory), BLOCK, FIRST, 8).await.unwrap();
        assert!(!line.segmented);
        expect(&datagrams(&socket));
    }

    #[tokio::test]
    async fn blocks_fit_the_route() {
        let (_socket, address) = client();
        let line = Line::open(Ipv4Addr::LOCALHOST, address).unwrap();
        assert_eq!(line.largest_block().unwrap(), 65_503, "loopback's MTU is an IPv4 packet's greatest length");
    }
}
