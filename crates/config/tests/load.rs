//! What is accepted, with which defaults, and what each mistake is answered with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

use std::fs;
use std::path::Path;

use config::{ClassBoot, Config, ConfigError, Dhcpd, Mode, NarCache, Publish, Tftpd, Unknown, load};

const MINIMAL: &str = "[[subnet]]\ninterface = \"eth0\"\naddress = \"10.77.0.1/24\"\n";

fn load_text(text: &str, hosts: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rookery.toml");
    fs::write(&file, text).unwrap();
    fs::create_dir(directory.path().join("hosts.d")).unwrap();
    for (name, text) in hosts {
        fs::write(directory.path().join("hosts.d").join(name), text).unwrap();
    }
    load(&file)
}

/// The message without the directory, which differs from run to run.
fn refusal(text: &str, hosts: &[(&str, &str)]) -> String {
    let message = load_text(text, hosts).unwrap_err().to_string();
    let at = message.find("rookery.toml").or_else(|| message.find("hosts.d/")).unwrap();
    message[at..].to_owned()
}

#[test]
fn the_shipped_example_is_complete_and_right() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rookery.example.toml");
    let config = load(&example).unwrap();
    assert_eq!(config.hosts.len(), 2);
    assert_eq!(config.subnets[0].unknown, Unknown::Role("lab".parse().unwrap()));
    // Every key that `print-config` shows is explained in the example, so none can be added and not told.
    let text = fs::read_to_string(&example).unwrap()
        + &fs::read_to_string(example.with_file_name("hosts.d/physics-lab.toml")).unwrap();
    for line in config.to_toml().lines().filter(|line| line.contains('=')) {
        let key = line.split('=').next().unwrap().trim();
        assert!(text.contains(&format!("{key} = ")), "{key} is missing in the example");
    }
}

#[test]
fn empty_sections_are_the_defaults() {
    let config = load_text(&format!("[publish]\n[dhcpd]\n[tftpd]\n[nar-cache]\n{MINIMAL}"), &[]).unwrap();
    let defaults = (Publish::default(), Dhcpd::default(), Tftpd::default(), NarCache::default());
    assert_eq!((config.publish, config.dhcpd, config.tftpd, config.nar_cache), defaults);
    assert_eq!(config.state_directory, Path::new("/var/lib/rookery"));
    assert_eq!(config.subnets[0].lease_seconds, 43_200);
    assert_eq!(config.subnets[0].unknown, Unknown::Nothing);
}

#[test]
fn what_print_config_prints_is_a_configuration() {
    let text = format!(
        "{MINIMAL}pools = [\"10.77.0.100-10.77.0.199\"]\nunknown = {{ menu = [\"lab\"] }}\n[[role]]\nname = \"lab\"\n"
    );
    let config = load_text(&text, &[]).unwrap();
    // Hosts have files of their own, so the empty list is no part of rookery.toml.
    let printed = config.to_toml().replace("host = []\n", "");
    assert_eq!(load_text(&printed, &[]).unwrap(), config, "{printed}");
}

#[test]
fn classes_are_read_as_they_are_written() {
    let text = format!(
        "{MINIMAL}[[class]]\nname = \"Office ports\"\ncircuit = [\"ge-0/0/7\", \"0x0004000A0102\"]\nboot = \"nothing\"\n\
         [[class]]\nname = \"Old cards\"\nfirmware = [\"uefi-x64\"]\nmac = [\"3C:d9:2b\"]\nvendor-class = [\"PXEClient\"]\n\
         user-class = [\"a\"]\nboot = {{ loader = \"efi64/syslinux.efi\" }}\n"
    );
    let config = load_text(&text, &[]).unwrap();
    assert_eq!(config.classes[0].boot, ClassBoot::Nothing);
    assert_eq!(config.classes[0].circuit[1].to_string(), "0x0004000a0102");
    assert_eq!(config.classes[1].mac[0].bytes(), [0x3c, 0xd9, 0x2b]);
    let printed = config.to_toml().replace("host = []\n", "");
    assert_eq!(load_text(&printed, &[]).unwrap(), config, "{printed}");
    let class = |keys: &str| refusal(&format!("{MINIMAL}[[class]]\nname = \"a\"\n{keys}\n"), &[]);
    for (keys, message) in [
        ("boot = \"nothing\"", "the class a has none of firmware, mac, vendor-class, user-class and circuit"),
        ("vendor-class = [\"\"]\nboot = \"nothing\"", "or an empty one, so it would be every machine's"),
        ("mac = [\"3c:d9:2\"]\nboot = \"nothing\"", "class.mac: \"3c:d9:2\" is no beginning of a MAC address"),
        ("mac = [\"\"]\nboot = \"nothing\"", "\"\" is no beginning of a MAC address"),
        ("circuit = [\"a b\"]\nboot = \"nothing\"", "\"a b\" is no circuit: write what the relay agent sends"),
        ("mac = [\"3c\"]\nboot = { loader = \"../x\" }", "\"../x\" is no file of loaders/"),
        ("mac = [\"3c\"]\nboot = { loader = \"/x\" }", "\"/x\" is no file of loaders/"),
        ("mac = [\"3c\"]", "missing field `boot`"),
    ] {
        let got = class(keys);
        assert!(got.contains(message), "{got}");
    }
}

