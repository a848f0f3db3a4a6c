//! Telling the server how the boot goes. A report is worth a few seconds and never a boot: what can't be sent now is kept in
//! `/run/rookery` and sent with the next one.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use boot_model::{
    GenerationRef, MacAddr, StorePath,
    report::{MAX_DETAIL, Progress, Report, Status, Step},
};

use crate::{Exit, Failure, backoff::Backoff, console, http, machine, machine::Machine};

/// Sends the reports of one run of the agent.
pub(crate) struct Reporter {
    to: Option<To>,
    kept: PathBuf,
    step: Step,
}

/// Everything without which there is nobody to report to, or nobody to report.
struct To {
    server: SocketAddrV4,
    mac: MacAddr,
    boot_id: u64,
    generation: Option<GenerationRef>,
}

/// For all that one report, and those kept before it, may cost.
const PATIENCE: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Progress that comes late is no progress.
const PROGRESS_TIMEOUT: Duration = Duration::from_millis(500);
/// A server that is away for long must not fill the client's memory.
const MOST_KEPT: usize = 32;

impl Reporter {
    /// A reporter for one step. Where server, card or boot id are unknown it says so once and stays silent.
    pub(crate) fn new(machine: &Machine, step: Step) -> Self {
        let to = To::find(machine);
        if let Err(cause) = &to {
            console::say(&format!("rookery: nothing will be reported to the server: {cause}"));
        }
        Self { to: to.ok(), kept: machine.run.join("unsent-reports"), step }
    }

    /// It begins.
    pub(crate) fn started(&self) {
        let _ = self.send(Status::Started, None, None);
    }

    /// It is done.
    pub(crate) fn ok(&self, detail: &str) {
        let _ = self.send(Status::Ok, Some(detail), None);
    }

    /// It failed.
    pub(crate) fn failed(&self, cause: &str) {
        let _ = self.send(Status::Failed, Some(cause), None);
    }

    /// It goes on. Sent once or not at all.
    pub(crate) fn progress(&self, progress: Progress) {
        let Some(to) = &self.to else { return };
        let report = Report { progress: Some(progress), ..to.report(self.step, Status::Progress, None) };
        if let Ok(body) = serde_json::to_vec(&report) {
            let _ = http::post_json(&to.url(), &body, PROGRESS_TIMEOUT);
        }
    }

    fn send(&self, status: Status, detail: Option<&str>, current_system: Option<StorePath>) -> Result<(), Failure> {
        let Some(to) = &self.to else { return Err(Failure::new(Exit::Configuration, "there is nobody to report to")) };
        let report = Report { current_system, ..to.report(self.step, status, detail) };
        let mut waiting = kept(&self.kept);
        waiting.extend(serde_json::to_string(&report));
        let sent = deliver(&to.url(), &waiting);
        waiting.drain(..waiting.len().saturating_sub(MOST_KEPT).max(sent));
        keep(&self.kept, &waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let sentence =
            format!("the server {} could not be told; it will be tried again with the next report", to.server);
        Err(Failure::new(Exit::Unavailable, sentence))
    }
}

impl To {
    fn find(machine: &Machine) -> Result<Self, String> {
        let line = machine.read_command_line().map_err(|failure| failure.sentence)?;
        Ok(Self {
            server: line.server().map_err(|error| error.to_string())?,
            mac: machine.card().ok_or("this machine has no network card")?,
            boot_id: machine.boot_id().map_err(|error| format!("{}: {error}", machine.run.display()))?,
            generation: line.generation().ok(),
        })
    }

    fn url(&self) -> String {
        format!("http://{}/report", self.server)
    }

    fn report(&self, step: Step, status: Status, detail: Option<&str>) -> Report {
        Report {
            mac: self.mac,
            boot_id: self.boot_id,
            generation: self.generation.clone(),
            step,
            status,
            uptime_ms: machine::uptime_ms(),
            detail: detail.map(cut),
            progress: None,
            current_system: None,
        }
    }
}

/// The verb `report`: one report, as stage 1 says it.
pub(crate) fn by_hand(machine: &Machine, step: Step, status: Status, detail: Option<String>) -> Result<(), Failure> {
    Reporter::new(machine, step).send(status, detail.as_deref(), None)
}

/// The verb `report running`: which system really runs.
pub(crate) fn running(machine: &Machine) -> Result<(), Failure> {
    let link = Path::new("/run/current-system");
    let target = fs::read_link(link)
        .map_err(|error| machine::failed("reading", link, &error, "is this a running NixOS system?"))?;
    let system: StorePath = target
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::new(Exit::Failure, format!("{} leads to {target:?}, no store path", link.display())))?;
    let reporter = Reporter::new(machine, Step::Running);
    crate::fetch::confirm(Path::new("/"), &system);
    let files = [machine.offline_note(), target.join("nixos-version")];
    let parts = files.iter().filter_map(|file| Some(fs::read_to_string(file).ok()?.trim().to_owned()));
    let detail = parts.collect::<Vec<_>>().join("; ");
    reporter.send(Status::Ok, Some(detail.as_str()).filter(|detail| !detail.is_empty()), Some(system))
}

/// Sends in order, and returns how many arrived or need not be tried again.
fn deliver(url: &str, reports: &[String]) -> usize {
    let begun = Instant::now();
    let mut backoff = Backoff::default();
    let mut sent = 0;
    let in_time = |delay: Duration| begun.elapsed() + delay + TIMEOUT <= PATIENCE;
    while let Some(report) = reports.get(sent).filter(|_| in_time(Duration::ZERO)) {
        match http::post_json(url, report.as_bytes(), TIMEOUT) {
            Ok(()) => sent += 1,
            Err(error) if !error.is_temporary() => {
                console::say(&format!("rookery: the server does not take this report: {error}"));
                sent += 1;
            }
            Err(_) => {
                let delay = backoff.next_delay(crate::backoff::random());
                if !in_time(delay) {
                    break;
                }
                std::thread::sleep(delay);
            }
        }
    }
    sent
}

fn kept(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn keep(file: &Path, reports: &[String]) {
    let _ = if reports.is_empty() { fs::remove_file(file) } else { fs::write(file, reports.join("\n")) };
}

/// A sentence of at most [`MAX_DETAIL`] bytes, without control characters: in JSON each would take six, and the whole report be
/// too long for the server.
fn cut(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    let end = (0..=text.len().min(MAX_DETAIL)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_between_characters_and_fits_the_report() {
        assert_eq!(cut("no link\ton eth0"), "no link on eth0");
        assert_eq!(cut(&"ä".repeat(MAX_DETAIL)).len(), MAX_DETAIL);
        assert_eq!(cut(&format!("x{}", "ä".repeat(MAX_DETAIL))).len(), MAX_DETAIL - 1);
        for text in ["\u{1b}", "\"", "\\"] {
            let json = serde_json::to_string(&cut(&text.repeat(2 * MAX_DETAIL))).unwrap();
            assert!(json.len() <= 2 * MAX_DETAIL + 2, "{text:?}");
        }
    }
}
