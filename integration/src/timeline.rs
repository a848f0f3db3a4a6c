//! One boot as the thirteen steps of docs/boot-flow.md, with seconds and bytes.
//!
//! Nothing here is measured by the lab's own presence: each moment is an event that a service wrote, a line that the client
//! printed, or a report that it sent.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use boot_model::event::{Content, Event, EventKind};
use boot_model::report::{Status, Step as ClientStep};
use serde::Serialize;

use crate::client::Machine;
use crate::log::{Line, Log};

/// What was seen of one boot, all on the log's clock.
#[derive(Debug, Default)]
pub struct Observed {
    /// When the machine was switched on.
    pub on: Duration,
    /// What the services wrote about this client.
    pub events: Vec<(Duration, Event)>,
    /// What the client printed.
    pub console: Vec<Line>,
}

/// A boot, step by step.
#[derive(Debug, Clone, Serialize)]
pub struct Timeline {
    /// In order. Steps that were not seen have no time.
    pub steps: Vec<Step>,
    /// From switching on to the running system's own report.
    pub total_seconds: Option<f64>,
    /// From switching on to the login prompt, which is no step: the console's program waits until services are quiet.
    pub login_seconds: Option<f64>,
    /// What crossed the wire.
    pub traffic: Traffic,
}

/// One of the steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its number in docs/boot-flow.md.
    pub number: &'static str,
    /// What happens.
    pub what: &'static str,
    /// Seconds from switching on to its end.
    pub at_seconds: Option<f64>,
    /// Seconds since the end of the last step that was seen.
    pub took_seconds: Option<f64>,
    /// Payload bytes that services sent in it; none where nothing is downloaded.
    pub bytes: Option<u64>,
}

/// Payload that services sent to the client, as they counted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Boot loader, its modules and menus, by TFTP and HTTP.
    pub loader_bytes: u64,
    /// Kernels and initrds.
    pub boot_bytes: u64,
    /// Facts about the generation and its paths: generation.json, closure manifest, narinfos.
    pub facts_bytes: u64,
    /// How often closure manifests were asked for.
    pub manifests: u64,
    /// Update bundles.
    pub bundle_bytes: u64,
    /// Packed store paths.
    pub nar_bytes: u64,
    /// How many packed store paths were sent, in one response or in parts.
    pub nars: u64,
    /// How many transfers of packed store paths and bundles began where an earlier one had ended.
    pub resumed: u64,
}

/// The line that Linux prints first.
const LINUX: &str = "Linux version";
/// The first line of the lab's stage 1, and of its stage 2.
const STAGE_1: &str = "stage 1: start";
const STAGE_2: &str = "stage 2: /nix/store";
/// The last line of its stage 2.
const SYSTEMD: &str = "stage 2: systemd starts";
const LOGIN: &str = "login:";

impl Timeline {
    /// What a machine that was switched on at `on` has printed, and `events` of it.
    pub fn of_machine(log: &Log, machine: &Machine, on: Duration, events: Vec<Event>) -> Self {
        let console = log.since(machine.started());
        Self::of(&Observed {
            on,
            events: events.into_iter().map(|event| (log.at_unix_millis(event.time.unix_millis()), event)).collect(),
            console: console.into_iter().filter(|line| line.source == machine.name()).collect(),
        })
    }

    /// Orders what was seen.
    pub fn of(observed: &Observed) -> Self {
        let traffic = Traffic::of(observed.events.iter().map(|(_, event)| event));
        let printed = |text: &str| observed.console.iter().find(|line| line.text.contains(text)).map(|line| line.at);
        let reported = |step| observed.last(|kind| is_done(kind, step));
        let offered = |kind: &EventKind| matches!(kind, EventKind::Dhcp { message, .. } if message == "OFFER");
        let facts = traffic.fetched_bytes();
        let mut steps = Steps { on: observed.on, previous: observed.on, rows: Vec::new() };
        steps.add("1", "firmware starts and asks the network", observed.first(offered), None);
        steps.add("2", "address and boot file", observed.answered(), None);
        steps.add("3", "loader and menu", observed.loaded(), Some(traffic.loader_bytes));
        steps.add("4", "menu", observed.chosen(), None);
        steps.add("5", "kernel and initrd", observed.last(is_boot_file), Some(traffic.boot_bytes));
        steps.add("6", "kernel starts", printed(STAGE_1).or_else(|| printed(LINUX)), None);
        steps.add("7", "stage 1: modules and network", reported(ClientStep::Network), None);
        steps.add("8", "disk layout", reported(ClientStep::Disk), None);
        steps.add("9", "file systems", reported(ClientStep::Mount), None);
        steps.add("10", "closure", reported(ClientStep::Fetch), Some(facts));
        steps.add("11", "stage 1 ends", printed(STAGE_2), None);
        steps.add("12", "activation", printed(SYSTEMD), None);
        let running = observed.last(|kind| is_done(kind, ClientStep::Running));
        steps.add("13", "the running system reports itself", running, None);
        let total_seconds = running.map(|at| seconds(at.saturating_sub(observed.on)));
        let login_seconds = printed(LOGIN).map(|at| seconds(at.saturating_sub(observed.on)));
        Self { steps: steps.rows, total_seconds, login_seconds, traffic }
    }
}

