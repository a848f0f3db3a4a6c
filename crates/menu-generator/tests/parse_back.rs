//! Whatever labels, titles and parameters hold: a rendered menu, read as the loader reads it, has the entries and directives of its
//! model and nothing else. `integration/fuzz` holds `check` to whatever libFuzzer finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod checks;
pub(crate) mod common;

use std::collections::{BTreeMap, BTreeSet};

use boot_model::intent::{Intent, Next};
use boot_model::{Architecture, KernelParameter, Label, MacAddr, Nonce};
use checks::{SERVER, boots, url};
use common::{Draft, SITE, Site};
use config::Config;
use generations::Snapshot;
use menu_generator::{Composer, Loader, Menu, Rendered};
use proptest::prelude::*;

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

/// Two roles of this title, between which unknown machines choose.
pub(crate) fn site(title: &str) -> Site {
    site_with([title, title], ["", ""])
}

/// With these titles and settings of the two.
fn site_with(titles: [&str; 2], settings: [&str; 2]) -> Site {
    let role = |n: usize| format!("title = {}\n{}", serde_json::to_string(titles[n]).unwrap(), settings[n]);
    let config = SITE
        .replace("title = \"Physics lab – Zürich\"\n", &role(0))
        .replace("name = \"staff\"\n", &format!("name = \"staff\"\n{}", role(1)))
        .replace("role = \"lab\" }", "menu = [\"lab\", \"staff\"] }");
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

/// Publishes what PCs start, and the same for 64-bit Arm.
pub(crate) fn publish(site: &Site, draft: &Draft) {
    let Draft { number, letter, .. } = *draft;
    // Of two generations neither the numbers nor the paths are the same.
    let letter = char::from(letter as u8 - b'a' + b'1');
    site.publish(draft);
    site.publish(&Draft { number: number + 100, letter, architecture: Architecture::Aarch64, ..draft.clone() });
}

/// The model, and the host's file.
fn model_and_text(site: &Site, loader: Loader) -> (Menu, String) {
    Reading::of(site).host(loader)
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

    fn host(&self, loader: Loader) -> (Menu, String) {
        let mac = MAC.parse().unwrap();
        let host = self.config.hosts.iter().next().unwrap();
        let menu =
            self.composer(loader).host(&self.config.roles[0], host, self.intents.get(&mac), &mut BTreeSet::new());
        (menu, self.text(loader, Some(mac)))
    }

    fn unknown(&self, loader: Loader) -> (Menu, String) {
        let menu = self.composer(loader).unknown(&self.config.subnets[0].unknown, &mut BTreeSet::new());
        (menu, self.text(loader, None))
    }

    fn composer(&self, loader: Loader) -> Composer<'_> {
        let Self { config, snapshot, .. } = self;
        Composer { config, snapshot, loader, server: format!("{SERVER}:8080").parse().unwrap(), memtest: true }
    }

    fn text(&self, loader: Loader, host: Option<MacAddr>) -> String {
        self.rendered.files[&loader.file(SERVER, host)].to_string()
    }
}

/// Each loader's menus of the site, that of its host and that of unknown machines, beside their models.
pub(crate) fn check(site: &Site) {
    let reading = Reading::of(site);
    for loader in Loader::ALL {
        for (menu, text) in [reading.host(loader), reading.unknown(loader)] {
            checks::check(loader, &menu, &text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_can_be_smuggled_into_a_menu(
        titles in [label(), label()],
        labels in prop::collection::vec((label(), parameters()), 1..4),
        specialisation in "[A-Za-z0-9][A-Za-z0-9._-]{0,20}",
        special in (label(), parameters()),
        settings in [settings(), settings()],
        both in any::<bool>(),
        wish in prop::option::of(words()),
    ) {
        let site = site_with([&titles[0], &titles[1]], [&settings[0], &settings[1]]);
        for (n, (label, parameters)) in labels.into_iter().enumerate() {
            let number = n as u32 + 8;
            let mut draft = Draft { label, parameters, ..Draft::new(number, char::from(b'a' + n as u8), "2026-11-20T14:03:00Z") };
            draft.specialisations.push((specialisation.clone(), special.0.clone(), special.1.clone()));
            publish(&site, &draft);
            if both {
                publish(&site, &Draft { role: "staff", ..draft });
            }
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
    check(&site);
    let (menu, _) = model_and_text(&site, Loader::Pxelinux);
    for (item, boot) in boots(&menu) {
        assert!(item.label.starts_with("4294967295  2026-11-20  "), "{}", item.label);
        // FILENAME_MAX of syslinux is 256 with the NUL.
        assert!(url(&boot.kernel).len() <= 255 && url(&boot.initrd).len() <= 255);
    }
}
