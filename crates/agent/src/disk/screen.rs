//! What a person sees of a decision about a disk.

use std::fmt::Write as _;

use disk_layout::{LayoutSpec, OnRefuse, Reason, Verdict};

use super::{Decision, Disk};
use crate::console;

const WHAT_TO_DO: [&str; 3] = [
    "what to do: if the data may go, start a rescue system, erase the disk (`wipefs -a`, then",
    "           zero its first and last MiB, or `blkdiscard`) and boot again; if it may not,",
    "           take the disk out, or start this machine from it",
];

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
    let mut text = format!("\n{rule}\n  THIS MACHINE'S DISK WAS NOT TOUCHED\n\n");
    let _ = writeln!(text, "  disk:      {}", decision.disk.as_ref().map_or_else(|| "none".to_owned(), describe));
    for (index, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "  {}{reason}", if index == 0 { "found:     " } else { "           " });
    }
    let _ = writeln!(
        text,
        "  expected:  a blank disk, or one of site {} and role {} (layout version {})",
        spec.site, spec.role, spec.version
    );
    for line in WHAT_TO_DO {
        let _ = writeln!(text, "  {line}");
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

fn describe(disk: &Disk) -> String {
    format!(
        "{}, {}, serial {}, {}",
        disk.device.display(),
        disk.facts.model.as_deref().unwrap_or("unknown model"),
        disk.facts.serial.as_deref().unwrap_or("unknown"),
        console::bytes(disk.facts.size),
    )
}
