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

const BESIDE_ANOTHER_SERVER: &str = r#"
[[subnet]]
interface = "lab1"
address = "10.78.0.1/24"
mode = "proxy"
"#;

/// What dhcpd writes of a lease, this many milliseconds after the wish.
fn leased(later: u64, mac: &str, address: &str) -> String {
    answered("ACK", later, mac, address)
}

/// What dhcpd writes of any answer.
fn answered(message: &str, later: u64, mac: &str, address: &str) -> String {
    let time = Timestamp::from_unix_millis(CREATED + later);
    format!(
        "{{\"time\":\"{time}\",\"mac\":\"{mac}\",\"address\":\"{address}\",\"event\":\"dhcp\",\"message\":\"{message}\",\"reason\":\"\"}}\n"
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
    let site = Site::new(&format!("{SITE}{BESIDE_ANOTHER_SERVER}"), HOSTS);
    site.wish(MAC, Next::Memtest);
    for (service, events) in [("dhcpd", dhcpd), ("tftpd", tftpd)] {
        let folder = site.layout.events(service);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("events.jsonl"), events).unwrap();
    }
    let mut intents = Intents::new(&site.layout, &site.config().subnets);
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

/// Such answers repeat the card and the address that their sender wrote.
#[test]
fn an_answer_that_gives_no_lease_says_nothing_about_our_addresses() {
    let lease = leased(1000, MAC, "10.77.0.50");
    for message in ["INFORM", "BOOT-SERVER", "OFFER", "DISCOVER", "NAK"] {
        let forged = answered(message, 1500, MAC, "10.77.0.66");
        let test_of_another = sent(2000, "10.77.0.66", "memtest-efi");
        assert!(wish_for_a_memory_test(&forged, &test_of_another), "{message} in the machine's name");
        assert!(wish_for_a_memory_test(&(lease.clone() + &forged), &test_of_another), "{message}, and a lease");
        let memtest = sent(2000, "10.77.0.50", "memtest-efi");
        let takes_the_address = lease.clone() + &answered(message, 1500, OTHER, "10.77.0.50");
        let moves_the_card = lease.clone() + &answered(message, 1500, MAC, "10.78.0.50");
        assert!(!wish_for_a_memory_test(&takes_the_address, &memtest), "{message} about the machine's address");
        assert!(!wish_for_a_memory_test(&(lease.clone() + &forged), &memtest), "{message} about another address");
        assert!(!wish_for_a_memory_test(&moves_the_card, &memtest), "{message} about a network beside");
    }
}

/// There nothing else is known here of addresses.
#[test]
fn beside_another_server_port_4011_says_whose_an_address_is() {
    let memtest = sent(2000, "10.78.0.50", "memtest-efi");
    let asked = |message, mac| answered(message, 1000, mac, "10.78.0.50");
    assert!(!wish_for_a_memory_test(&asked("BOOT-SERVER", MAC), &memtest));
    assert!(wish_for_a_memory_test(&asked("BOOT-SERVER", OTHER), &memtest));
    assert!(wish_for_a_memory_test(&asked("INFORM", MAC), &memtest));
    assert!(wish_for_a_memory_test(&asked("ACK", MAC), &memtest), "no lease is ours to give there");
}
