//! Every kind of menu, for each loader, as it is written. UPDATE_GOLDEN=1 writes what is rendered now; look at the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use boot_model::intent::Next;
use boot_model::{Architecture, Nonce};
use common::{Draft, HOSTS, SITE, Site};
use generations::Layout;
use menu_generator::Loader;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

fn published() -> Site {
    published_for(HOSTS)
}

fn published_for(hosts: &str) -> Site {
    let site = Site::new(SITE, hosts);
    site.publish(&Draft::new(9, '9', "2026-10-02T09:30:00Z"));
    let default = site.publish(&Draft::new(41, 'a', "2026-11-20T09:12:00Z"));
    let mut newest = Draft::new(42, 'b', "2026-11-20T14:03:00Z");
    let parameters = vec!["systemd.log_level=debug".to_owned()];
    newest.specialisations.push(("debug".to_owned(), newest.label.clone(), parameters));
    site.publish(&newest);
    site.set_default(&default);
    site
}

/// What begins each machine's way to its menu.
#[test]
fn the_file_that_grub_reads_first() {
    golden(&Site::new(SITE, HOSTS).rendered().files[&Layout::grub_start(SERVER)], "start.grub");
}

/// A locked menu of a machine with settings of its own, and what was wished for its next boot.
#[test]
fn a_host_with_a_menu_of_its_own() {
    let hosts = HOSTS.replacen(
        "role = \"lab\"\n",
        "role = \"lab\"\nmenu = { locked = true, memtest = true, serial-console = \"ttyS1,57600\", kernel-parameters = [\"nomodeset\"], \
         default = \"9-99999999\" }\n",
        1,
    );
    let site = published_for(&hosts);
    site.install_memtest();
    compare(&site, "own", Some("52:54:00:77:00:01"));
}

#[test]
fn a_wish_for_the_next_boot() {
    let site = published();
    let serial = "S 1".parse().unwrap();
    site.wish("52:54:00:77:00:01", Next::Reinstall { serial, nonce: Nonce::new([7; 16]) });
    compare(&site, "reinstall", Some("52:54:00:77:00:01"));
    site.wish("52:54:00:77:00:01", Next::Generation { generation: "lab/9-99999999".parse().unwrap() });
    compare(&site, "once", Some("52:54:00:77:00:01"));
}

fn golden(text: &str, name: &str) {
    let golden = Path::new("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, text).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(text, expected, "{} differs", golden.display());
}

fn compare(site: &Site, name: &str, host: Option<&str>) {
    let rendered = site.rendered();
    assert!(rendered.left_out.is_empty(), "{:?}", rendered.left_out);
    for loader in Loader::ALL {
        let text = &rendered.files[&loader.file(SERVER, host.map(|mac| mac.parse().unwrap()))];
        golden(text, &format!("{name}.{loader}"));
    }
}

#[test]
fn a_host_with_a_role() {
    compare(&published(), "role", Some("52:54:00:77:00:01"));
}

#[test]
fn a_role_without_generations() {
    compare(&published(), "nothing-published", Some("52:54:00:77:00:02"));
}

#[test]
fn an_unregistered_machine() {
    let site = Site::new(&SITE.replace("unknown = { role = \"lab\" }", ""), HOSTS);
    compare(&site, "unregistered", None);
}

#[test]
fn a_menu_of_roles() {
    let site = Site::new(&SITE.replace("role = \"lab\" }", "menu = [\"lab\", \"staff\"] }"), HOSTS);
    site.publish(&Draft::new(1, 'a', "2026-11-20T14:03:00Z"));
    compare(&site, "roles", None);
}

#[test]
fn files_are_where_the_served_names_point() {
    let site = published();
    let rendered = site.rendered();
    let names: Vec<String> = rendered.files.keys().map(|path| path.display().to_string()).collect();
    // The printer has no role: it gets what its subnet gives to unknown machines.
    assert_eq!(
        names,
        [
            "10.77.0.1/efi/01-52-54-00-77-00-01",
            "10.77.0.1/efi/01-52-54-00-77-00-02",
            "10.77.0.1/efi/default",
            "10.77.0.1/grub/arm64/01-52-54-00-77-00-01.cfg",
            "10.77.0.1/grub/arm64/01-52-54-00-77-00-02.cfg",
            "10.77.0.1/grub/arm64/default.cfg",
            "10.77.0.1/grub/grub.cfg",
            "10.77.0.1/grub/x86_64/01-52-54-00-77-00-01.cfg",
            "10.77.0.1/grub/x86_64/01-52-54-00-77-00-02.cfg",
            "10.77.0.1/grub/x86_64/default.cfg",
            "10.77.0.1/ipxe/52-54-00-77-00-01.ipxe",
            "10.77.0.1/ipxe/52-54-00-77-00-02.ipxe",
            "10.77.0.1/ipxe/default.ipxe",
            "10.77.0.1/ipxe-arm64/52-54-00-77-00-01.ipxe",
            "10.77.0.1/ipxe-arm64/52-54-00-77-00-02.ipxe",
            "10.77.0.1/ipxe-arm64/default.ipxe",
            "10.77.0.1/pxelinux.cfg/01-52-54-00-77-00-01",
            "10.77.0.1/pxelinux.cfg/01-52-54-00-77-00-02",
            "10.77.0.1/pxelinux.cfg/default",
        ]
    );
}

#[test]
fn a_kernel_goes_only_to_loaders_that_start_it() {
    let site = Site::new(SITE, HOSTS);
    let draft = Draft { architecture: Architecture::Aarch64, ..Draft::new(1, 'a', "2026-11-20T14:03:00Z") };
    site.publish(&draft);
    let rendered = site.rendered();
    for (loader, starts) in Loader::ALL.into_iter().zip([false, false, false, true, false, true]) {
        let text = &rendered.files[&loader.file(SERVER, None)];
        assert_eq!(text.contains("init=/nix/store/"), starts, "{loader}");
        assert_eq!(text.contains("rookery publish lab"), !starts, "{loader}");
    }
}

#[test]
fn the_menu_shows_as_many_as_the_role_says_and_always_the_default() {
    let site = Site::new(&SITE.replace("local-disk = true", "menu-generations = 2"), HOSTS);
    let oldest = site.publish(&Draft::new(1, 'a', "2026-01-01T00:00:00Z"));
    for (number, letter) in [(2, 'b'), (3, 'c'), (4, 'd')] {
        site.publish(&Draft::new(number, letter, "2026-01-01T00:00:00Z"));
    }
    site.set_default(&oldest);
    let rendered = site.rendered();
    let menu = common::pxelinux::Configuration::parse(&rendered.files[&Loader::Pxelinux.file(SERVER, None)]);
    let shown: Vec<(&str, bool)> = menu.entries.iter().map(|entry| (entry.id.as_str(), entry.default)).collect();
    assert_eq!(shown, [("lab-4-dddddddd", false), ("lab-3-cccccccc", false), ("lab-1-aaaaaaaa", true)]);
}
