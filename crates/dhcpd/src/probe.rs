//! Asks the network whether somebody uses an address. Nobody waits for the answer but the reply that offers the address.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use boot_model::MacAddr;
use dhcp_engine::{Decision, ProbeBy};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::debug;

use crate::inbox;
use crate::link::{LinkSocket, Protocol};

/// The sockets that ask, and the decisions that wait.
#[derive(Debug)]
pub struct Prober {
    wait: Duration,
    cards: BTreeMap<String, Card>,
    echo: Socket,
    /// In the order of their ends, since all wait equally long.
    parked: VecDeque<Parked>,
}

/// A decision that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) address: Ipv4Addr,
    pub(crate) decision: Decision,
    pub(crate) request: inbox::Request,
    until: Instant,
}

/// Somebody uses this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) address: Ipv4Addr,
    /// By ARP: who.
    pub(crate) mac: Option<MacAddr>,
}

#[derive(Debug)]
struct Card {
    socket: LinkSocket,
    mac: MacAddr,
}

/// Answers that were not looked at yet. A LAN's ARP can be lively; what does not fit is heard again.
const ANSWERS: usize = 256;

impl Prober {
    /// Opens the sockets: one for ARP on each interface, one for ICMP. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// That an interface is not there, or the capability is missing.
    pub fn open<'a>(interfaces: impl IntoIterator<Item = &'a str>, wait: Duration) -> io::Result<Self> {
        let mut cards = BTreeMap::new();
        for interface in interfaces {
            let socket = LinkSocket::receiver(if_nametoindex(interface)?, Protocol::Arp)?;
            // What is no Ethernet has no ARP to ask by.
            if let Some(mac) = socket.mac()? {
                cards.insert(interface.to_owned(), Card { socket, mac });
            }
        }
        let echo = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(IpProtocol::ICMPV4))?;
        Ok(Self { wait, cards, echo, parked: VecDeque::new() })
    }

    /// Starts to listen on the runtime that this is called on.
    pub(crate) fn listen(&self) -> io::Result<Receiver<Heard>> {
        let (answers, receiver) = channel(ANSWERS);
        for card in self.cards.values() {
            tokio::spawn(hear(watched(card.socket.as_fd())?, arp_sender, answers.clone()));
        }
        tokio::spawn(hear(watched(self.echo.as_fd())?, echo_sender, answers));
        Ok(receiver)
    }

    /// Asks who uses the address. False says that it cannot be asked.
    pub(crate) fn ask(&self, address: Ipv4Addr, by: ProbeBy, interface: &str) -> bool {
        let asked = match (by, self.cards.get(interface)) {
            (ProbeBy::Arp, Some(card)) => card.ask(address),
            (ProbeBy::Arp, None) => return false,
            (ProbeBy::Echo, _) => self.echo.send_to(&echo_request(), &SocketAddrV4::new(address, 0).into()).map(drop),
        };
        if let Err(error) = &asked {
            debug!(%address, %error, "the network cannot be asked whether the address is in use");
        }
        asked.is_ok()
    }

    /// Keeps the decision until [`Prober::due`] or an answer.
    pub(crate) fn park(&mut self, address: Ipv4Addr, decision: Decision, request: inbox::Request) {
        self.parked.push_back(Parked { address, decision, request, until: Instant::now() + self.wait });
    }

    /// When the next decision has waited long enough.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.parked.front().map(|parked| parked.until)
    }

    /// A decision that has waited long enough: nobody uses the address.
    pub(crate) fn due(&mut self) -> Option<Parked> {
        if self.next()? <= Instant::now() { self.parked.pop_front() } else { None }
    }

    /// The decision that an answer is about. That its own client uses an address is no conflict.
    pub(crate) fn refuted(&mut self, heard: Heard) -> Option<Parked> {
        let by_another = |parked: &Parked| heard.mac.is_none() || heard.mac != parked.decision.mac;
        let at = self.parked.iter().position(|parked| parked.address == heard.address && by_another(parked))?;
        self.parked.remove(at)
    }
}

