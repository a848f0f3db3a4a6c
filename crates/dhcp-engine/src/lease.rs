use std::fmt;
use std::net::Ipv4Addr;

use boot_model::{HostName, MacAddr};

/// What is kept on disk of one address: who has it, or had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is.
    pub client: ClientKey,
    /// The client's Ethernet address, where it has one, whatever its key is.
    pub mac: Option<MacAddr>,
    /// The host's name: the configured one, else the one that the client gave.
    pub host_name: Option<HostName>,
    /// What holds until `expires`.
    pub state: LeaseState,
    /// Wall clock seconds since 1970 when this was written.
    pub written: u64,
    /// Wall clock seconds since 1970 when it ends.
    pub expires: u64,
}

/// What tells one client from another; see [`Identity`](crate::Identity).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientKey {
    /// Its Ethernet address.
    Mac(MacAddr),
    /// Its option 61, or hardware type and address where that is no Ethernet address.
    Id(Box<[u8]>),
}

/// What an address is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Promised to the client.
    Bound,
    /// Given back. The client gets it again if it comes back before somebody else needs it.
    Released,
    /// Found in use by somebody else; not given out until it ends.
    Declined,
}

impl Lease {
    /// Whether the client may use the address at this wall clock second.
    pub fn is_active(&self, now: u64) -> bool {
        self.state == LeaseState::Bound && now < self.expires
    }
}

impl ClientKey {
    /// Bytes to spread clients over a pool.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Mac(mac) => mac.bytes().to_vec(),
            Self::Id(id) => id.to_vec(),
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "{mac}"),
            Self::Id(id) => {
                f.write_str("id:")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bound => "bound",
            Self::Released => "released",
            Self::Declined => "declined",
        })
    }
}