#[test]
fn every_mistake_names_line_key_and_cure() {
    let role = "[[role]]\nname = \"lab\"\n";
    for (text, message) in [
        (
            "stat-directory = \"/x\"\n".to_owned(),
            "rookery.toml:1: stat-directory: unknown field `stat-directory`, expected one of `state-directory`",
        ),
        (
            "[dhcpd]\nlease-identity = \"duid\"\n".to_owned(),
            "rookery.toml:2: dhcpd.lease-identity: unknown variant `duid`, expected `mac` or `client-id`",
        ),
        (
            "[tftpd]\nport = 70000\n".to_owned(),
            "rookery.toml:2: tftpd.port: invalid value: integer `70000`, expected u16",
        ),
        (
            MINIMAL.replace("10.77.0.1/24", "10.77.0.1"),
            "rookery.toml:3: subnet.address: \"10.77.0.1\" is no address with its network's size; write it as 10.77.0.1/24",
        ),
        (
            format!("{MINIMAL}pools = [\"10.78.0.1-10.78.0.9\"]\n"),
            "rookery.toml:4: subnet.pools: the pool 10.78.0.1-10.78.0.9 does not lie within the subnet's network 10.77.0.0/24",
        ),
        (
            format!("{MINIMAL}pools = [\"10.77.0.1-10.77.0.9\"]\n"),
            "holds the server's own address 10.77.0.1; leave it out",
        ),
        (
            format!("{MINIMAL}pools = [\"10.77.0.20-10.77.0.9\"]\n"),
            "the range's end 10.77.0.9 is below its start 10.77.0.20; exchange the two",
        ),
        (
            format!("{MINIMAL}pools = [\n \"10.77.0.10-10.77.0.19\",\n \"10.77.0.19-10.77.0.29\",\n]\n"),
            "rookery.toml:6: subnet.pools: the pool 10.77.0.19-10.77.0.29 overlaps 10.77.0.10-10.77.0.19; join the two",
        ),
        (
            format!("{MINIMAL}pools = [\n # dns = here\n \"10.77.0.1-10.77.0.9\",\n]\n"),
            "rookery.toml:6: subnet.pools: the pool 10.77.0.1-10.77.0.9 holds the server's own address",
        ),
        (
            "[[subnet]]\ninterface = \"eth0\"\naddress = \"10.0.0.1/8\"\n\
             pools = [\"10.1.0.0-10.15.255.255\", \"10.16.0.0-10.16.255.255\", \"10.17.0.0-10.17.0.0\"]\n"
                .to_owned(),
            "rookery.toml:4: subnet.pools: with the pool 10.17.0.0-10.17.0.0 the subnet has 1048577 addresses to give; 1048576",
        ),
        (
            "[nar-cache]\nmax-connections = 0\n".to_owned(),
            "rookery.toml:2: nar-cache.max-connections: 0 is out of range; write a number from 1 to 65535",
        ),
        (
            "[publish]\ncompression-level = 22\n".to_owned(),
            "rookery.toml:2: publish.compression-level: 22 is out of range; write a number from 1 to 19",
        ),
        ("[tftpd]\nmax-transfers = 0\n".to_owned(), "rookery.toml:2: tftpd.max-transfers: 0 is out of range"),
        ("[tftpd]\nmax-window = 0\n".to_owned(), "rookery.toml:2: tftpd.max-window: 0 is out of range"),
        (
            "[tftpd]\nmax-block-size = 511\n".to_owned(),
            "rookery.toml:2: tftpd.max-block-size: 511 is out of range; write a number from 512 to 65464",
        ),
        (
            format!("{MINIMAL}router = \"10.0.0.1\"\n"),
            "rookery.toml:4: subnet.router: 10.0.0.1 is not in the subnet's network 10.77.0.0/24",
        ),
        (format!("{MINIMAL}domain = \"lab..org\"\n"), "is no domain name"),
        (format!("{MINIMAL}lease-seconds = 5\n"), "a lease lasts 60 seconds to a year"),
        (
            format!("{MINIMAL}unknown = {{ role = \"lba\" }}\n{role}"),
            "rookery.toml:4: subnet.unknown: there is no role lba; the roles are lab",
        ),
        (format!("{MINIMAL}unknown = {{ menu = [] }}\n"), "a menu of no roles"),
        (
            format!("{MINIMAL}{MINIMAL}"),
            "rookery.toml:6: subnet.address: its network 10.77.0.0/24 overlaps 10.77.0.0/24",
        ),
        (MINIMAL.replace("eth0", "eth 0"), "is no name of a network interface"),
        (format!("{role}{role}"), "rookery.toml:4: role.name: the role lab is there already"),
        (
            "[[role]]\nname = \"Lab\"\n".to_owned(),
            "rookery.toml:2: role.name: \"Lab\" is no role name: use 1 to 32 lower-case letters",
        ),
        (
            "[[role]]\nname = \"lab\"\ntitle = \"a\\nb\"\n".to_owned(),
            "rookery.toml:3: role.title: the label \"a\\nb\" holds the control character",
        ),
        (
            "[[role]]\n\nname = \"lab\"\nmenu-generations = 0\n".to_owned(),
            "rookery.toml:4: role.menu-generations: a menu shows at least one generation",
        ),
        ("[publish\n".to_owned(), "rookery.toml:1:"),
    ] {
        let refusal = refusal(&text, &[]);
        assert!(refusal.contains(message), "{text}\n{refusal}\n{message}");
    }
}

