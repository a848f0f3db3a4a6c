//! The real services of Rookery, in a lab's namespace, each started, stopped, killed and started again on its own.

mod events;
mod readiness;
mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use boot_model::event::Event;

pub use events::Mark;
pub use site::{Addresses, Host, LEVEL, PORT, ROLE, Site, Subnet};

use crate::process::Process;
use crate::{Error, Lab, Result, Workspace};
use readiness::Readiness;

/// The four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "these are the names of the services")]
pub enum Service {
    MenuGenerator,
    NarCache,
    Tftpd,
    Dhcpd,
}

impl Service {
    /// All of them, in an order in which each finds what it reads. (They start in any order; a test may say so.)
    pub const ALL: [Self; 4] = [Self::MenuGenerator, Self::NarCache, Self::Tftpd, Self::Dhcpd];

    /// Its name in the log, the configuration and the folder of events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MenuGenerator => "menu-generator",
            Self::NarCache => "nar-cache",
            Self::Tftpd => "tftpd",
            Self::Dhcpd => "dhcpd",
        }
    }

    fn program(self) -> String {
        format!("rookery-{}", self.name())
    }
}

/// How long a service may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// The services of one site. Dropping it kills those that run.
#[derive(Debug)]
pub struct Servers<'a> {
    lab: &'a Lab,
    site: &'a Site,
    workspace: &'a Workspace,
    running: BTreeMap<Service, Process>,
}

impl<'a> Servers<'a> {
    /// None of them runs yet.
    pub fn new(lab: &'a Lab, workspace: &'a Workspace, site: &'a Site) -> Self {
        Self { lab, site, workspace, running: BTreeMap::new() }
    }

    /// Starts one that does not run, and waits until it is ready.
    pub fn start_one(&mut self, service: Service) -> Result<()> {
        let readiness = Readiness::listen(self.lab.scratch(), service.name())?;
        let mut command = self.lab.namespace().command(self.workspace.program(&service.program())?);
        command.arg("--config").arg(self.site.config()).arg("run").env("NOTIFY_SOCKET", readiness.path());
        let mut process = Process::start(self.lab.log(), service.name(), &mut command)?;
        readiness.wait(&mut process, service.name(), READY)?;
        self.lab.log().note("lab", format!("{} is ready", service.name()));
        self.running.insert(service, process);
        Ok(())
    }

    /// SIGTERM. That it does not end, or not with success, is an error.
    pub fn stop(&mut self, service: Service) -> Result<()> {
        let Some(mut process) = self.running.remove(&service) else { return Ok(()) };
        let status = process.stop()?;
        self.lab.log().note("lab", format!("{} is stopped ({status})", service.name()));
        if status.success() { Ok(()) } else { Err(Error::Wrong(format!("{} ended with {status}", service.name()))) }
    }

    /// SIGKILL.
    pub fn kill(&mut self, service: Service) {
        drop(self.running.remove(&service));
        self.lab.log().note("lab", format!("{} is killed", service.name()));
    }

    /// Stops all that run; one after the other must end in order.
    pub fn stop_all(&mut self) -> Result<()> {
        Service::ALL.into_iter().rev().try_for_each(|service| self.stop(service))
    }

    /// What happened so far: the end of every service's events.
    pub fn mark(&self) -> Result<Mark> {
        events::mark(&self.site.events())
    }

    /// What happened since, in the order of its time.
    pub fn events_since(&self, mark: &Mark) -> Result<Vec<Event>> {
        events::since(&self.site.events(), mark)
    }
}
