//! A person consents to a disk's being erased: once.

use boot_model::EraseConsent;
use disk_layout::{LayoutSpec, Policy, Reason, Verdict, objection};

use crate::simulator::{Dice, Disk, consent, partitions, spec};
use crate::verdicts::{blank, ours, windows};

const SECRET_AT: u64 = 6 << 20;
const CREATE: &str = "create-if-blank-or-ours";

fn reasons(disk: &Disk, spec: &LayoutSpec, consent: Option<&EraseConsent>) -> String {
    match disk.plan(spec, consent) {
        Verdict::Refuse(reasons) => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        other => format!("no refusal but {other}"),
    }
}

#[test]
fn policy_and_consent_must_both_say_so() {
    let (right, wrong) = (consent("S1", 7), consent("S2", 7));
    let table = [
        ("refuse-only", blank(), Some(&right), "refuse"),
        ("refuse-only", ours(1), Some(&right), "match"),
        ("refuse-only", ours(9), Some(&right), "refuse"),
        ("refuse-only", windows(256), Some(&right), "refuse"),
        (CREATE, blank(), Some(&right), "create"),
        (CREATE, ours(1), None, "match"),
        (CREATE, ours(1), Some(&wrong), "match"),
        (CREATE, ours(1), Some(&right), "recreate"),
        (CREATE, windows(256), Some(&right), "refuse"),
        ("wipe", blank(), None, "create"),
        ("wipe", ours(1), None, "match"),
        ("wipe", ours(1), Some(&wrong), "match"),
        ("wipe", ours(1), Some(&right), "recreate"),
        ("wipe", windows(256), None, "refuse"),
        ("wipe", windows(256), Some(&wrong), "refuse"),
        ("wipe", windows(256), Some(&right), "recreate"),
    ];
    for (policy, disk, consent, expected) in table {
        let spec = spec(1, policy, &partitions());
        assert_eq!(disk.plan(&spec, consent).to_string(), expected, "{policy} {consent:?}");
    }
    assert_eq!(spec(1, "wipe", &partitions()).policy, Policy::Wipe);
}

#[test]
fn a_refusal_names_the_key_that_is_missing() {
    let right = consent("S1", 7);
    let table = [
        (CREATE, Some(right.clone()), "the layout spec's policy is not `wipe`"),
        ("wipe", None, "nobody consented"),
        ("wipe", Some(consent("S2", 7)), "the consent names disk serial S2, this disk is S1"),
    ];
    for (policy, consent, expected) in table {
        let text = reasons(&windows(256), &spec(1, policy, &partitions()), consent.as_ref());
        assert!(text.contains("Basic data partition") && text.contains(expected), "{policy}: {text}");
    }
}

/// The menu of yesterday, or one whose end the server never heard of.
#[test]
fn none_is_honoured_twice() {
    let wipe = spec(1, "wipe", &partitions());
    for (name, mut disk) in [("somebody's", windows(256)), ("ours", ours(1)), ("blank", blank())] {
        let (first, second) = (consent("S1", 1), consent("S1", 2));
        disk.apply(&wipe, Some(&first), |_, _| {});
        assert!(matches!(disk.plan(&wipe, Some(&first)), Verdict::Match(_)), "{name}");
        assert_eq!(objection(&wipe, &disk.facts(), &first), Some(Reason::Spent(first.nonce)), "{name}");
        disk.apply(&wipe, Some(&second), |_, _| {});
        for spent in [&first, &second] {
            assert!(matches!(disk.plan(&wipe, Some(spent)), Verdict::Match(_)), "{name}, after a second consent");
        }
        // What is spent stays so under another layout, for another role, and behind a table of somebody else.
        disk.apply(&spec(2, "wipe", &partitions()), None, |_, _| {});
        let theirs = windows(256);
        let head = theirs.read(0, 1 << 20);
        let disk = disk.with(0, &head).with(255 << 20, &theirs.read(255 << 20, 1 << 20));
        for spent in [&first, &second] {
            let text = reasons(&disk, &wipe, Some(spent));
            assert!(text.contains("honoured on this disk before"), "{name}: {text}");
        }
    }
}

#[test]
fn what_is_to_be_kept_goes_only_where_policy_says_wipe() {
    for (policy, kept) in [(CREATE, true), ("wipe", false)] {
        let spec = spec(1, policy, &partitions());
        let mut disk = ours(1).with(SECRET_AT, b"host key").with((2 << 20) + 1024 + 0x78, b"persist");
        disk.apply(&spec, Some(&consent("S1", 1)), |_, _| {});
        let label = disk.read((2 << 20) + 1024 + 0x78, 7);
        assert_eq!(label == b"persist", kept, "{policy}: {label:?}");
        assert!(matches!(disk.plan(&spec, None), Verdict::Match(_)), "{policy}");
    }
}

/// A consent that can't be recorded is not honoured.
#[test]
fn a_disk_that_has_seen_too_many_takes_no_more() {
    let wipe = spec(1, "wipe", &partitions());
    let mut disk = blank();
    for nonce in 1..=u8::MAX {
        disk.apply(&wipe, Some(&consent("S1", nonce)), |_, _| {});
    }
    let facts = disk.facts();
    assert_eq!(objection(&wipe, &facts, &consent("S1", u8::MAX)), Some(Reason::ManySpent));
    assert_eq!(objection(&wipe, &facts, &consent("S1", 1)), Some(Reason::Spent(consent("S1", 1).nonce)));
}

/// Power goes at any moment of an erasing. Whatever was not flushed may be missing; then the machine boots with the same menu, or with
/// the usual one. The disk comes to match, and no later boot with the old menu erases it again; what was spent before stays spent.
#[test]
fn a_cut_leaves_no_consent_to_be_used_again() {
    let wipe = spec(1, "wipe", &partitions());
    let (earlier, now) = (consent("S1", 1), consent("S1", 2));
    let mut seen_before = ours(1);
    seen_before.apply(&wipe, Some(&earlier), |_, _| {});
    for (name, start) in [("somebody's", windows(256)), ("ours", seen_before)] {
        let mut cuts: Vec<(String, Disk)> = Vec::new();
        start.clone().apply(&wipe, Some(&now), |disk, place| {
            let mut dice = Dice(cuts.len() as u64);
            cuts.push((format!("{place}, nothing arrived"), disk.cut(|_| false)));
            cuts.push((format!("{place}, all arrived"), disk.cut(|_| true)));
            cuts.push((format!("{place}, some arrived"), disk.cut(|_| dice.flip())));
        });
        assert!(cuts.len() > 60, "{name}: only {} cuts", cuts.len());
        for (place, after) in cuts.iter().filter(|(_, after)| *after != start) {
            for (menu, offered) in [("the same menu", Some(&now)), ("the usual menu", None)] {
                let mut healed = after.clone();
                healed.apply(&wipe, offered, |_, _| {});
                assert!(matches!(healed.plan(&wipe, None), Verdict::Match(_)), "{name}, cut at {place}, {menu}");
                assert!(matches!(healed.plan(&wipe, Some(&now)), Verdict::Match(_)), "{name}, cut at {place}, {menu}");
                let old = healed.plan(&wipe, Some(&earlier));
                assert_eq!(matches!(old, Verdict::Match(_)), name == "ours", "{name}, cut at {place}, {menu}: {old:?}");
            }
        }
    }
}
