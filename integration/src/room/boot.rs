use std::path::Path;
use std::time::Duration;

use boot_model::event::{Event, EventKind};
use boot_model::report::{Report, Status, Step};

use super::{BOOT, Room};
use crate::client::{Client, Machine};
use crate::log::Place;
use crate::servers::{Mark, Servers};
use crate::system::Toplevel;
use crate::timeline::{Timeline, Traffic};
use crate::{Error, Result};

/// One boot of one client, from switching on; everything that services write meanwhile belongs to it.
#[derive(Debug)]
pub struct Boot<'a> {
    room: &'a Room,
    /// The client.
    pub machine: Machine,
    mark: Mark,
    on: Duration,
}

impl<'a> Boot<'a> {
    /// Switches the client on.
    pub fn start(room: &'a Room, servers: &Servers<'_>, client: &Client) -> Result<Self> {
        let mark = servers.mark()?;
        let on = room.lab.log().elapsed();
        let machine = Machine::start(&room.lab, client)?;
        Ok(Self { room, machine, mark, on })
    }

    /// Waits until the running system itself reports that it runs, and that it runs this one.
    pub fn expect_running(&self, servers: &Servers<'_>, toplevel: &Toplevel) -> Result<()> {
        let report = self.wait_report(servers, Step::Running)?;
        if let Some(failure) = failed(&report) {
            return Err(failure);
        }
        let runs = report.current_system.map(|path| path.to_string());
        if runs.as_deref() != Some(toplevel.path.as_str()) {
            let runs = runs.as_deref().unwrap_or("nothing");
            return Err(Error::Wrong(format!("the client says that it runs {runs}, not {}", toplevel.path)));
        }
        self.machine.wait_for("login:", BOOT)?;
        Ok(())
    }

    /// Logs in on the serial console and switches the client off in order; its disk has everything then.
    pub fn shut_down(&mut self, within: Duration) -> Result<()> {
        self.leave("systemctl poweroff", within)
    }

    /// As [`Boot::shut_down`], by a reboot: the machine is off until it is switched on again.
    pub fn restart(&mut self, within: Duration) -> Result<()> {
        self.leave("systemctl reboot", within)
    }

    /// Logs in on the serial console and asks the kernel how many bytes of memory could not be given to anybody now.
    pub fn memory_in_use(&mut self, within: Duration) -> Result<u64> {
        let since = self.log_in(within)?;
        self.machine.type_text("cat /proc/meminfo\n")?;
        // The lines before this one are whole then.
        self.machine.wait_since(since, "SwapTotal:", within)?;
        let lines = self.room.lab.log().since(since);
        let kibibytes = |name: &str| {
            let line = lines.iter().find(|line| line.source == self.machine.name() && line.text.starts_with(name));
            let number = line.and_then(|line| line.text.split_whitespace().nth(1)?.parse::<u64>().ok());
            number.ok_or_else(|| Error::Wrong(format!("/proc/meminfo has no {name}")))
        };
        Ok((kibibytes("MemTotal:")?.saturating_sub(kibibytes("MemAvailable:")?)) * 1024)
    }

    fn leave(&mut self, command: &str, within: Duration) -> Result<()> {
        self.log_in(within)?;
        self.machine.type_text(&format!("{command}\n"))?;
        self.machine.wait_off(within)
    }

    /// At the login prompt, or again at the shell's: an unknown command there. Returns the place before.
    fn log_in(&mut self, within: Duration) -> Result<Place> {
        let since = self.room.lab.log().place();
        self.machine.type_text("root\n")?;
        self.machine.wait_since(since, "# ", within)?;
        Ok(since)
    }

    /// Waits until the client reports that this step failed, and returns its sentence.
    pub fn expect_failure(&self, servers: &Servers<'_>, step: Step) -> Result<String> {
        let report = self.wait_report(servers, step)?;
        if report.step != step || report.status != Status::Failed {
            let (step, seen) = (step.as_str(), report.step.as_str());
            return Err(Error::Wrong(format!("step {step} should have failed, but {seen} is {:?}", report.status)));
        }
        Ok(report.detail.unwrap_or_default())
    }

