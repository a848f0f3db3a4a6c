use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An address of our own and the size of its network: `10.77.0.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceAddress {
    address: Ipv4Addr,
    prefix: u8,
}

/// A network and its size: `10.78.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

/// A range of addresses, both ends in it: `10.77.0.100-10.77.0.199`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// A way to another network: `10.9.0.0/16 via 10.77.0.254`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Route {
    network: Ipv4Addr,
    prefix: u8,
    via: Ipv4Addr,
}

/// The text is no address of the form asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAddress {
    /// Not `address/prefix`.
    #[error("{0:?} is no address with its network's size; write it as 10.77.0.1/24, with a size from 8 to 30")]
    Interface(String),
    /// The address stands for the whole network or for all of it at once.
    #[error(
        "{0} is the network's own or its broadcast address; give the address that this server has on the interface"
    )]
    NotAHost(Ipv4Addr),
    /// Not `network/prefix`.
    #[error("{0:?} is no network; write it as 10.78.0.0/24, with a size from 8 to 30")]
    Network(String),
    /// Not `first-last`.
    #[error("{0:?} is no range of addresses; write it as 10.77.0.100-10.77.0.199")]
    Range(String),
    /// Not `network/prefix via router`.
    #[error("{0:?} is no route; write it as 10.9.0.0/16 via 10.77.0.254")]
    Route(String),
    /// The range runs backwards.
    #[error("the range's end {last} is below its start {first}; exchange the two")]
    Backwards {
        /// Where it starts.
        first: Ipv4Addr,
        /// Where it ends.
        last: Ipv4Addr,
    },
}

impl InterfaceAddress {
    /// Our address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The network that it is in.
    pub const fn network(self) -> Network {
        Network::around(self.address, self.prefix)
    }
}

impl Network {
    const fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX << (32 - prefix);
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask), prefix }
    }

    /// Its own address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Its size in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The address for all its hosts.
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | u32::MAX >> self.prefix)
    }

    /// Whether a host could have this address: inside the network, and neither its first nor its last address.
    pub fn contains_host(self, address: Ipv4Addr) -> bool {
        self.address < address && address < self.broadcast()
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.address <= other.broadcast() && other.address <= self.broadcast()
    }
}

impl AddressRange {
    /// The first address.
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The last address, itself in the range.
    pub const fn last(self) -> Ipv4Addr {
        self.last
    }

    /// How many addresses it has.
    pub const fn count(self) -> u64 {
        self.last.to_bits() as u64 - self.first.to_bits() as u64 + 1
    }

    /// Whether the address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl Route {
    /// The other network's address.
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The other network's size in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The router.
    pub const fn via(self) -> Ipv4Addr {
        self.via
    }
}

impl FromStr for Route {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress::Route(text.to_owned());
        let (to, via) = text.split_once(" via ").ok_or_else(invalid)?;
        let (network, prefix) = to.trim().split_once('/').ok_or_else(invalid)?;
        let network: Ipv4Addr = network.parse().map_err(|_| invalid())?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(invalid)?;
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let via = via.trim().parse().map_err(|_| invalid())?;
        if network.to_bits() & host_bits == 0 { Ok(Self { network, prefix, via }) } else { Err(invalid()) }
    }
}

impl FromStr for InterfaceAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress::Interface(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address = address.parse().map_err(|_| invalid())?;
        let prefix = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix)).ok_or_else(invalid)?;
        let parsed = Self { address, prefix };
        if parsed.network().contains_host(address) { Ok(parsed) } else { Err(InvalidAddress::NotAHost(address)) }
    }
}

impl FromStr for Network {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress::Network(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address = address.parse().map_err(|_| invalid())?;
        let prefix = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix)).ok_or_else(invalid)?;
        let parsed = Self::around(address, prefix);
        if parsed.address == address { Ok(parsed) } else { Err(invalid()) }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress::Range(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(invalid)?;
        let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| invalid());
        let (first, last) = (address(first)?, address(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(InvalidAddress::Backwards { first, last }) }
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} via {}", self.network, self.prefix, self.via)
    }
}

macro_rules! through_text {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

through_text!(InterfaceAddress, InvalidAddress);
through_text!(Network, InvalidAddress);
through_text!(AddressRange, InvalidAddress);
through_text!(Route, InvalidAddress);

pub(crate) use through_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_address_knows_its_network() {
        let network = "10.77.1.9/23".parse::<InterfaceAddress>().unwrap().network();
        assert_eq!(network.to_string(), "10.77.0.0/23");
        assert_eq!(network.broadcast(), Ipv4Addr::new(10, 77, 1, 255));
        assert!(network.contains_host(Ipv4Addr::new(10, 77, 0, 255)));
        assert!(!network.contains_host(Ipv4Addr::new(10, 77, 2, 1)));
        for bad in ["10.77.0.1", "10.77.0.1/7", "10.77.0.1/31", "10.77.0.1/x", "10.77.0/24"] {
            assert!(matches!(bad.parse::<InterfaceAddress>(), Err(InvalidAddress::Interface(_))), "{bad}");
        }
        assert!(matches!("10.77.0.0/24".parse::<InterfaceAddress>(), Err(InvalidAddress::NotAHost(_))));
    }

    #[test]
    fn a_network_is_written_by_its_own_address() {
        let network: Network = "10.78.0.0/24".parse().unwrap();
        assert_eq!(network.to_string(), "10.78.0.0/24");
        let network_of = |text: &str| text.parse::<InterfaceAddress>().unwrap().network();
        assert!(network.overlaps(network_of("10.78.9.1/16")) && network_of("10.78.9.1/16").overlaps(network));
        assert!(!network.overlaps(network_of("10.78.1.1/24")));
        for bad in ["10.78.0.1/24", "10.78.0.0", "10.78.0.0/31", "10.78.0/24"] {
            assert!(matches!(bad.parse::<Network>(), Err(InvalidAddress::Network(_))), "{bad}");
        }
    }

    #[test]
    fn a_range_has_both_its_ends() {
        let range: AddressRange = "10.77.0.100 - 10.77.0.199".parse().unwrap();
        assert!(range.contains(range.first()) && range.contains(range.last()));
        assert_eq!(range.count(), 100);
        assert_eq!(range.to_string(), "10.77.0.100-10.77.0.199");
        assert!(matches!("10.77.0.9-10.77.0.8".parse::<AddressRange>(), Err(InvalidAddress::Backwards { .. })));
    }

    #[test]
    fn a_route_leads_to_a_whole_network() {
        let route: Route = "10.9.0.0/16 via 10.77.0.254".parse().unwrap();
        assert_eq!(route.to_string(), "10.9.0.0/16 via 10.77.0.254");
        assert_eq!("192.0.2.7/32 via 10.77.0.254".parse::<Route>().unwrap().prefix(), 32);
        for bad in ["10.9.0.0/16", "10.9.0.1/16 via 10.77.0.254", "10.9.0.0/33 via 10.77.0.254", "10.9.0.0/16 via x"] {
            assert!(matches!(bad.parse::<Route>(), Err(InvalidAddress::Route(_))), "{bad}");
        }
    }
}
