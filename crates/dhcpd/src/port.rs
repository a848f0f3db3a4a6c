use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use dhcp_engine::{Destination, ServerPort};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frame;
use crate::link::{self, LinkSocket};

/// One of the ports that clients know, on one interface.
#[derive(Debug)]
pub struct Port {
    interface: String,
    index: u32,
    number: ServerPort,
    udp: Socket,
    /// For clients that have no address yet.
    link: LinkSocket,
}

/// Whose datagrams are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// All of them.
    Everything,
    /// Broadcasts alone. A unicast goes to the socket that fits it best, which is ours as it is bound to the interface: beside
    /// another DHCP server on this machine we would take the renewals of its clients.
    Broadcasts,
}

/// A datagram that came in.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) payload: Vec<u8>,
    pub(crate) source: SocketAddrV4,
    /// What it was sent to: ours or a broadcast address.
    pub(crate) destination: Ipv4Addr,
}

/// The longest message read. No client sends more; of what is longer the kernel keeps the beginning.
const LONGEST: usize = 4096;

/// Datagrams that are taken before others have their turn.
const BATCH: usize = 256;

/// A room that is switched on at once must fit while a disk takes its time. The kernel grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Class selector 6, network control.
const TOS: u32 = 0xc0;

impl Port {
    /// Opens the port on an interface. Needs CAP_NET_BIND_SERVICE and CAP_NET_RAW.
    ///
    /// Bound to its interface, the socket leaves the port of other interfaces to others (libvirt's dnsmasq on virbr0).
    ///
    /// # Errors
    /// That the interface is not there, the port is taken on it, or a capability is missing.
    pub fn open(interface: &str, number: ServerPort, hearing: Hearing) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        let udp = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        udp.bind_device(Some(interface.as_bytes()))?;
        udp.set_reuse_address(true)?;
        udp.set_broadcast(true)?;
        udp.set_recv_buffer_size(RECEIVE_BUFFER)?;
        udp.set_tos_v4(TOS)?;
        setsockopt(&udp, sockopt::Ipv4PacketInfo, &true)?;
        never_set_dont_fragment(&udp)?;
        let address = match hearing {
            Hearing::Everything => Ipv4Addr::UNSPECIFIED,
            Hearing::Broadcasts => Ipv4Addr::BROADCAST,
        };
        udp.bind(&SocketAddrV4::new(address, number.number()).into())?;
        Ok(Self { interface: interface.to_owned(), index, number, udp, link: LinkSocket::sender(index)? })
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Which port it is.
    pub fn number(&self) -> ServerPort {
        self.number
    }

    /// A second handle of the receiving socket, for the reactor.
    pub(crate) fn receiver(&self) -> io::Result<UdpSocket> {
        Ok(self.udp.try_clone()?.into())
    }

    /// Takes datagrams that wait into `batch`: at most [`BATCH`] of them, or all and then says that it would block.
    pub(crate) fn receive(&self, batch: &mut Vec<Received>) -> io::Result<()> {
        for _ in 0..BATCH {
            batch.push(self.receive_one()?);
        }
        Ok(())
    }

    fn receive_one(&self) -> io::Result<Received> {
        let mut payload = [0; LONGEST];
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let mut buffers = [IoSliceMut::new(&mut payload)];
        let message =
            recvmsg::<SockaddrIn>(self.udp.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let destination = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr))),
            _ => None,
        });
        let source = message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), Into::into);
        let length = message.bytes;
        let destination = destination.unwrap_or(Ipv4Addr::BROADCAST);
        Ok(Received { payload: payload[..length].to_vec(), source, destination })
    }

    /// Sends a reply. It is gone or it is not: a full socket buffer is an error here, and the client asks again.
    pub(crate) fn send(&self, reply: &[u8], from: Ipv4Addr, to: Destination) -> io::Result<()> {
        match to {
            Destination::Unicast(to) => self.send_udp(reply, from, to),
            Destination::Broadcast => self.send_udp(reply, from, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)),
            Destination::LinkLayer { mac, address } => {
                self.link.send(&frame::packet(from, address, reply), link::Protocol::Ipv4, mac)
            }
        }
    }

    fn send_udp(&self, reply: &[u8], from: Ipv4Addr, to: SocketAddrV4) -> io::Result<()> {
        // The source must be our address in the client's network, whatever else the interface has.
        let info = libc::in_pktinfo {
            ipi_ifindex: self.index as libc::c_int,
            ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let to = SockaddrIn::from(to);
        sendmsg(self.udp.as_raw_fd(), &[IoSlice::new(reply)], &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }
}

/// Firmware cannot take part in path MTU discovery; a reply that a router must split is to be split.
fn never_set_dont_fragment(socket: &Socket) -> io::Result<()> {
    let value: libc::c_int = libc::IP_PMTUDISC_DONT;
    // SAFETY: the value lives until the call returns and is passed with its size; the option takes an int. nix and socket2 do not
    // have it.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
