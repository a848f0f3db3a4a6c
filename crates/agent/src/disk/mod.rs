//! The verb `disk`: look at the disks, let `disk-layout` judge, and carry its steps out.

mod apply;
mod consent;
mod device;
mod facts;
mod screen;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use boot_model::{EraseConsent, report::Step as BootStep};
use disk_layout::{DiskFacts, Layout, LayoutSpec, OnRefuse, Reason, Verdict};

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
    /// A person's permission to erase a disk of this machine, whether it counts or not.
    consent: Option<EraseConsent>,
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
pub(crate) fn plan(machine: &Machine, options: &DiskOptions) -> Result<(), Failure> {
    let spec = read_spec(options)?;
    let decision = decide(machine, &spec, options)?;
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
        let decision = decide(machine, &spec, options)?;
        console::say(&screen::decision(&decision));
        let outcome = carry_out(machine, &spec, decision);
        if matches!(&outcome, Err(failure) if failure.exit == Exit::Refused) {
            tell_stage_1(machine, spec.on_refuse);
        }
        outcome
    });
    match &outcome {
        Ok(done) => reporter.ok(done),
        Err(failure) => reporter.failed(&failure.sentence),
    }
    outcome.map(|done| console::say(&format!("rookery: {done}")))
}

/// Stage 1 does not read the layout spec. Where this can't be written it does what it does after any other failure.
fn tell_stage_1(machine: &Machine, on_refuse: OnRefuse) {
    let word = match on_refuse {
        OnRefuse::Halt => "halt",
        OnRefuse::Reboot => "reboot",
    };
    let _ = fs::create_dir_all(&machine.run).and_then(|()| fs::write(machine.run.join("on-refuse"), word));
}

fn carry_out(machine: &Machine, spec: &LayoutSpec, decision: Decision) -> Result<String, Failure> {
    if let Verdict::Refuse(reasons) = &decision.verdict {
        let shown = screen::refusal(spec, &decision, reasons);
        console::say(&shown);
        if machine.is_booting() {
            console::on_the_others(&shown);
        }
        return Err(refusal(spec, decision.device(), reasons));
    }
    let Some(disk) = &decision.disk else {
        return Err(Failure::new(Exit::Failure, "no disk was chosen"));
    };
    let name = disk.device.display();
    // The everyday case: nothing is opened for writing.
    let idle = matches!(decision.verdict, Verdict::Match(_))
        && disk_layout::steps(spec, &disk.facts, &decision.verdict).is_empty();
    let objection = decision.consent.as_ref().and_then(|consent| disk_layout::objection(spec, &disk.facts, consent));
    let not_erased = objection.map_or_else(String::new, |objection| format!("; it was not erased: {objection}"));
    if idle {
        return Ok(format!("disk {name} is laid out as required{not_erased}"));
    }
    Ok(match apply::apply(spec, disk, decision.consent.as_ref())? {
        Verdict::Create(_) => format!("blank disk {name} was laid out"),
        Verdict::Recreate { layout, .. } => recreated(&name, &layout),
        Verdict::Match(_) | Verdict::Refuse(_) => {
            format!("disk {name} is laid out as required, and its scratch space was made anew{not_erased}")
        }
    })
}

fn recreated(name: &dyn fmt::Display, layout: &Layout) -> String {
    let Some(nonce) = layout.consent else { return format!("disk {name} was laid out anew") };
    let kept: Vec<&str> = layout.partitions.iter().filter(|p| p.kept).map(|p| p.label.as_str()).collect();
    let but = if kept.is_empty() { String::new() } else { format!(" but for {}", kept.join(", ")) };
    format!("disk {name} was erased{but}, with the consent {nonce}, and laid out anew")
}

fn decide(machine: &Machine, spec: &LayoutSpec, options: &DiskOptions) -> Result<Decision, Failure> {
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
    let consent = consent::given(machine);
    Ok(match chosen.disk {
        Ok(index) => {
            let disk = disks.swap_remove(index);
            let verdict = disk_layout::plan(spec, &disk.facts, consent.as_ref());
            Decision { disk: Some(disk), verdict, consent, notes }
        }
        Err(reason) => Decision { disk: None, verdict: Verdict::Refuse(vec![reason]), consent, notes },
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
