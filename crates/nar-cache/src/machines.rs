//! Which machine an address is: by our lease where we give the addresses, by the kernel's neighbours where another server does.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use boot_model::MacAddr;
use config::{Mode, Network, Subnet};
use generations::Layout;

use crate::leases::Leases;
use crate::neighbours::Neighbours;

/// What tells a client's card from its address. Nothing that the client says of itself does.
#[derive(Debug)]
pub struct Machines {
    leases: Leases,
    neighbours: Neighbours,
    /// The networks whose addresses another server gives.
    foreign: Vec<Foreign>,
}

#[derive(Debug)]
struct Foreign {
    network: Network,
    /// Where its machines are our neighbours; `None` where a router stands between, whose card answers for all of them.
    interface: Option<String>,
}

impl Machines {
    /// The machines of these subnets.
    pub fn new(layout: &Layout, subnets: &[Subnet]) -> Self {
        Self::with_table(layout, subnets, Path::new(Neighbours::TABLE))
    }

    fn with_table(layout: &Layout, subnets: &[Subnet], table: &Path) -> Self {
        let foreign = subnets.iter().filter(|subnet| subnet.mode != Mode::Full).map(|subnet| {
            let attached = subnet.network == subnet.address.network();
            Foreign { network: subnet.network, interface: attached.then(|| subnet.interface.clone()) }
        });
        Self { leases: Leases::new(layout), neighbours: Neighbours::new(table), foreign: foreign.collect() }
    }

    /// The card that has this address at this moment (milliseconds since 1970). It looks at files, and so may block.
    pub(crate) fn mac_at(&self, address: Ipv4Addr, unix_millis: u64) -> Option<MacAddr> {
        match self.foreign(address) {
            Some(Foreign { interface, .. }) => self.neighbours.mac_at(address, interface.as_deref()?, Instant::now()),
            None => self.leases.mac_at(address, unix_millis),
        }
    }

    /// The same where no file has to be read again for it; `None` where one has. It does not block.
    pub(crate) fn known_mac_at(&self, address: Ipv4Addr, unix_millis: u64) -> Option<Option<MacAddr>> {
        match self.foreign(address) {
            Some(Foreign { interface: Some(interface), .. }) => {
                self.neighbours.known_mac_at(address, interface, Instant::now()).map(Some)
            }
            Some(Foreign { interface: None, .. }) => Some(None),
            None => self.leases.known_mac_at(address, unix_millis),
        }
    }

    fn foreign(&self, address: Ipv4Addr) -> Option<&Foreign> {
        self.foreign.iter().find(|foreign| foreign.network.contains_host(address))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dhcp_engine::{ClientKey, Lease, LeaseState, journal};

    use super::*;

    const SUBNETS: &str = r#"
[[subnet]]
interface = "enp3s0"
address = "10.77.0.1/24"
[[subnet]]
interface = "enp4s0"
address = "10.78.0.1/24"
mode = "proxy"
[[subnet]]
interface = "enp5s0"
address = "10.79.0.1/24"
mode = "off"
[[subnet]]
interface = "enp5s0"
address = "10.79.0.1/24"
network = "10.80.0.0/24"
mode = "off"
"#;

    fn mac(last: u8) -> MacAddr {
        MacAddr::new([0x52, 0x54, 0, 0x77, 0, last])
    }

    /// Every address has a lease, by card 1, and answers ARP on every card, with card 2.
    #[test]
    fn each_network_has_one_truth() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("state"));
        let (file, table) = (directory.path().join("rookery.toml"), directory.path().join("arp"));
        let addresses = ["10.77.0.20", "10.78.0.20", "10.79.0.20", "10.80.0.20", "10.81.0.20"];
        let (mut leases, mut neighbours) = (journal::header(0).to_vec(), String::new());
        for (address, number) in addresses.iter().zip(1..) {
            let lease = Lease {
                address: address.parse().unwrap(),
                client: ClientKey::Mac(mac(1)),
                mac: Some(mac(1)),
                host_name: None,
                state: LeaseState::Bound,
                written: 1,
                expires: u64::MAX,
            };
            journal::append(&mut leases, number, &lease);
            for interface in ["enp3s0", "enp4s0", "enp5s0"] {
                neighbours += &format!("{address} 0x1 0x2 {} * {interface}\n", mac(2));
            }
        }
        fs::create_dir_all(layout.leases()).unwrap();
        fs::write(layout.lease_journal(), leases).unwrap();
        fs::write(&table, neighbours).unwrap();
        fs::write(&file, SUBNETS).unwrap();

        let machines = Machines::with_table(&layout, &config::load(&file).unwrap().subnets, &table);
        let expected = [
            Some(mac(1)),
            Some(mac(2)),
            Some(mac(2)),
            None, // behind a router
            Some(mac(1)),
        ];
        for (address, expected) in addresses.iter().zip(expected) {
            let address = address.parse().unwrap();
            assert_eq!(machines.mac_at(address, 1), expected, "{address}");
            assert_eq!(machines.known_mac_at(address, 1), Some(expected), "{address}");
        }
    }
}