impl Traffic {
    /// Adds up what services wrote.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut sum = Self::default();
        let mut nars = BTreeSet::new();
        for event in events {
            match &event.kind {
                EventKind::Tftp { bytes, .. } if is_boot_file(&event.kind) => sum.boot_bytes += bytes,
                EventKind::Tftp { bytes, .. } => sum.loader_bytes += bytes,
                EventKind::Http { path, content, bytes, complete, status, .. } => {
                    sum.add(*content, *bytes);
                    sum.manifests += u64::from(*content == Content::Generation && path.ends_with("/closure"));
                    if *content == Content::Nar && *complete {
                        nars.insert(path);
                    }
                    let is_bulk = matches!(content, Content::Nar | Content::Bundle);
                    sum.resumed += u64::from(is_bulk && *status == 206);
                }
                EventKind::Dhcp { .. } | EventKind::Report { .. } => {}
            }
        }
        sum.nars = nars.len() as u64;
        sum
    }

    /// Everything that a fetch asks for.
    pub fn fetched_bytes(&self) -> u64 {
        self.facts_bytes + self.bundle_bytes + self.nar_bytes
    }

    const fn add(&mut self, content: Content, bytes: u64) {
        match content {
            Content::Menu | Content::Loader => self.loader_bytes += bytes,
            Content::Boot => self.boot_bytes += bytes,
            Content::Generation | Content::Narinfo => self.facts_bytes += bytes,
            Content::Bundle => self.bundle_bytes += bytes,
            Content::Nar => self.nar_bytes += bytes,
            Content::Error => {}
        }
    }
}

impl Observed {
    fn first(&self, is: impl Fn(&EventKind) -> bool) -> Option<Duration> {
        self.events.iter().find(|(_, event)| is(&event.kind)).map(|(at, _)| *at)
    }

    fn last(&self, is: impl Fn(&EventKind) -> bool) -> Option<Duration> {
        self.events.iter().rfind(|(_, event)| is(&event.kind)).map(|(at, _)| *at)
    }

    /// The first answer that ends the firmware's questions with a file's name. Beside another server that may be an offer.
    fn answered(&self) -> Option<Duration> {
        let named = |kind: &EventKind, offer| matches!(kind, EventKind::Dhcp { message, boot_file: Some(_), .. } if (message == "OFFER") == offer);
        self.first(|kind| named(kind, false)).or_else(|| self.first(|kind| named(kind, true)))
    }

    /// The end of the last loader's or menu's file before the kernel was asked for.
    fn loaded(&self) -> Option<Duration> {
        let chosen = self.chosen();
        let before = self.events.iter().filter(|(at, _)| chosen.is_none_or(|chosen| *at <= chosen));
        before.filter(|(_, event)| is_loader_file(&event.kind)).map(|(at, _)| *at).max()
    }

    /// The request for the first kernel or initrd: somebody, or the time-out, has chosen.
    fn chosen(&self) -> Option<Duration> {
        let (at, event) = self.events.iter().find(|(_, event)| is_boot_file(&event.kind))?;
        match event.kind {
            EventKind::Http { milliseconds, .. } | EventKind::Tftp { milliseconds, .. } => {
                Some(at.saturating_sub(Duration::from_millis(milliseconds)))
            }
            EventKind::Dhcp { .. } | EventKind::Report { .. } => None,
        }
    }
}

fn is_loader_file(kind: &EventKind) -> bool {
    match kind {
        EventKind::Tftp { outcome, .. } => outcome == "done" && !is_boot_file(kind),
        EventKind::Http { content, .. } => matches!(content, Content::Menu | Content::Loader),
        EventKind::Dhcp { .. } | EventKind::Report { .. } => false,
    }
}

/// A kernel or initrd; Debian's signed GRUB has no HTTP.
fn is_boot_file(kind: &EventKind) -> bool {
    match kind {
        EventKind::Http { content, .. } => *content == Content::Boot,
        EventKind::Tftp { file, .. } => file.starts_with("boot/"),
        EventKind::Dhcp { .. } | EventKind::Report { .. } => false,
    }
}

fn is_done(kind: &EventKind, step: ClientStep) -> bool {
    matches!(kind, EventKind::Report { report } if report.step == step && report.status == Status::Ok)
}

struct Steps {
    on: Duration,
    previous: Duration,
    rows: Vec<Step>,
}

