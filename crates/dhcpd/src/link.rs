//! Packet sockets (AF_PACKET): what a UDP socket cannot send, and ARP.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use boot_model::MacAddr;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};

/// What a frame carries; the numbers are Ethernet's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    Ipv4 = 0x0800,
    Arp = 0x0806,
}

/// A packet socket of one interface. The kernel writes and reads the Ethernet header.
#[derive(Debug)]
pub(crate) struct LinkSocket {
    fd: OwnedFd,
    index: u32,
}

impl LinkSocket {
    /// One that only sends.
    pub(crate) fn sender(index: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = nix::sys::socket::socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        Ok(Self { fd, index })
    }

    /// One that hears this protocol too.
    pub(crate) fn receiver(index: u32, protocol: Protocol) -> io::Result<Self> {
        let socket = Self::sender(index)?;
        let at = address(index, protocol, MacAddr::new([0; 6]));
        // SAFETY: the address lives until the call returns and is passed with its size; the descriptor is open for as long as
        // `socket` is. Neither nix nor socket2 can build this address.
        #[allow(unsafe_code)]
        let bound = unsafe {
            libc::bind(socket.fd.as_raw_fd(), (&raw const at).cast(), mem::size_of_val(&at) as libc::socklen_t)
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// The interface's own hardware address, if it is Ethernet's. For a receiver.
    pub(crate) fn mac(&self) -> io::Result<Option<MacAddr>> {
        let mut own = address(0, Protocol::Arp, MacAddr::new([0; 6]));
        let mut length = mem::size_of_val(&own) as libc::socklen_t;
        // SAFETY: address and length live until the call returns, and the length is the address's. nix refuses the answer, which
        // is two bytes shorter than the type: it ends with the hardware address.
        #[allow(unsafe_code)]
        let named = unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut own).cast(), &raw mut length) };
        if named < 0 {
            return Err(io::Error::last_os_error());
        }
        let [a, b, c, d, e, f, ..] = own.sll_addr;
        let ethernet = own.sll_hatype == libc::ARPHRD_ETHER && own.sll_halen == 6;
        Ok(ethernet.then_some(MacAddr::new([a, b, c, d, e, f])))
    }

    /// Sends one packet in a frame to this address, or says why not; it never waits.
    pub(crate) fn send(&self, packet: &[u8], protocol: Protocol, to: MacAddr) -> io::Result<()> {
        let to = address(self.index, protocol, to);
        // SAFETY: the buffer and the address live until the call returns, each is passed with its own size, and the descriptor is
        // open for as long as `self` is.
        #[allow(unsafe_code)]
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                mem::size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn address(index: u32, protocol: Protocol, mac: MacAddr) -> libc::sockaddr_ll {
    let mut hardware = [0; 8];
    hardware[..6].copy_from_slice(&mac.bytes());
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: hardware,
    }
}
