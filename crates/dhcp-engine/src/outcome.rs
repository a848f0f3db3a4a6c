use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use boot_model::{Circuit, HostName, MacAddr};
use dhcproto::v4::MessageType;

use crate::boot::BootVerdict;
use crate::lease::Lease;

/// What to do about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Carry out the decision's effects.
    Act(Decision),
    /// Do nothing. The reason is counted and asserted by tests.
    Ignore(IgnoreReason),
}

/// A decision about one client, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// The client, where it has an Ethernet address.
    pub mac: Option<MacAddr>,
    /// The address that the decision is about, where there is one.
    pub address: Option<Ipv4Addr>,
    /// The configured name of the host.
    pub host_name: Option<HostName>,
    /// The wire that it is on, where its relay agent says so.
    pub circuit: Option<Circuit>,
    /// What it boots, or why nothing.
    pub boot: BootVerdict,
    /// To be carried out in order; the first that fails ends it.
    pub effects: Vec<Effect>,
}

/// One step of carrying out a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the lease so that it survives a power cut, then tell [`Engine::saved`](crate::Engine::saved).
    SaveLease(Lease),
    /// Ask the network whether somebody uses the address. If so, carry out nothing more and tell
    /// [`Engine::in_use`](crate::Engine::in_use); if nobody answers in time, tell
    /// [`Engine::not_in_use`](crate::Engine::not_in_use) and go on.
    Probe {
        /// The address that is about to be offered.
        address: Ipv4Addr,
        /// How to ask.
        by: ProbeBy,
    },
    /// Send the reply through the interface that the request came in by.
    Send {
        /// The UDP payload.
        reply: Vec<u8>,
        /// Our address, the source of the datagram; its port is the one that the request came to.
        from: Ipv4Addr,
        /// Where it goes.
        to: Destination,
    },
}

/// How to find out whether an address is in use (RFC 2131 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeBy {
    /// By an ARP probe (RFC 5227 §2.1.1): the address would be on the link that the request came in by, and hosts that drop
    /// ICMP answer ARP all the same.
    Arp,
    /// By an ICMP echo request: the address is behind a relay.
    Echo,
}

/// Where a reply goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To a socket that answers ARP: a relay or a client that has its address.
    Unicast(SocketAddrV4),
    /// To 255.255.255.255, port 68.
    Broadcast,
    /// To a client that does not answer ARP yet: in a frame to its hardware address, port 68.
    LinkLayer {
        /// Its Ethernet address.
        mac: MacAddr,
        /// The address that it is being given.
        address: Ipv4Addr,
    },
}

/// What was decided and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An address is offered.
    Offer(Choice),
    /// An address is promised for so many seconds.
    Ack(AckReason, u64),
    /// The client is told to start over.
    Nak(NakReason),
    /// The client gave its address back.
    Released,
    /// The client found somebody else using its address.
    Declined,
    /// The client that has its address by other means gets the options.
    Informed,
    /// A BOOTP client gets its reserved address.
    Bootp,
    /// Beside another server's offer: what to boot, without an address.
    ProxyOffer,
    /// The boot server's answer on port 4011.
    BootServer,
    /// Another server gives the address, and there is nothing to boot.
    NothingToAdd,
}

/// By which rule an address was chosen (RFC 2131 §4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is reserved for the client.
    Reserved,
    /// It is held for the client since an earlier offer.
    Held,
    /// The client has or had it.
    Previous,
    /// The client asked for it and it is free.
    Requested,
    /// By the hash of the client.
    Hashed,
}

/// In which state of RFC 2131 figure 5 the client was when its address was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckReason {
    /// It took our offer.
    Selecting,
    /// It takes whatever is offered (RFC 4039).
    RapidCommit,
    /// It remembers its address.
    InitReboot,
    /// It extends its lease with us.
    Renewing,
    /// It extends its lease with whoever answers.
    Rebinding,
    /// It has the lease for less than a quarter of its length: promised again as it stands on disk, without a write.
    StillFresh,
    /// Leases cannot be written now: promised again up to the end that is on disk.
    StoreFailing,
}

/// Why a client must start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NakReason {
    /// Its address belongs to another network.
    WrongNetwork,
    /// Its lease is of another address.
    OtherAddress,
    /// The address is in use by, or offered to, somebody else.
    Taken,
    /// The address is in no pool, or reserved for somebody else, or the client has a reservation of another.
    NotForThisClient,
    /// There is no record of it, and we are authoritative.
    Unknown,
}

/// Why a message is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IgnoreReason {
    /// No subnet is configured for where it came from.
    NoSubnet,
    /// It comes from nobody: no usable hardware address and no client identifier.
    NoIdentity,
    /// The client sends more messages than any client needs to.
    RateLimited,
    /// It carries relay information and no relay's address (RFC 3046 §2.1.1).
    StrayRelayInformation,
    /// Its type is none that clients send to servers, or one that is not supported.
    UnsupportedMessage,
    /// The client chose another server.
    OtherServer,
    /// No address is left.
    PoolEmpty,
    /// The network is being asked about the address for it; the offer is on its way.
    Probing,
    /// A lease that we know nothing of; another server may.
    UnknownLease,
    /// It names no address where it must.
    NoAddress,
    /// A release or decline of an address that is not this client's.
    NotItsLease,
    /// It would end a lease, by a release, a decline or a request of another address, and its sender can be neither the client
    /// nor a relay agent.
    SpoofedSource,
    /// A BOOTP client without a reservation.
    BootpUnreserved,
    /// Leases cannot be written, so nothing new is promised.
    StoreFailing,
    /// The reply would not fit.
    ReplyTooLarge,
    /// It is about an address, and addresses come from another server here.
    AddressElsewhere,
    /// It wants nothing to boot, or what it boots by needs no such answer.
    NotBooting,
}

