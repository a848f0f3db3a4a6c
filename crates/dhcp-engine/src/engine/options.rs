//! The options that only some clients read: those that a client asks for, and pxelinux's.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, OptionCode};

use super::exchange::Exchange;
use crate::client::ClientClass;
use crate::policy::{Ipv4Network, Route, Subnet};
use crate::wire::Reply;

// Written by number, because dhcproto 0.15 takes 106 for IPv6-only and holds only one address in 150.
const IPV6_ONLY: u8 = 108;
const CAPTIVE_PORTAL: u8 = 114;
const DOMAIN_SEARCH: u8 = 119;
const CLASSLESS_ROUTES: u8 = 121;
const TFTP_SERVERS: u8 = 150;
const PXELINUX_CONFIG: u8 = 209;
const PXELINUX_PREFIX: u8 = 210;
const PXELINUX_REBOOT_TIME: u8 = 211;
/// Seconds after which pxelinux restarts a machine that it could not boot; its own choice is five minutes, before a screen that says
/// nothing but "Boot failed".
const REBOOT_SECONDS: u32 = 15;
/// Windows XP's number for 121.
const MICROSOFT_ROUTES: u8 = 249;

impl Exchange<'_> {
    /// Option 121 for who asks for it; RFC 3442 wants it before option 3.
    pub(super) fn add_routes(&self, subnet: &Subnet, reply: &mut Reply) {
        if subnet.options.routes.is_empty() {
            return;
        }
        let encoded = routes(&subnet.options.routes, subnet.routers.first().copied());
        for code in [CLASSLESS_ROUTES, MICROSOFT_ROUTES] {
            if self.asks_for(code) {
                reply.raw_option(code, &encoded);
            }
        }
    }

    /// What the client asks for, as far as the subnet has it.
    pub(super) fn add_wished(&self, subnet: &Subnet, reply: &mut Reply) {
        let options = &subnet.options;
        if !options.ntp.is_empty() && self.asks_for(OptionCode::NtpServers) {
            reply.option(&DhcpOption::NtpServers(options.ntp.clone()));
        }
        let search = search_list(&options.search);
        if !search.is_empty() && self.asks_for(DOMAIN_SEARCH) {
            reply.raw_option(DOMAIN_SEARCH, &search);
        }
        if let Some(seconds) = options.ipv6_only_seconds
            && self.asks_for(IPV6_ONLY)
        {
            reply.raw_option(IPV6_ONLY, &seconds.to_be_bytes());
        }
        if let Some(mtu) = options.mtu
            && self.asks_for(OptionCode::InterfaceMtu)
        {
            reply.option(&DhcpOption::InterfaceMtu(mtu));
        }
        if let Some(url) = &options.captive_portal
            && self.asks_for(CAPTIVE_PORTAL)
        {
            reply.raw_option(CAPTIVE_PORTAL, url.as_bytes());
        }
        if self.client.class != ClientClass::Plain && self.asks_for(TFTP_SERVERS) {
            reply.raw_option(TFTP_SERVERS, &subnet.server.octets());
        }
        // pxelinux reads the ROM's packets again, and no ROM asks for these.
        let rom = self.client.class == ClientClass::BiosPxe;
        for (code, text) in [(PXELINUX_CONFIG, &options.pxelinux_config), (PXELINUX_PREFIX, &options.pxelinux_prefix)] {
            if let Some(text) = text
                && (rom || self.asks_for(code))
            {
                reply.raw_option(code, text.as_bytes());
            }
        }
        if rom || self.asks_for(PXELINUX_REBOOT_TIME) {
            reply.raw_option(PXELINUX_REBOOT_TIME, &REBOOT_SECONDS.to_be_bytes());
        }
    }

    /// Whether option 55 names it. A list with garbage in it is still a list (OVMF's HTTP boot sends an uninitialised byte).
    fn asks_for(&self, code: impl Into<u8>) -> bool {
        let code = code.into();
        self.request.options.raw(OptionCode::ParameterRequestList).is_some_and(|list| list.contains(&code))
    }
}

/// Prefix length, the bytes of the network that matter, router; the default route last.
fn routes(routes: &[Route], router: Option<Ipv4Addr>) -> Vec<u8> {
    let default = router.and_then(|via| Some(Route { to: Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).ok()?, via }));
    let mut encoded = Vec::new();
    for Route { to, via } in routes.iter().copied().chain(default) {
        let significant = usize::from(to.prefix().div_ceil(8));
        encoded.push(to.prefix());
        encoded.extend_from_slice(&to.address().octets()[..significant]);
        encoded.extend(via.octets());
    }
    encoded
}

/// Names as in DNS messages (RFC 1035 §3.1), without pointers, which clients exist that cannot follow. A name that DNS could
/// not carry is left out.
fn search_list(names: &[String]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for name in names {
        let labels = || name.split('.');
        if name.len() > 253 || !labels().all(|label| (1..=63).contains(&label.len())) {
            continue;
        }
        for label in labels() {
            encoded.push(label.len() as u8);
            encoded.extend_from_slice(label.as_bytes());
        }
        encoded.push(0);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_carry_only_the_bytes_that_matter() {
        // The examples of RFC 3442, page 4.
        let route = |address: [u8; 4], prefix| Route {
            to: Ipv4Network::new(address.into(), prefix).unwrap(),
            via: Ipv4Addr::new(1, 2, 3, 4),
        };
        let got = routes(&[route([10, 0, 0, 0], 8), route([10, 27, 129, 0], 24), route([10, 229, 0, 128], 25)], None);
        let expected: Vec<u8> =
            [&[8, 10, 1, 2, 3, 4][..], &[24, 10, 27, 129, 1, 2, 3, 4], &[25, 10, 229, 0, 128, 1, 2, 3, 4]].concat();
        assert_eq!(got, expected);
        assert_eq!(routes(&[], Some(Ipv4Addr::new(1, 2, 3, 4))), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn search_lists_are_dns_names() {
        assert_eq!(search_list(&["eng.apple.com".into(), "a".into()]), b"\x03eng\x05apple\x03com\x00\x01a\x00");
        assert_eq!(search_list(&["a..b".into(), "x".repeat(64)]), b"");
    }
}
