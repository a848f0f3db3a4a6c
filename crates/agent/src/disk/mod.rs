//! The verb `disk`: look at the disks, let `disk-layout` judge, and carry its steps out.

mod apply;
mod device;
mod facts;
mod screen;

use std::{
    fs,
    path::{Path, PathBuf},
};

use boot_model::report::Step as BootStep;
use disk_layout::{DiskFacts, LayoutSpec, Reason, Verdict};

use crate::{Exit, Failure, console, machine, machine::Machine, report::Reporter};

/// Options of `disk plan` and `disk apply`.
#[derive(Debug)]
pub(crate) struct DiskOptions {
    /// The layout spec, JSON.
    pub(crate) spec: PathBuf,
    /// A block device to judge instead of choosing one.
    pub(crate) disk: Option<PathBuf>,
}

/// What was decided, about which disk.
struct Decision {
    /// `None` if no disk could be chosen.
    disk: Option<Disk>,
    verdict: Verdict,
    /// A line for each disk that was looked at.
    notes: Vec<String>,
}

/// One disk: where it is, and what is known of it.
struct Disk {
    device: PathBuf,
    facts: DiskFacts,
}

impl Decision {
    fn device(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| disk.device.as_path())
    }
}

/// `disk plan`: says what would be done, and writes nothing.
pub(crate) fn plan(options: &DiskOptions) -> Result<(), Failure> {
    let spec = read_spec(options)?;
    let decision = decide(&spec, options)?;
    console::say(&screen::decision(&decision));
    match &decision.verdict {
        Verdict::Refuse(reasons) => Err(refusal(&spec, decision.device(), reasons)),
        _ => Ok(()),
    }
}

/// `disk apply`: makes the disk as the spec requires, or says why not.
pub(crate) fn apply(machine: &Machine, options: &DiskOptions) -> Result<(), Failure> {
    let reporter = Reporter::new(machine, BootStep::Disk);
    reporter.started();
    let outcome = read_spec(options).and_then(|spec| {
        let decision = decide(&spec, options)?;
        console::say(&screen::decision(&decision));
        carry_out(&spec, decision)
    });
    match &outcome {
        Ok(done) => reporter.ok(done),
        Err(failure) => reporter.failed(&failure.sentence),
    }
    outcome.map(|done| console::say(&format!("rookery: {done}")))
}

fn carry_out(spec: &LayoutSpec, decision: Decision) -> Result<String, Failure> {
    if let Verdict::Refuse(reasons) = &decision.verdict {
        console::say(&screen::refusal(spec, &decision, reasons));
        return Err(refusal(spec, decision.device(), reasons));
    }
    let Some(disk) = &decision.disk else {
        return Err(Failure::new(Exit::Failure, "no disk was chosen"));
    };
    let name = disk.device.display();
    // The everyday case: nothing is opened for writing.
    let idle = matches!(decision.verdict, Verdict::Match(_))
        && disk_layout::steps(spec, &disk.facts, &decision.verdict).is_empty();
    if idle {
        return Ok(format!("disk {name} is laid out as required"));
    }
    apply::apply(spec, disk)?;
    Ok(match decision.verdict {
        Verdict::Match(_) => format!("disk {name} is laid out as required, and its scratch space was made anew"),
        Verdict::Create(_) => format!("blank disk {name} was laid out"),
        _ => format!("disk {name} was laid out anew"),
    })
}

fn decide(spec: &LayoutSpec, options: &DiskOptions) -> Result<Decision, Failure> {
    let (mut disks, unreadable) = match &options.disk {
        Some(device) => (vec![facts::of_device(device)?], Vec::new()),
        None => facts::wait_for_any(),
    };
    let chosen = match &options.disk {
        Some(_) => disk_layout::Choice { disk: Ok(0), notes: vec!["given by --disk".to_owned()] },
        None => {
            let all: Vec<DiskFacts> = disks.iter().map(|disk| disk.facts.clone()).collect();
            disk_layout::choose(spec, &all)
        }
    };
    let notes = [chosen.notes, unreadable].concat();
    // The consent to erase comes with a later protocol; until then nobody has consented.
    let consent = None;
    Ok(match chosen.disk {
        Ok(index) => {
            let disk = disks.swap_remove(index);
            let verdict = disk_layout::plan(spec, &disk.facts, consent);
            Decision { disk: Some(disk), verdict, notes }
        }
        Err(reason) => Decision { disk: None, verdict: Verdict::Refuse(vec![reason]), notes },
    })
}

fn read_spec(options: &DiskOptions) -> Result<LayoutSpec, Failure> {
    let bytes = fs::read(&options.spec)
        .map_err(|error| machine::failed("reading", &options.spec, &error, "put the layout spec into the initrd"))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(Exit::Configuration, format!("layout spec {}: {error}; correct it", options.spec.display()))
    })
}

fn refusal(spec: &LayoutSpec, device: Option<&Path>, reasons: &[Reason]) -> Failure {
    let disk = device.map_or_else(|| "no disk was".to_owned(), |device| format!("{} was not", device.display()));
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let sentence = format!("{disk} touched (role {}): {}", spec.role, reasons.join("; "));
    Failure::new(Exit::Refused, sentence)
}
