//! Which events end a wish for the next boot.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;

use boot_model::Timestamp;
use boot_model::intent::Next;
use common::{CREATED, HOSTS, SITE, Site};
use menu_generator::Intents;

const MAC: &str = "52:54:00:77:00:01";
const OTHER: &str = "52:54:00:77:00:02";

/// What dhcpd writes of a lease, this many milliseconds after the wish.
fn leased(later: u64, mac: &str, address: &str) -> String {
    let time = Timestamp::from_unix_millis(CREATED + later);
    format!(
        "{{\"time\":\"{time}\",\"mac\":\"{mac}\",\"address\":\"{address}\",\"event\":\"dhcp\",\"message\":\"ACK\",\"reason\":\"ACK\"}}\n"
    )
}

/// What tftpd writes of a transfer.
fn sent(later: u64, address: &str, file: &str) -> String {
    let time = Timestamp::from_unix_millis(CREATED + later);
    format!(
        "{{\"time\":\"{time}\",\"address\":\"{address}\",\"event\":\"tftp\",\"file\":\"{file}\",\"bytes\":1,\"outcome\":\"done\",\
         \"block-size\":1024,\"window\":1,\"milliseconds\":1}}\n"
    )
}

fn wish_for_a_memory_test(dhcpd: &str, tftpd: &str) -> bool {
    let site = Site::new(SITE, HOSTS);
    site.wish(MAC, Next::Memtest);
    for (service, events) in [("dhcpd", dhcpd), ("tftpd", tftpd)] {
        let folder = site.layout.events(service);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("events.jsonl"), events).unwrap();
    }
    let mut intents = Intents::new(&site.layout);
    intents.refresh(Timestamp::from_unix_millis(CREATED + 60_000));
    let stands = !intents.active().is_empty();
    assert_eq!(site.layout.intent(MAC.parse().unwrap()).exists(), stands);
    stands
}

/// GRUB has no HTTP, and tftpd knows addresses only.
#[test]
fn a_memory_test_by_tftp_is_told_from_others_by_the_lease() {
    let lease = leased(1000, MAC, "10.77.0.50");
    let memtest = sent(2000, "10.77.0.50", "memtest-efi");
    assert!(!wish_for_a_memory_test(&lease, &memtest));
    for (dhcpd, tftpd, why) in [
        (lease.clone(), sent(2000, "10.77.0.51", "memtest-efi"), "another address"),
        (lease.clone(), sent(2000, "10.77.0.50", "grubx64.efi"), "another file"),
        (lease.clone(), sent(500, "10.77.0.50", "memtest-efi"), "before the lease"),
        (String::new(), memtest.clone(), "no lease"),
        (lease.clone() + &leased(1500, OTHER, "10.77.0.50"), memtest.clone(), "the address is another's since"),
        (lease + &leased(1500, MAC, "10.77.0.52"), memtest, "the machine has another address since"),
    ] {
        assert!(wish_for_a_memory_test(&dhcpd, &tftpd), "{why}");
    }
}
