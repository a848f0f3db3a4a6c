//! What a person sees of a decision about a disk.

use std::fmt::Write as _;

use boot_model::DiskSerial;
use disk_layout::{LayoutSpec, OnRefuse, Policy, Reason, Verdict};

use super::{Decision, Disk};
use crate::console;

/// All candidates, and the decision with its reasons.
pub(super) fn decision(decision: &Decision) -> String {
    let mut text = String::from("rookery: disks of this machine:\n");
    for note in &decision.notes {
        let _ = writeln!(text, "  {note}");
    }
    if let Some(disk) = &decision.disk {
        let _ = write!(text, "rookery: {}: {}", disk.device.display(), decision.verdict);
    } else {
        let _ = write!(text, "rookery: no disk: {}", decision.verdict);
    }
    match &decision.verdict {
        Verdict::Recreate { why, .. } => why.iter().for_each(|why| {
            let _ = write!(text, "\n  because {why}");
        }),
        Verdict::Refuse(reasons) => reasons.iter().for_each(|reason| {
            let _ = write!(text, "\n  because {reason}");
        }),
        Verdict::Match(_) | Verdict::Create(_) => {}
    }
    text
}

/// The screen in front of which somebody stands and wonders.
pub(super) fn refusal(spec: &LayoutSpec, decision: &Decision, reasons: &[Reason]) -> String {
    let rule = "=".repeat(78);
    let title = match decision.disk {
        Some(_) => "THIS MACHINE'S DISK WAS NOT TOUCHED",
        None => "THIS MACHINE HAS NO DISK THAT MAY BE USED",
    };
    let mut text = format!("\n{rule}\n  {title}\n\n");
    let disks = match &decision.disk {
        Some(disk) => vec![describe(disk)],
        None if decision.notes.is_empty() => vec!["none".to_owned()],
        None => decision.notes.clone(),
    };
    for (index, disk) in disks.iter().enumerate() {
        let _ = writeln!(text, "  {}{disk}", if index == 0 { "disk:      " } else { "           " });
    }
    for (index, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "  {}{reason}", if index == 0 { "found:     " } else { "           " });
    }
    let _ = writeln!(
        text,
        "  expected:  a blank disk, or one of site {} and role {} (layout version {})",
        spec.site, spec.role, spec.version
    );
    for (index, line) in what_to_do(spec, decision.disk.as_ref(), reasons).iter().enumerate() {
        let _ = writeln!(text, "  {}{line}", if index == 0 { "to do:     " } else { "           " });
    }
    let _ = writeln!(
        text,
        "  now:       {}\n{rule}",
        match spec.on_refuse {
            OnRefuse::Halt => "the boot stops here",
            OnRefuse::Reboot => "the machine starts again",
        }
    );
    text
}

/// What helps, by what was found. Nothing where each reason says itself what to change.
fn what_to_do(spec: &LayoutSpec, disk: Option<&Disk>, reasons: &[Reason]) -> Vec<String> {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let driver = [
        "set the storage mode in the firmware's setup to AHCI or NVMe instead of RAID, RST",
        "or VMD; or add the driver of the controller to the initrd; or look at the cable",
    ];
    match reasons.first() {
        Some(Reason::NoDisk) => lines(&driver),
        Some(Reason::NoneSuitable) => {
            let listed = ["above stands of each disk why it is not taken. If the one you mean is not among them,"];
            lines(&[listed.as_slice(), &driver].concat())
        }
        Some(
            Reason::Mbr
            | Reason::FirstSector
            | Reason::Gpt { .. }
            | Reason::DamagedGpt(_)
            | Reason::NotOurPartition { .. }
            | Reason::UnreadableEntries
            | Reason::OtherRole { .. }
            | Reason::Signature(_)
            | Reason::Data(_),
        ) => match consentable(disk).filter(|_| spec.policy == Policy::Wipe && !reasons.contains(&Reason::ManySpent)) {
            Some(serial) => vec![
                "if all data on it may go, say so on the server, and boot again:".to_owned(),
                format!("  rookery boot-once <host> reinstall --disk-serial {}", quoted(serial.as_str())),
                "if it may not, take the disk out, or start this machine from it".to_owned(),
            ],
            None => lines(&[
                "if all data on it may go, start a rescue system, erase the disk (`wipefs -a`, then",
                "zero its first and last MiB, or `blkdiscard`) and boot again; if it may not,",
                "take the disk out, or start this machine from it",
            ]),
        },
        _ => Vec::new(),
    }
}