#[test]
fn every_mistake_in_hosts_names_its_file_too() {
    let site = format!("{MINIMAL}[[role]]\nname = \"lab\"\n");
    let one = "[[host]]\nmac = \"52:54:00:77:00:01\"\nname = \"pc01\"\naddress = \"10.77.0.11\"\n";
    for (second, message) in [
        (one.to_owned(), "hosts.d/b.toml:2: host.mac: 52:54:00:77:00:01 is the card of host pc01 already"),
        (
            one.replace("00:01", "00:02"),
            "hosts.d/b.toml:3: host.name: the host with the card 52:54:00:77:00:01 is called pc01 already",
        ),
        (
            one.replace("00:01", "00:02").replace("pc01", "pc02"),
            "hosts.d/b.toml:4: host.address: 10.77.0.11 is the address of host pc01 already",
        ),
        (
            "[[host]]\nmac = \"52:54:00:77:00\"\nname = \"pc02\"\n".to_owned(),
            "hosts.d/b.toml:2: host.mac: \"52:54:00:77:00\" is no MAC address: write six pairs",
        ),
        (
            "[[host]]\nmac = \"52:54:00:77:00:02\"\nname = \"pc02\"\nrole = \"lba\"\n".to_owned(),
            "hosts.d/b.toml:4: host.role: there is no role lba; the roles are lab",
        ),
        (
            "[[host]]\nmac = \"52:54:00:77:00:02\"\nname = \"pc02\"\naddress = \"10.78.0.2\"\n".to_owned(),
            "10.78.0.2 is in the network of no [[subnet]]",
        ),
        (
            "[[host]]\nmac = \"52:54:00:77:00:02\"\nname = \"pc02\"\naddress = \"10.77.0.1\"\n".to_owned(),
            "10.77.0.1 is this server's own address",
        ),
        (
            "[[host]]\nmac = \"52:54:00:77:00:02\"\nname = \"pc02\"\nrol = \"lab\"\n".to_owned(),
            "hosts.d/b.toml:4: host.rol: unknown field `rol`",
        ),
    ] {
        let refusal = refusal(&site, &[("a.toml", one), ("b.toml", &second), ("notes.txt", "not read")]);
        assert!(refusal.contains(message), "{second}\n{refusal}\n{message}");
    }
}