    /// Waits until the client has ended a step, whatever follows.
    pub fn wait_step(&self, servers: &Servers<'_>, step: Step) -> Result<()> {
        let report = self.wait_report(servers, step)?;
        failed(&report).map_or(Ok(()), Err)
    }

    /// Waits until the services' events of this boot show something.
    pub fn wait_events(&self, servers: &Servers<'_>, what: &str, shown: impl Fn(&[Event]) -> bool) -> Result<()> {
        self.room.lab.poll(what, BOOT, || {
            self.machine.check_alive()?;
            Ok(shown(&servers.events_since(&self.mark)?).then_some(()))
        })
    }

    /// Waits until so many packed store paths have been sent.
    pub fn wait_nars(&self, servers: &Servers<'_>, count: u64) -> Result<()> {
        let what = format!("{count} packed paths to be sent");
        self.wait_events(servers, &what, |events| Traffic::of(events).nars >= count)
    }

    /// Waits until the loader has read the menu twice: `ldlinux.c32` once, and then the menu itself, which is on the screen
    /// from now on and takes keys.
    pub fn wait_menu(&self, servers: &Servers<'_>) -> Result<()> {
        let is_menu = |event: &&Event| match &event.kind {
            EventKind::Tftp { file, outcome, .. } => file.contains("pxelinux.cfg/") && outcome == "done",
            _ => false,
        };
        self.room.lab.poll("the menu", BOOT, || {
            let events = servers.events_since(&self.mark)?;
            Ok((events.iter().filter(is_menu).count() >= 2).then_some(()))
        })
    }

    /// Photographs the menu once it stands still: text is there, and nothing has changed for a while.
    pub fn photograph_menu(&self, file: &Path) -> Result<()> {
        /// A cleared screen has one colour; a menu has one for its frame and several for its texts.
        const PAINTED: usize = 4;
        /// A loader under emulation paints a line in less than the time between so many looks.
        const LOOKS: usize = 5;
        let (mut last, mut same) = (Vec::new(), 0);
        self.room.lab.poll("a menu that stands still", BOOT, || {
            let painted = self.machine.colours(self.room.lab.scratch())? >= PAINTED;
            self.machine.screenshot(file)?;
            let picture = std::fs::read(file).map_err(Error::io(format!("reading {}", file.display())))?;
            same = if painted && picture == last { same + 1 } else { 0 };
            last = picture;
            Ok((same >= LOOKS).then_some(()))
        })
    }

    /// What services sent to the client so far.
    pub fn traffic(&self, servers: &Servers<'_>) -> Result<Traffic> {
        Ok(Traffic::of(&servers.events_since(&self.mark)?))
    }

    /// The boot so far, step by step.
    pub fn timeline(&self, servers: &Servers<'_>) -> Result<Timeline> {
        let events = servers.events_since(&self.mark)?;
        Ok(Timeline::of_machine(self.room.lab.log(), &self.machine, self.on, events))
    }

    /// The first report that ends this step, or says that any step failed.
    fn wait_report(&self, servers: &Servers<'_>, step: Step) -> Result<Report> {
        let ends =
            |report: &Report| report.status == Status::Failed || (report.step == step && report.status == Status::Ok);
        let what = format!("the report that {} has ended", step.as_str());
        self.room.lab.poll(&what, BOOT, || {
            self.machine.check_alive()?;
            let events = servers.events_since(&self.mark)?;
            Ok(events.into_iter().find_map(|event| match event.kind {
                EventKind::Report { report } if ends(&report) => Some(report),
                _ => None,
            }))
        })
    }
}

fn failed(report: &Report) -> Option<Error> {
    let detail = report.detail.as_deref().unwrap_or("no reason given");
    let wrong = || Error::Wrong(format!("the client reports that {} failed: {detail}", report.step.as_str()));
    (report.status == Status::Failed).then(wrong)
}
