//! What docs/configuration.md tells another DHCP server to send is what the engine sends.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::BTreeSet;

use boot_model::Firmware;
use common::*;
use dhcp_engine::Policy;

/// One row of the table, for one architecture.
struct Row {
    client: String,
    architecture: u16,
    next_server: String,
    file: String,
}

#[test]
fn the_table_and_the_snippet_say_what_the_engine_does() {
    let page = include_str!("../../../docs/configuration.md");
    let (_, section) = page.split_once("### Where another server names the boot file").unwrap();
    let (table, rest) = section.split_once("```ini\n").unwrap();
    let snippet: Vec<&str> = rest.split("```").next().unwrap().lines().collect();
    let rows: Vec<Row> = table.lines().filter(|line| line.starts_with('|')).skip(2).flat_map(rows).collect();
    assert_eq!(rows.len(), 8);
    let mut named = BTreeSet::new();
    for row in &rows {
        let told = told(row);
        assert_eq!(told, row.file, "{} of architecture {}", row.client, row.architecture);
        assert_eq!(row.next_server.is_empty(), told.starts_with("http://"), "{}", row.client);
        let tags = match row.client.starts_with("iPXE") {
            true => "tag:ipxe".to_owned(),
            false => format!("tag:!ipxe,tag:{}", tag(&snippet, row.architecture)),
        };
        let server = if row.next_server.is_empty() { String::new() } else { format!(",,{SERVER}") };
        let line = format!("dhcp-boot={tags},{told}{server}");
        assert!(snippet.contains(&line.as_str()), "the snippet lacks {line}");
        named.insert(line);
    }
    assert_eq!(snippet.iter().filter(|line| line.starts_with("dhcp-boot=")).count(), named.len());
}

fn rows(line: &str) -> Vec<Row> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let architectures = if cells[2] == "any" { "0, 7" } else { cells[2] };
    let row = |architecture: &str| Row {
        client: cells[1].to_owned(),
        architecture: architecture.parse().unwrap(),
        next_server: cells[3].to_owned(),
        file: cells[4].trim_matches('`').to_owned(),
    };
    architectures.split(", ").map(row).collect()
}

/// The file that the engine names to the client of this row.
fn told(row: &Row) -> String {
    let discover = Packet::new(ANN, DISCOVER);
    let http = format!("HTTPClient:Arch:{:05}:UNDI:003001", row.architecture);
    let packet = match row.client.split(':').next().unwrap() {
        "iPXE" => pxe(discover, row.architecture).with(77, b"iPXE"),
        "UEFI HTTP boot" => discover.with(60, http.as_bytes()).with(93, &row.architecture.to_be_bytes()),
        _ => pxe(discover, row.architecture),
    };
    let outcome = Room::new(usual()).hear(0, &packet);
    let reply = reply(&outcome);
    assert_eq!(reply[20..24], SERVER.octets());
    if row.client.contains("HTTP boot") {
        assert_eq!(option(reply, 60).unwrap(), b"HTTPClient");
    }
    String::from_utf8(option(reply, 67).unwrap()).unwrap().trim_end_matches('\0').to_owned()
}

/// The loaders that are taken unless the administrator says otherwise.
fn usual() -> Policy {
    let mut policy = policy();
    let loaders = [
        (Firmware::Bios, "lpxelinux.0"),
        (Firmware::UefiIa32, "efi32/syslinux.efi"),
        (Firmware::UefiX64, "snponly.efi"),
        (Firmware::UefiArm64, "grubaa64.efi"),
        (Firmware::HttpX64, "snponly.efi"),
    ];
    policy.boot.loaders = loaders.map(|(firmware, file)| (firmware, file.to_owned())).into();
    policy
}

/// How the snippet calls this architecture.
fn tag<'a>(snippet: &[&'a str], architecture: u16) -> &'a str {
    let ending = format!(",option:client-arch,{architecture}");
    let matching = |line: &&'a str| line.strip_prefix("dhcp-match=set:")?.strip_suffix(&ending);
    snippet.iter().find_map(matching).unwrap_or_else(|| panic!("no tag for architecture {architecture}"))
}