/// The types of message that we know by name, as they are written in logs.
pub fn message_name(message_type: Option<MessageType>) -> &'static str {
    match message_type {
        None => "BOOTP",
        Some(MessageType::Discover) => "DISCOVER",
        Some(MessageType::Offer) => "OFFER",
        Some(MessageType::Request) => "REQUEST",
        Some(MessageType::Decline) => "DECLINE",
        Some(MessageType::Ack) => "ACK",
        Some(MessageType::Nak) => "NAK",
        Some(MessageType::Release) => "RELEASE",
        Some(MessageType::Inform) => "INFORM",
        Some(_) => "OTHER",
    }
}

impl Verdict {
    /// One word for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Ack(..) => "ack",
            Self::Nak(_) => "nak",
            Self::Released => "release",
            Self::Declined => "decline",
            Self::Informed => "inform",
            Self::Bootp => "bootp",
            Self::ProxyOffer => "proxy-offer",
            Self::BootServer => "boot-server",
            Self::NothingToAdd => "nothing-to-add",
        }
    }
}

impl IgnoreReason {
    /// One word for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoSubnet => "no-subnet",
            Self::NoIdentity => "no-identity",
            Self::RateLimited => "rate-limited",
            Self::StrayRelayInformation => "stray-relay-information",
            Self::UnsupportedMessage => "unsupported-message",
            Self::OtherServer => "other-server",
            Self::PoolEmpty => "pool-empty",
            Self::Probing => "probing",
            Self::UnknownLease => "unknown-lease",
            Self::NoAddress => "no-address",
            Self::NotItsLease => "not-its-lease",
            Self::SpoofedSource => "spoofed-source",
            Self::BootpUnreserved => "bootp-unreserved",
            Self::StoreFailing => "store-failing",
            Self::ReplyTooLarge => "reply-too-large",
            Self::AddressElsewhere => "address-elsewhere",
            Self::NotBooting => "not-booting",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(choice) => write!(f, "OFFER: {choice}"),
            Self::Ack(reason, seconds) => write!(f, "ACK for {seconds} s: {reason}"),
            Self::Nak(reason) => write!(f, "NAK: {reason}"),
            Self::Released => f.write_str("released"),
            Self::Declined => f.write_str("declined: the address is in use by somebody else"),
            Self::Informed => f.write_str("ACK without an address: the client has its own"),
            Self::Bootp => f.write_str("BOOTREPLY: reserved for the client"),
            Self::ProxyOffer => f.write_str("OFFER of a boot file: the address comes from another server"),
            Self::BootServer => f.write_str("ACK of the boot server"),
            Self::NothingToAdd => f.write_str("nothing to add: the address comes from another server"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserved => "reserved for the client",
            Self::Held => "offered to the client before",
            Self::Previous => "the client has or had it",
            Self::Requested => "the client asks for it and it is free",
            Self::Hashed => "chosen by the client's hash",
        })
    }
}

impl fmt::Display for AckReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Selecting => "the client takes our offer",
            Self::RapidCommit => "the client takes whatever is offered",
            Self::InitReboot => "the client remembers its address",
            Self::Renewing => "the client renews",
            Self::Rebinding => "the client rebinds",
            Self::StillFresh => "the lease is fresh, nothing is written",
            Self::StoreFailing => "the lease is known, though none can be written now",
        })
    }
}

impl fmt::Display for NakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongNetwork => "the address belongs to another network",
            Self::OtherAddress => "the client's lease is of another address",
            Self::Taken => "the address is somebody else's",
            Self::NotForThisClient => "the address is not for this client",
            Self::Unknown => "there is no record of the lease",
        })
    }
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSubnet => "no subnet is configured for where it came from",
            Self::NoIdentity => "it has no usable hardware address and no client identifier",
            Self::RateLimited => "the client sends too much",
            Self::StrayRelayInformation => "option 82 without a relay's address",
            Self::UnsupportedMessage => "not a message type that is served",
            Self::OtherServer => "the client chose another server",
            Self::PoolEmpty => "no address is left",
            Self::Probing => "the network is being asked about the address for it, the offer follows",
            Self::UnknownLease => "there is no record of the lease, another server may have one",
            Self::NoAddress => "it names no address",
            Self::NotItsLease => "the address is not this client's",
            Self::SpoofedSource => "its sender can be neither the client nor a relay agent",
            Self::BootpUnreserved => "a BOOTP client without a reservation",
            Self::StoreFailing => "leases cannot be written, nothing new is promised",
            Self::ReplyTooLarge => "the reply would not fit",
            Self::AddressElsewhere => "addresses come from another server here",
            Self::NotBooting => "it boots nothing that we would have to answer about",
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unicast(socket) => write!(f, "{socket}"),
            Self::Broadcast => f.write_str("255.255.255.255:68"),
            Self::LinkLayer { mac, address } => write!(f, "{address}:68 in a frame to {mac}"),
        }
    }
}
