//! Power goes at any moment, and of what was not flushed anything may be missing.

use crate::simulator::{Dice, Disk, consent, partitions, spec};
use boot_model::EraseConsent;
use disk_layout::{LayoutSpec, Verdict};

const SECRET_AT: u64 = 6 << 20;

/// Cuts everywhere; whatever is left must be the untouched disk or ours, never refused, and must be brought to a match.
fn survives(name: &str, start: &Disk, spec: &LayoutSpec, consent: Option<&EraseConsent>, secret: Option<&[u8]>) {
    let mut cuts: Vec<(String, Disk)> = Vec::new();
    let mut disk = start.clone();
    disk.apply(spec, consent, |disk, place| {
        cuts.push((format!("{place}, nothing arrived"), disk.cut(|_| false)));
        cuts.push((format!("{place}, all arrived"), disk.cut(|_| true)));
        for seed in 0..2 {
            let mut dice = Dice(seed);
            cuts.push((format!("{place}, seed {seed}"), disk.cut(|_| dice.flip())));
        }
    });
    assert!(matches!(disk.plan(spec, None), Verdict::Match(_)), "{name}: {:?}", disk.plan(spec, None));
    assert!(cuts.len() > 80, "{name}: only {} cuts", cuts.len());
    for (place, after) in cuts {
        if after == *start {
            continue;
        }
        let verdict = after.plan(spec, None);
        let acceptable =
            matches!(verdict, Verdict::Recreate { .. }) || (matches!(verdict, Verdict::Match(_)) && after == disk);
        assert!(acceptable, "{name}, cut at {place}: {verdict:?}");
        let mut healed = after;
        healed.apply(spec, None, |_, _| {});
        assert!(
            matches!(healed.plan(spec, None), Verdict::Match(_)),
            "{name}, cut at {place}, then {:?}",
            healed.plan(spec, None)
        );
        if let Some(secret) = secret {
            assert_eq!(healed.read(SECRET_AT, secret.len()), secret, "{name}, cut at {place}");
        }
    }
}

#[test]
fn a_blank_disk() {
    for sector in [512, 4096] {
        let spec = spec(1, "create-if-blank-or-ours", &partitions());
        survives(&format!("blank, sectors of {sector}"), &Disk::blank(256, sector), &spec, None, None);
    }
}

#[test]
fn our_disk_with_an_older_spec() {
    let mut disk = Disk::blank(256, 512);
    disk.apply(&spec(1, "create-if-blank-or-ours", &partitions()), None, |_, _| {});
    let disk = disk.with(SECRET_AT, b"host key");
    survives("older spec", &disk, &spec(2, "create-if-blank-or-ours", &partitions()), None, Some(b"host key"));
}

#[test]
fn somebody_elses_disk_with_consent() {
    let consent = consent("S1", 1);
    let mut old = Disk::blank(256, 512);
    let theirs: LayoutSpec = serde_json::from_str(&format!(
        r#"{{"version":1,"site":"other","role":"lab","partitions":[{}]}}"#,
        partitions()
    ))
    .unwrap();
    old.apply(&theirs, None, |_, _| {});
    let old = old.with((256 << 20) - (64 << 10), &[0xfc, 0x4e, 0x2b, 0xa9]).with(65_600, b"_BHRfS_M");
    survives("with consent", &old, &spec(1, "wipe", &partitions()), Some(&consent), None);
}

#[test]
fn our_disk_with_a_partition_of_somebodys_with_consent() {
    let (spec, consent) = (crate::strangers::roomy(2, "wipe"), consent("S1", 1));
    survives("shared, with consent", &crate::strangers::with_windows(), &spec, Some(&consent), None);
}

#[test]
fn twice_in_a_row() {
    let spec = spec(1, "create-if-blank-or-ours", &partitions());
    let mut states = Vec::new();
    let mut dice = Dice(11);
    Disk::blank(256, 512).apply(&spec, None, |disk, _| states.push(disk.cut(|_| dice.flip())));
    for (index, state) in states.iter().enumerate().step_by(60) {
        if matches!(state.plan(&spec, None), Verdict::Match(_)) {
            continue;
        }
        survives(&format!("cut before, state {index}"), state, &spec, None, None);
    }
}

#[test]
fn a_claim_left_behind_does_not_make_a_later_table_ours() {
    let spec = spec(1, "create-if-blank-or-ours", &partitions());
    let mut claimed = None;
    Disk::blank(256, 512).apply(&spec, None, |disk, place| {
        if place == "step 1: flushed" {
            claimed = Some(disk.clone());
        }
    });
    let claimed = claimed.unwrap();
    assert!(matches!(claimed.plan(&spec, None), Verdict::Recreate { .. }));
    // Some tool keeps the boot code of the first sector and writes its own table behind it.
    let later = claimed.with(512, b"EFI PART whatever");
    assert!(matches!(later.plan(&spec, None), Verdict::Refuse(_)), "{:?}", later.plan(&spec, None));
}