#[test]
fn hosts_are_reloaded() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rookery.toml");
    fs::write(&file, MINIMAL).unwrap();
    let config = load(&file).unwrap();
    assert!(config.hosts.is_empty());
    fs::create_dir(directory.path().join("hosts.d")).unwrap();
    fs::write(directory.path().join("hosts.d/a.toml"), "[[host]]\nmac = \"52-54-00-77-00-01\"\nname = \"pc01\"\n")
        .unwrap();
    let hosts = config.reload_hosts(&file).unwrap();
    let known: Vec<_> = hosts.iter().map(|host| (host.mac.to_string(), host.name.as_str())).collect();
    assert_eq!(known, [("52:54:00:77:00:01".to_owned(), "pc01")]);
}

#[test]
fn a_missing_file_is_named_with_the_way_out() {
    let message = load(Path::new("/nonexistent/rookery.toml")).unwrap_err().to_string();
    assert_eq!(
        message,
        "/nonexistent/rookery.toml: there is no such file; name one with --config, or start from deploy/rookery.example.toml"
    );
}

#[test]
fn another_servers_addresses_are_not_ours_to_pool() {
    let proxy = load_text(&format!("{MINIMAL}mode = \"proxy\"\n"), &[]).unwrap();
    assert_eq!((proxy.subnets[0].mode, load_text(MINIMAL, &[]).unwrap().subnets[0].mode), (Mode::Proxy, Mode::Full));
    let pooled = format!("{MINIMAL}mode = \"off\"\npools = [\"10.77.0.100-10.77.0.199\"]\n");
    assert!(refusal(&pooled, &[]).contains("another server gives the addresses"), "{}", refusal(&pooled, &[]));
    assert!(refusal(&format!("{MINIMAL}mode = \"half\"\n"), &[]).contains("rookery.toml:4"));
}

#[test]
fn a_network_behind_a_relay_agent_has_our_address_outside() {
    let behind = |rest: &str| format!("{MINIMAL}[[subnet]]\ninterface = \"eth0\"\naddress = \"10.77.0.1/24\"\n{rest}");
    let network = "network = \"10.78.0.0/24\"\n";
    let pool = "pools = [\"10.78.0.1-10.78.0.9\"]\nrouter = \"10.78.0.254\"\n";
    let config = load_text(&behind(&format!("{network}{pool}")), &[]).unwrap();
    assert_eq!(
        config.subnets.iter().map(|s| s.network.to_string()).collect::<Vec<_>>(),
        ["10.77.0.0/24", "10.78.0.0/24"]
    );
    assert_eq!(config.server_addresses(), [config.subnets[0].address.address()]);
    let host = "[[host]]\nmac = \"52:54:00:77:00:01\"\nname = \"pc01\"\naddress = \"10.78.0.20\"\n";
    load_text(&behind(network), &[("a.toml", host)]).unwrap();
    for (rest, message) in [
        ("network = \"10.78.0.1/24\"\n".to_owned(), "rookery.toml:7: subnet.network: \"10.78.0.1/24\" is no network"),
        ("network = \"10.77.0.0/16\"\n".to_owned(), "which this server is in itself; leave the key out"),
        (
            "network = \"10.77.0.0/24\"\n".to_owned(),
            "rookery.toml:7: subnet.network: its network 10.77.0.0/24 overlaps",
        ),
        (format!("{network}mode = \"proxy\"\n"), "relay agents are not heard in proxy mode"),
        (
            format!("{network}pools = [\"10.77.0.5-10.77.0.9\"]\n"),
            "does not lie within the subnet's network 10.78.0.0/24",
        ),
        (
            format!("{network}unknown = {{ role = \"lab\" }}\n[[role]]\nname = \"lab\"\n"),
            "rookery.toml:8: subnet.unknown: menus are told apart by this server's address, and 10.77.0.1 is that of 10.77.0.0/24 too",
        ),
    ] {
        let refusal = refusal(&behind(&rest), &[]);
        assert!(refusal.contains(message), "{rest}\n{refusal}\n{message}");
    }
}

#[test]
fn an_option_that_could_not_be_sent_is_refused_where_it_stands() {
    let line = |key: &str| refusal(&format!("{MINIMAL}{key}\n"), &[]);
    assert!(line("pxelinux-prefix = \"\"").contains("1 to 255 printable"));
    assert!(line("captive-portal = \"https://a b\"").contains("1 to 255 printable"));
    assert!(line("mtu = 9500").contains("576 bytes, which IPv4 wants, to 9216"));
    assert!(line("search = [\"lab.example.org\", \"a..b\"]").contains("is no domain name"));
    assert!(line("routes = [\"10.9.0.0/16 via 192.0.2.1\"]").contains("no client could reach it"));
    assert!(line("routes = [\"10.9.0.1/16 via 10.77.0.254\"]").contains("is no route"));
}