/// The serial number by which a person can consent to the disk's being erased; some drives have none.
fn consentable(disk: Option<&Disk>) -> Option<DiskSerial> {
    disk?.facts.serial.as_ref()?.parse().ok()
}

/// One word of a shell. A drive says of itself what it likes, and this line is typed as root.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn describe(disk: &Disk) -> String {
    format!(
        "{}, {}, serial {}, {}",
        disk.device.display(),
        disk.facts.model.as_deref().unwrap_or("unknown model"),
        disk.facts.serial.as_deref().unwrap_or("unknown"),
        console::bytes(disk.facts.size),
    )
}

#[cfg(test)]
mod tests {
    use disk_layout::DiskFacts;

    use super::*;

    fn shown(policy: &str, serial: Option<&str>, reasons: Vec<Reason>) -> String {
        let spec = format!(
            r#"{{"version": 3, "site": "school", "role": "lab", "policy": "{policy}", "partitions":
                [{{"label": "nb-nix", "type": "0fc63daf-8483-4772-8e79-3d69d8477de4", "size": {{"min-mib": 64}}, "fs": "ext4"}}]}}"#
        );
        let spec: LayoutSpec = serde_json::from_str(&spec).unwrap();
        let facts = DiskFacts { serial: serial.map(str::to_owned), ..DiskFacts::default() };
        let disk = (!matches!(reasons[0], Reason::NoDisk | Reason::NoneSuitable | Reason::SeveralOurs(_)))
            .then(|| Disk { device: "/dev/sda".into(), facts });
        let verdict = Verdict::Refuse(reasons.clone());
        refusal(&spec, &Decision { disk, verdict, consent: None, notes: Vec::new() }, &reasons)
    }

    #[test]
    fn what_to_do_follows_from_what_was_found() {
        let (erase, driver, consent) =
            ("rescue system", "AHCI or NVMe", "boot-once <host> reinstall --disk-serial 'S 1'");
        let usual = "create-if-blank-or-ours";
        let partition = Reason::NotOurPartition { number: 5, label: "D".to_owned(), mib: 9 };
        let table = [
            (usual, Some("S 1"), vec![Reason::Mbr], Some(erase)),
            (usual, Some("S 1"), vec![partition.clone()], Some(erase)),
            ("wipe", Some("S 1"), vec![Reason::Mbr, Reason::NoConsent], Some(consent)),
            ("wipe", Some("S 1"), vec![partition, Reason::NoConsent], Some(consent)),
            ("wipe", Some("S 1"), vec![Reason::Mbr, Reason::ManySpent], Some(erase)),
            ("wipe", None, vec![Reason::Mbr, Reason::NoConsent], Some(erase)),
            (usual, None, vec![Reason::NoDisk], Some(driver)),
            ("wipe", None, vec![Reason::NoneSuitable], Some(driver)),
            ("wipe", Some("S 1"), vec![Reason::SeveralOurs("sda, sdb".to_owned())], None),
            ("wipe", Some("S 1"), vec![Reason::TooSmall { size_mib: 1, needed_mib: 2 }], None),
            (usual, Some("S 1"), vec![Reason::ReadOnly], None),
            (usual, Some("S 1"), vec![Reason::WouldLose("home".to_owned())], None),
        ];
        for (policy, serial, reasons, expected) in table {
            let text = shown(policy, serial, reasons.clone());
            for advice in [erase, driver, consent] {
                assert_eq!(text.contains(advice), expected == Some(advice), "{policy} {reasons:?}: {advice}\n{text}");
            }
            assert_eq!(text.contains("to do:"), expected.is_some(), "{reasons:?}: {text}");
            for reason in reasons {
                assert!(text.contains(&reason.to_string()), "{text}");
            }
        }
    }

    #[test]
    fn a_serial_number_is_one_word_for_the_shell() {
        for (serial, word) in [("S 1", "'S 1'"), ("$(id)`id`\\", r"'$(id)`id`\'"), ("x'; id '", r"'x'\''; id '\'''")] {
            let text = shown("wipe", Some(serial), vec![Reason::Mbr, Reason::NoConsent]);
            assert!(text.contains(&format!("--disk-serial {word}\n")), "{text}");
        }
    }
}