impl Steps {
    fn add(&mut self, number: &'static str, what: &'static str, end: Option<Duration>, bytes: Option<u64>) {
        let took_seconds = end.map(|end| seconds(end.saturating_sub(self.previous)));
        let at_seconds = end.map(|end| seconds(end.saturating_sub(self.on)));
        self.previous = end.unwrap_or(self.previous).max(self.previous);
        self.rows.push(Step { number, what, at_seconds, took_seconds, bytes });
    }
}

/// To the millisecond: what the clocks are worth.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        writeln!(f, "{:>4}  {:<38} {:>7} {:>7} {:>13}", "step", "", "at s", "took s", "bytes")?;
        for step in &self.steps {
            let (at, took) = (time(step.at_seconds), time(step.took_seconds));
            let bytes = step.bytes.map_or_else(String::new, |bytes| bytes.to_string());
            writeln!(f, "{:>4}  {:<38} {at:>7} {took:>7} {bytes:>13}", step.number, step.what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, json: &str) -> (Duration, Event) {
        let json = format!(r#"{{"time":"2026-11-23T02:35:07.250Z",{json}}}"#);
        (Duration::from_millis(at), serde_json::from_str(&json).unwrap())
    }

    fn line(at: u64, text: &str) -> Line {
        Line { at: Duration::from_millis(at), source: "client".into(), text: text.into() }
    }

    fn report(at: u64, step: &str) -> (Duration, Event) {
        let report = format!(
            r#""event":"report","report":{{"mac":"52:54:00:77:00:01","boot-id":1,"step":"{step}","status":"ok","uptime-ms":1}}"#
        );
        event(at, &report)
    }

    #[test]
    fn a_boot_in_order() {
        let http = |at, content: &str, bytes: u64, took: u64| {
            event(
                at,
                &format!(
                    r#""event":"http","path":"/x","content":"{content}","status":200,"bytes":{bytes},"complete":true,"milliseconds":{took}"#
                ),
            )
        };
        let observed = Observed {
            on: Duration::from_millis(1000),
            events: vec![
                event(3000, r#""event":"dhcp","message":"OFFER","boot-file":"lpxelinux.0","reason":"discover""#),
                event(3100, r#""event":"dhcp","message":"ACK","boot-file":"lpxelinux.0","reason":"selecting""#),
                event(
                    3500,
                    r#""event":"tftp","file":"lpxelinux.0","bytes":70000,"outcome":"done","block-size":1408,"window":1,"milliseconds":9"#,
                ),
                http(9500, "boot", 9_000_000, 500),
                http(10_000, "boot", 20_000_000, 400),
                report(15_000, "network"),
                http(16_000, "narinfo", 500, 1),
                http(17_000, "nar", 1_000_000, 100),
                report(18_000, "fetch"),
                report(30_000, "running"),
            ],
            console: vec![
                line(13_000, "stage 1: start"),
                line(20_000, "stage 2: /nix/store/x"),
                line(21_000, "stage 2: systemd starts [7.00 s]"),
                line(32_000, "lab login: "),
            ],
        };
        let timeline = Timeline::of(&observed);
        let ends: Vec<_> = timeline.steps.iter().map(|step| step.at_seconds).collect();
        let expected = [2.0, 2.1, 2.5, 8.0, 9.0, 12.0, 14.0].map(Some).into_iter();
        let expected = expected.chain([None, None, Some(17.0), Some(19.0), Some(20.0), Some(29.0)]);
        assert_eq!(ends, expected.collect::<Vec<_>>());
        assert_eq!(timeline.steps[9].took_seconds, Some(3.0), "steps that were not seen take no time");
        assert_eq!(timeline.steps[9].bytes, Some(1_000_500));
        assert_eq!((timeline.total_seconds, timeline.login_seconds), (Some(29.0), Some(31.0)));
        assert_eq!(timeline.traffic.nars, 1);
        assert_eq!(timeline.to_string().lines().count(), 14);
    }

    #[test]
    fn grub_brings_the_kernel_by_tftp() {
        let tftp = |at, file: &str, bytes: u64, took: u64| {
            event(
                at,
                &format!(
                    r#""event":"tftp","file":"{file}","bytes":{bytes},"outcome":"done","block-size":1408,"window":1,"milliseconds":{took}"#
                ),
            )
        };
        let events = vec![tftp(2000, "grub/x64.cfg", 500, 10), tftp(9000, "boot/lab/1-a/b", 8_000_000, 4000)];
        let timeline = Timeline::of(&Observed { events, ..Observed::default() });
        let ends: Vec<_> = timeline.steps[2..5].iter().map(|step| (step.at_seconds, step.bytes)).collect();
        assert_eq!(ends, [(Some(2.0), Some(500)), (Some(5.0), None), (Some(9.0), Some(8_000_000))]);
    }
}
