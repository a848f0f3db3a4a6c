//! Whatever labels, titles and parameters hold: a rendered menu, read as the loader reads it, has the entries and directives of its
//! model and nothing else. `integration/fuzz` holds `check` to whatever libFuzzer finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

pub(crate) mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use boot_model::intent::{Intent, Next};
use boot_model::{KernelParameter, Label, MacAddr, Nonce};
use common::grub;
use common::ipxe::Script;
use common::pxelinux::Configuration;
use common::{Draft, SITE, Site};
use config::Config;
use generations::Snapshot;
use menu_generator::{Action, Boot, Composer, Item, Loader, Menu, Rendered};
use proptest::prelude::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MAC: &str = "52:54:00:77:00:01";

/// Texts that loaders could misread, between ordinary ones.
fn words() -> impl Strategy<Value = String> {
    let hostile = prop::sample::select(vec![
        "^",
        "^^A",
        "${",
        "${net0/mac}",
        "}",
        "#",
        "#x",
        ";",
        "&&",
        "||",
        "|",
        "\\",
        "--default",
        "--",
        "-",
        "ENDTEXT",
        "LABEL x",
        "MENU END",
        "APPEND y",
        "\"",
        "'",
        "%s",
        "ü",
        "\u{1f40d}",
        "\u{a0}",
        "  ",
        ":failed",
        "!",
        "..",
        "{}",
        "$",
        "initrd",
    ]);
    let ordinary = "[ -~]{0,12}";
    let piece = prop_oneof![hostile.prop_map(str::to_owned), ordinary];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn label() -> impl Strategy<Value = String> {
    words().prop_filter("a label", |text| text.parse::<Label>().is_ok())
}

fn parameters() -> impl Strategy<Value = Vec<String>> {
    let plain = words().prop_filter("a parameter", |text| text.parse::<KernelParameter>().is_ok());
    let quoted = words()
        .prop_map(|text| format!("x=\"{text}\""))
        .prop_filter("a parameter", |text| text.parse::<KernelParameter>().is_ok());
    prop::collection::vec(prop_oneof![plain, quoted], 0..6)
}

pub(crate) fn site(title: &str) -> Site {
    site_with(title, "")
}

/// With these settings of the role, too.
fn site_with(title: &str, settings: &str) -> Site {
    let title = format!("title = {}\n{settings}", serde_json::to_string(title).unwrap());
    let config = SITE.replace("title = \"Physics lab – Zürich\"\n", &title);
    let site = Site::new(&config, &format!("[[host]]\nmac = \"{MAC}\"\nname = \"pc-01\"\nrole = \"lab\"\n"));
    site.install_memtest();
    site
}

/// What a role may say of its menu besides the texts.
fn settings() -> impl Strategy<Value = String> {
    let serial = prop::sample::select(vec!["", "ttyS0,115200", "ttyS2,9600", "ttyS4,115200", "ttyAMA0,115200"]);
    (any::<bool>(), any::<bool>(), serial).prop_map(|(locked, memtest, serial)| {
        let serial = if serial.is_empty() { String::new() } else { format!("serial-console = \"{serial}\"\n") };
        format!("locked = {locked}\nmemtest = {memtest}\n{serial}")
    })
}

/// The model, and the host's file.
fn model_and_text(site: &Site, loader: Loader) -> (Menu, String) {
    Reading::of(site).model_and_text(loader)
}

/// A site as it is read once for all loaders.
struct Reading {
    config: Config,
    snapshot: Snapshot,
    intents: BTreeMap<MacAddr, Intent>,
    rendered: Rendered,
}

impl Reading {
    fn of(site: &Site) -> Self {
        let (config, snapshot, rendered) = (site.config(), site.snapshot(), site.rendered());
        Self { config, snapshot, intents: site.intents(), rendered }
    }

    fn model_and_text(&self, loader: Loader) -> (Menu, String) {
        let Self { config, snapshot, intents, rendered } = self;
        let (server, mac) = (format!("{SERVER}:8080").parse().unwrap(), MAC.parse().unwrap());
        let composer = Composer { config, snapshot, loader, server, memtest: true };
        let host = config.hosts.iter().next().unwrap();
        let menu = composer.host(&config.roles[0], host, intents.get(&mac), &mut BTreeSet::new());
        (menu, rendered.files[&loader.file(SERVER, Some(mac))].to_string())
    }
}

fn boots(menu: &Menu) -> Vec<(&Item, &Boot)> {
    fn boot(item: &Item) -> Option<(&Item, &Boot)> {
        if let Action::Boot(boot) = &item.action { Some((item, boot)) } else { None }
    }
    menu.items.iter().filter_map(boot).collect()
}

fn count(menu: &Menu, action: &Action) -> usize {
    menu.items.iter().filter(|item| item.action == *action).count()
}

/// The line that loaders are told of: one of the four whose place they know.
fn serial(menu: &Menu) -> Option<(u8, u32)> {
    let console = menu.serial_console.as_ref()?;
    Some((console.unit().filter(|unit| *unit < 4)?, console.baud()))
}

/// What the memory test is given.
fn memtest_words(menu: &Menu) -> Vec<String> {
    let console = menu.serial_console.iter().filter(|_| serial(menu).is_some());
    console.map(|console| format!("console={console}")).collect()
}

/// Each loader's menu of the site's host, beside its model.
pub(crate) fn check(site: &Site) {
    let reading = Reading::of(site);
    type Check = fn(&Menu, &str);
    let checks: [(Loader, Check); 4] = [
        (Loader::Pxelinux, |menu, text| check_pxelinux(menu, text, Loader::Pxelinux)),
        (Loader::SyslinuxEfi, |menu, text| check_pxelinux(menu, text, Loader::SyslinuxEfi)),
        (Loader::Ipxe, check_ipxe),
        (Loader::Grub, check_grub),
    ];
    for (loader, check) in checks {
        let (menu, text) = reading.model_and_text(loader);
        check(&menu, &text);
    }
}

fn check_pxelinux(menu: &Menu, text: &str, loader: Loader) {
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    let read = Configuration::parse(text);
    assert_eq!(read.astray, [""; 0]);
    assert_eq!(read.submenus, [""; 0]);
    assert_eq!(read.timeout, (menu.timeout_seconds > 0).then(|| u32::from(menu.timeout_seconds) * 10));
    assert_eq!(read.no_escape, menu.locked);
    let ports = ["1016", "760", "1000", "744"];
    let told = serial(menu).filter(|_| loader == Loader::Pxelinux);
    assert_eq!(read.serial, told.map(|(unit, baud)| format!("{} {baud}", ports[usize::from(unit)])));
    let entries: Vec<_> = read.entries.iter().filter(|entry| !entry.disabled).collect();
    assert_eq!(read.entries.len() - entries.len(), menu.notes.len());
    assert_eq!(entries.len(), menu.items.len());
    for (n, (entry, item)) in entries.iter().zip(&menu.items).enumerate() {
        assert_eq!(entry.id, item.id);
        assert_eq!(entry.default, menu.default == Some(n));
        assert!(entry.label.len() + entry.indent <= 68 && !entry.label.contains('^'), "{}", entry.label);
        assert_eq!(entry.help.len(), item.detail.len());
        assert_eq!(entry.local, item.action == Action::LocalDisk);
        if let Action::Boot(boot) = &item.action {
            assert_eq!(entry.kernel.as_deref(), Some(url(&boot.kernel).as_str()));
            assert_eq!(entry.initrd.as_deref(), Some(url(&boot.initrd).as_str()));
            assert_eq!(entry.append.as_deref(), Some(boot.command_line.as_str()));
        }
        if item.action == Action::Memtest {
            let program = if loader == Loader::Pxelinux { "memtest-bios" } else { "memtest-efi" };
            assert_eq!(entry.kernel.as_deref(), Some(url(program).as_str()));
            assert_eq!(entry.append, memtest_words(menu).pop());
        }
    }
}

fn check_ipxe(menu: &Menu, text: &str) {
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    let script = Script::parse(text);
    let boots = boots(menu);
    let (local, memtest) = (count(menu, &Action::LocalDisk), count(menu, &Action::Memtest));
    let gaps = script.all("item").filter(|item| item.words[0] == "--gap").count();
    let known = [
        ("set", 1 + 2 * memtest),
        ("menu", 1),
        ("item", menu.items.len() + gaps),
        ("choose", 1),
        ("kernel", boots.len() + memtest),
        ("initrd", boots.len()),
        ("boot", boots.len() + memtest),
        ("exit", 2 * local),
        ("iseq", 1 + local + memtest),
        ("imgfree", 1),
        ("echo", 1),
        ("sleep", 1),
        ("prompt", 1),
        ("chain", 2),
    ];
    for (name, expected) in known {
        assert_eq!(script.all(name).count(), expected, "{name}");
    }
    let foreign: Vec<_> =
        script.commands.iter().filter(|c| c.name != "goto" && !known.iter().any(|(name, _)| c.name == *name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");

    let items: Vec<_> = script.all("item").filter(|item| item.words[0] != "--gap").collect();
    for (read, item) in items.iter().zip(&menu.items) {
        assert_eq!(read.words[0], item.id);
        assert!(read.text(1).len() <= 68);
        assert!(script.labels.contains(&item.id));
    }
    for (read, (_, boot)) in script.all("kernel").zip(&boots) {
        assert_eq!(read.words[0], url(&boot.kernel));
        let expected = format!("initrd=initrd {} BOOTIF=01-<netX/mac:hexhyp>", boot.command_line);
        assert_eq!(read.text(1), expected);
    }
    for read in script.all("kernel").skip(boots.len()) {
        assert_eq!(read.words[0], url("<memtest>"));
        assert_eq!(read.words[1..], memtest_words(menu));
    }
    for (read, (_, boot)) in script.all("initrd").zip(&boots) {
        assert_eq!(read.words, ["--name", "initrd", url(&boot.initrd).as_str()]);
    }
    let own = ["netX/mac:hexhyp", "netX/mac", "chosen", "buildarch", "platform", "memtest"];
    assert!(script.expanded.iter().all(|name| own.contains(&name.as_str())), "{:?}", script.expanded);
}

fn url(name: &str) -> String {
    format!("http://{SERVER}:8080/{name}")
}

fn check_grub(menu: &Menu, text: &str) {
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    let script = grub::Script::parse(text);
    let boots = boots(menu);
    let (local, memtest) = (count(menu, &Action::LocalDisk), count(menu, &Action::Memtest));
    let (locked, serial) = (usize::from(menu.locked), serial(menu));
    let starts = boots.len() + memtest;
    let lines = usize::from(serial.is_some());
    let known = [
        ("set", 2 + locked),
        ("export", locked),
        ("serial", lines),
        ("terminal_input", lines),
        ("terminal_output", lines),
        ("menuentry", menu.items.len() + menu.notes.len()),
        ("true", menu.notes.len()),
        ("linux", boots.len()),
        ("initrd", boots.len()),
        ("for", local),
        ("search", local),
        ("chainloader", local + memtest),
        ("done", local),
        ("boot", starts + local),
        ("exit", local),
        ("echo", 2 * starts),
        ("sleep", starts),
        ("reboot", starts + count(menu, &Action::LookAgain)),
        ("fi", starts + boots.len() + 2 * local + lines),
    ];
    for (name, expected) in known {
        assert_eq!(script.all(name).count(), expected, "{name}");
    }
    for (read, (unit, baud)) in script.all("serial").zip(serial) {
        assert_eq!(read, [format!("--unit={unit}"), format!("--speed={baud}")]);
    }
    let foreign: Vec<_> = script.commands.iter().filter(|c| !known.iter().any(|(name, _)| c[0] == *name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    for (read, item) in script.all("menuentry").skip(menu.notes.len()).zip(&menu.items) {
        assert_eq!(read[1..], ["--id", item.id.as_str(), "--unrestricted"]);
        assert!(read[0].len() <= 68 + item.label.len() - item.label.trim_start().len());
    }
    for (read, (_, boot)) in script.all("linux").zip(&boots) {
        assert_eq!(read[0], format!("(tftp,{SERVER})/{}", boot.kernel));
        assert_eq!(read[1..].join(" "), format!("{} BOOTIF=<bootif>", boot.command_line));
    }
    for (read, (_, boot)) in script.all("initrd").zip(&boots) {
        assert_eq!(read, [format!("(tftp,{SERVER})/{}", boot.initrd)]);
    }
    let memory_test = format!("(tftp,{SERVER})/memtest-efi");
    for read in script.all("chainloader").filter(|read| read[0] != "(<disk>)<loader>") {
        assert_eq!(read[0], memory_test);
        assert_eq!(read[1..], memtest_words(menu));
    }
    assert!(script.expanded.iter().all(|name| ["bootif", "disk", "loader"].contains(&name.as_str())));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_can_be_smuggled_into_a_menu(
        title in label(),
        labels in prop::collection::vec((label(), parameters()), 1..4),
        specialisation in "[A-Za-z0-9][A-Za-z0-9._-]{0,20}",
        special in (label(), parameters()),
        settings in settings(),
        wish in prop::option::of(words()),
    ) {
        let site = site_with(&title, &settings);
        for (n, (label, parameters)) in labels.into_iter().enumerate() {
            let number = n as u32 + 8;
            let mut draft = Draft { label, parameters, ..Draft::new(number, char::from(b'a' + n as u8), "2026-11-20T14:03:00Z") };
            draft.specialisations.push((specialisation.clone(), special.0.clone(), special.1.clone()));
            site.publish(&draft);
        }
        // A disk's serial number is what its maker wrote.
        if let Some(serial) = wish.and_then(|serial| serial.parse().ok()) {
            site.wish(MAC, Next::Reinstall { serial, nonce: Nonce::new([7; 16]) });
        }
        check(&site);
    }
}

#[test]
fn a_parameter_that_one_loader_misreads_is_left_out_of_its_menu_and_named() {
    let site = site("Lab");
    let mut draft = Draft::new(42, 'a', "2026-11-20T14:03:00Z");
    draft.specialisations.push(("odd".to_owned(), "NixOS".to_owned(), vec!["x=${net0/mac}".to_owned()]));
    draft.specialisations.push(("long".to_owned(), "NixOS".to_owned(), vec!["x".repeat(1900)]));
    site.publish(&draft);
    let rendered = site.rendered();
    let said: Vec<String> = rendered.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said.iter().any(|text| text
        == "lab/42-aaaaaaaa [odd] is not in the menus for ipxe: iPXE would expand the ${ in it; change boot.kernelParams and publish it again"));
    assert_eq!(said.iter().filter(|text| text.contains("[long]") && text.contains("shorten")).count(), 4);
    assert_eq!(boots(&model_and_text(&site, Loader::Pxelinux).0).len(), 2);
    assert_eq!(boots(&model_and_text(&site, Loader::Ipxe).0).len(), 1);
}

#[test]
fn a_default_that_cannot_be_offered_gives_way_to_the_newest_that_can() {
    let site = site("Lab");
    let mut draft = Draft::new(1, 'a', "2026-11-20T14:03:00Z");
    draft.parameters.push("#x".to_owned());
    let default = site.publish(&draft);
    site.publish(&Draft::new(2, 'b', "2026-11-21T14:03:00Z"));
    site.set_default(&default);
    let (menu, _) = model_and_text(&site, Loader::Ipxe);
    assert_eq!(menu.default, Some(0));
    assert!(menu.items[0].id.starts_with("lab-2-") && !menu.items[0].label.ends_with('*'));
}

#[test]
fn limits_hold_for_the_longest_names() {
    let site = site(&"x".repeat(200));
    let mut draft = Draft { label: "y".repeat(200), ..Draft::new(u32::MAX, 'a', "2026-11-20T14:03:00Z") };
    draft.specialisations.push(("z".repeat(64), "v".repeat(200), vec![]));
    site.publish(&draft);
    let (menu, text) = model_and_text(&site, Loader::Pxelinux);
    check_pxelinux(&menu, &text, Loader::Pxelinux);
    for (item, boot) in boots(&menu) {
        assert!(item.label.starts_with("4294967295  2026-11-20  "), "{}", item.label);
        // FILENAME_MAX of syslinux is 256 with the NUL.
        assert!(url(&boot.kernel).len() <= 255 && url(&boot.initrd).len() <= 255);
    }
    let (menu, text) = model_and_text(&site, Loader::Ipxe);
    check_ipxe(&menu, &text);
}
