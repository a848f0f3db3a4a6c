//! What carries a consent to erase a disk, and what ends the wish for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

use boot_model::intent::Next;
use boot_model::{GenerationRef, Nonce, Timestamp};
use common::{CREATED, Draft, HOSTS, SITE, Site};
use menu_generator::{Intents, Loader, Rendered};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MAC: &str = "52:54:00:77:00:01";

const CONSENT: &str = "rookery.erase=52-54-00-77-00-01/07070707070707070707070707070707/S1";
const PROMISE: &str = "ERASES EVERYTHING on the disk with serial S1";

fn wishing() -> Site {
    let site = Site::new(SITE, HOSTS);
    site.wish(MAC, Next::Reinstall { serial: "S1".parse().unwrap(), nonce: Nonce::new([7; 16]) });
    site
}

fn menu(rendered: &Rendered, loader: Loader) -> &str {
    &rendered.files[&loader.file(SERVER, Some(MAC.parse().unwrap()))]
}

fn erasing(rendered: &Rendered) -> Vec<String> {
    let generations = rendered.erasing.get(&MAC.parse().unwrap());
    generations.into_iter().flatten().map(ToString::to_string).collect()
}

#[test]
fn the_entry_that_is_booted_unasked_carries_the_consent() {
    let site = wishing();
    let mut draft = Draft::new(1, 'a', "2026-11-20T14:03:00Z");
    // iPXE would read a comment, and so has no entry for the role's default.
    draft.parameters.push("#x".to_owned());
    let default = site.publish(&draft);
    site.publish(&Draft::new(2, 'b', "2026-11-21T14:03:00Z"));
    site.set_default(&default);
    let rendered = site.rendered();
    for (loader, carries) in
        [(Loader::Pxelinux, "lab/1-aaaaaaaa"), (Loader::Grub, "lab/1-aaaaaaaa"), (Loader::Ipxe, "lab/2-bbbbbbbb")]
    {
        let text = menu(&rendered, loader);
        assert!(text.contains(PROMISE), "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(CONSENT)).collect();
        assert!(lines.len() == 1 && lines[0].contains(carries), "{loader}: {lines:?}");
    }
    assert_eq!(erasing(&rendered), ["lab/1-aaaaaaaa", "lab/2-bbbbbbbb"]);
}

#[test]
fn a_command_line_without_room_for_the_consent_boots_as_usual_and_promises_nothing() {
    let site = wishing();
    let mut draft = Draft::new(1, 'a', "2026-11-20T14:03:00Z");
    draft.parameters.push("x".repeat(1580));
    site.publish(&draft);
    let rendered = site.rendered();
    for loader in [Loader::Pxelinux, Loader::SyslinuxEfi, Loader::Ipxe, Loader::Grub] {
        let text = menu(&rendered, loader);
        assert!(text.contains("rookery.generation=lab/1-aaaaaaaa"), "{text}");
        assert!(!text.contains("rookery.erase=") && !text.contains("ERASES"), "{text}");
    }
    assert_eq!(erasing(&rendered), [""; 0]);
    let said: Vec<String> = rendered.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with(
        "lab/1-aaaaaaaa cannot carry the consent to erase in the menus for pxelinux, so nothing is erased: "
    ));
}

/// What nar-cache writes of a report, this many milliseconds after the wish, of a kernel that was started a second before.
fn reported(site: &Site, later: u64, generation: &str) {
    let time = Timestamp::from_unix_millis(CREATED + later);
    let folder = site.layout.events("nar-cache");
    fs::create_dir_all(&folder).unwrap();
    let line = format!(
        "{{\"time\":\"{time}\",\"mac\":\"{MAC}\",\"address\":\"10.77.0.50\",\"event\":\"report\",\"report\":{{\"mac\":\"{MAC}\",\
         \"boot-id\":1,\"generation\":\"{generation}\",\"step\":\"network\",\"status\":\"started\",\"uptime-ms\":1000}}}}\n"
    );
    let before = fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
    fs::write(folder.join("events.jsonl"), before + &line).unwrap();
}

fn carrying(generations: &[&str]) -> BTreeMap<boot_model::MacAddr, BTreeSet<GenerationRef>> {
    BTreeMap::from([(MAC.parse().unwrap(), generations.iter().map(|text| text.parse().unwrap()).collect())])
}

/// Whether the wish stands.
fn stands(site: &Site, intents: &mut Intents) -> bool {
    intents.refresh(Timestamp::from_unix_millis(CREATED + 60_000));
    assert_eq!(site.layout.intent(MAC.parse().unwrap()).exists(), !intents.active().is_empty());
    !intents.active().is_empty()
}

#[test]
fn only_a_generation_that_carried_the_consent_ends_the_wish() {
    let site = wishing();
    let mut intents = Intents::new(&site.layout, &[]);
    assert!(stands(&site, &mut intents));
    intents.carried(carrying(&["lab/1-aaaaaaaa"]));
    reported(&site, 5000, "lab/2-bbbbbbbb");
    assert!(stands(&site, &mut intents), "somebody chose an entry without it");
    reported(&site, 500, "lab/1-aaaaaaaa");
    assert!(stands(&site, &mut intents), "the boot before");
    reported(&site, 6000, "lab/1-aaaaaaaa");
    assert!(!stands(&site, &mut intents));
}

#[test]
fn a_new_default_does_not_make_a_boot_of_the_old_one_unheard() {
    let site = wishing();
    let mut intents = Intents::new(&site.layout, &[]);
    assert!(stands(&site, &mut intents));
    intents.carried(carrying(&["lab/1-aaaaaaaa"]));
    assert!(stands(&site, &mut intents));
    intents.carried(carrying(&["lab/2-bbbbbbbb"]));
    reported(&site, 5000, "lab/1-aaaaaaaa");
    assert!(!stands(&site, &mut intents));
}

/// What it was before that is not known, so what stands now counts.
#[test]
fn a_report_that_came_while_the_service_was_down_is_heard_when_the_menus_stand() {
    let site = wishing();
    reported(&site, 5000, "lab/1-aaaaaaaa");
    let mut intents = Intents::new(&site.layout, &[]);
    assert!(stands(&site, &mut intents), "no menu stands");
    intents.carried(carrying(&["lab/1-aaaaaaaa"]));
    assert!(!stands(&site, &mut intents));
}

#[test]
fn a_reinstall_that_no_menu_carries_stands() {
    let site = wishing();
    let mut intents = Intents::new(&site.layout, &[]);
    assert!(stands(&site, &mut intents));
    intents.carried(BTreeMap::new());
    reported(&site, 5000, "lab/1-aaaaaaaa");
    assert!(stands(&site, &mut intents));
}
