use std::time::Duration;

use boot_model::Timestamp;
use publish::{Collected, Collection, Collector, Tally};
use serde_json::{Value, json};
use service::Failure;

use crate::arguments::GcArguments;
use crate::output::{Output, bytes};
use crate::progress;
use crate::site::Site;

/// Removes what no published generation needs.
pub(crate) fn collect(site: &Site, output: Output, arguments: &GcArguments) -> Result<(), Failure> {
    let collection = Collection {
        grace: Duration::from_hours(u64::from(arguments.grace)),
        now: Timestamp::from_unix_millis(service::unix_millis()),
        dry_run: arguments.dry_run,
    };
    let collected = Collector { layout: &site.layout, report: &progress::hear_waiting }.collect(&collection)?;
    output.answer(|| text(&collected, arguments), || json(&collected, arguments.dry_run))
}

fn text(collected: &Collected, arguments: &GcArguments) -> String {
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    let Collected { packs, narinfos, bundles, leftovers, waiting } = collected;
    let mut text = format!(
        "{verb} {}, {}, {}, {}\n",
        tally(packs, "packs"),
        tally(narinfos, "narinfos and listings"),
        tally(bundles, "bundles"),
        tally(leftovers, "unfinished files"),
    );
    if waiting.files > 0 {
        text +=
            &format!("{} wait until {} hours after they were needed last\n", tally(waiting, "files"), arguments.grace);
    }
    text
}

fn tally(tally: &Tally, what: &str) -> String {
    match tally.files {
        0 => format!("no {what}"),
        files => format!("{files} {what} ({})", bytes(tally.bytes)),
    }
}

fn json(collected: &Collected, dry_run: bool) -> Value {
    let tally = |tally: Tally| json!({ "files": tally.files, "bytes": tally.bytes });
    json!({
        "dry-run": dry_run,
        "packs": tally(collected.packs),
        "narinfos": tally(collected.narinfos),
        "bundles": tally(collected.bundles),
        "leftovers": tally(collected.leftovers),
        "waiting": tally(collected.waiting),
    })
}