impl Card {
    /// An ARP probe (RFC 5227 §2.1.1): who has this address? From nobody's address, so that no cache learns anything.
    fn ask(&self, address: Ipv4Addr) -> io::Result<()> {
        let mut packet = [0; ARP];
        packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        packet[8..14].copy_from_slice(&self.mac.bytes());
        packet[24..28].copy_from_slice(&address.octets());
        self.socket.send(&packet, Protocol::Arp, MacAddr::new([0xff; 6]))
    }
}

/// A second handle of a socket for the reactor. Tokio has no type for packet and raw sockets; this one only calls `recv`, which is
/// the same for all.
fn watched(socket: BorrowedFd<'_>) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.try_clone_to_owned()?.into())
}

/// Passes on who is heard of, until the socket fails for good or nobody listens: then addresses are offered unasked.
async fn hear(socket: UdpSocket, sender: impl Fn(&[u8]) -> Option<Heard>, answers: Sender<Heard>) {
    let mut buffer = [0; 256];
    while !answers.is_closed() {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                if let Some(heard) = sender(&buffer[..length]) {
                    // Full: whoever answers a probe answers the next one too.
                    let _ = answers.try_send(heard);
                }
            }
            // An interface that is down says so once.
            Err(error) => debug!(%error, "answers about addresses in use cannot be heard for a moment"),
        }
    }
}

/// Bytes of an ARP packet for IPv4 over Ethernet (RFC 826).
const ARP: usize = 28;

/// Who sent an ARP packet, request or reply: either says that the address is its sender's (RFC 5227 §2.1.1).
fn arp_sender(packet: &[u8]) -> Option<Heard> {
    let packet = packet.first_chunk::<ARP>()?;
    if packet[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let [.., a, b, c, d, e, f] = *packet.first_chunk::<14>()?;
    let address = Ipv4Addr::new(packet[14], packet[15], packet[16], packet[17]);
    (!address.is_unspecified()).then_some(Heard { address, mac: Some(MacAddr::new([a, b, c, d, e, f])) })
}

/// Marks our echo requests: others on this machine ask too.
fn echo_identifier() -> [u8; 2] {
    (std::process::id() as u16).to_be_bytes()
}

/// An ICMP echo request (RFC 792) without data.
fn echo_request() -> [u8; 8] {
    let [a, b] = echo_identifier();
    let mut packet = [8, 0, 0, 0, a, b, 0, 0];
    let sum = crate::frame::checksum(&[&packet]);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Who answered one of our echo requests. A raw socket shows the IPv4 header too.
fn echo_sender(packet: &[u8]) -> Option<Heard> {
    const REPLY: u8 = 0;
    let [first, .., a, b, c, d] = *packet.first_chunk::<16>()?;
    let icmp = packet.get(usize::from(first & 15) * 4..)?;
    let answers = icmp.first() == Some(&REPLY) && icmp.get(4..6) == Some(&echo_identifier()[..]);
    answers.then_some(Heard { address: Ipv4Addr::new(a, b, c, d), mac: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_of_arp_are_heard_and_probes_are_not() {
        let mut packet = [0; ARP];
        packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
        packet[8..14].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        assert_eq!(arp_sender(&packet), None, "an ARP probe claims nothing");
        packet[14..18].copy_from_slice(&[10, 77, 0, 9]);
        let heard = Heard { address: Ipv4Addr::new(10, 77, 0, 9), mac: Some(MacAddr::new([2, 0, 0, 0, 0, 7])) };
        assert_eq!(arp_sender(&packet), Some(heard));
        assert_eq!(arp_sender(&packet[..27]), None);
        packet[0] = 9;
        assert_eq!(arp_sender(&packet), None, "not Ethernet");
    }

    #[test]
    fn our_echo_is_known_again() {
        let mut packet = vec![0x46; 1];
        packet.resize(24, 0);
        packet[12..16].copy_from_slice(&[10, 77, 0, 9]);
        packet.extend(echo_request());
        assert_eq!(echo_sender(&packet), None, "a request");
        packet[24] = 0;
        assert_eq!(echo_sender(&packet), Some(Heard { address: Ipv4Addr::new(10, 77, 0, 9), mac: None }));
        packet[28] ^= 1;
        assert_eq!(echo_sender(&packet), None, "somebody else's");
        assert_eq!(echo_sender(&packet[..20]), None);
        assert_eq!(echo_sender(&[]), None);
    }
}
