//! Where the agent finds things on this machine, and what the machine says of itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use boot_model::{MacAddr, generation::InitPath};

use crate::{Exit, Failure, command_line::CommandLine};

/// The surroundings. The defaults are right in an initrd; tests bring their own.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The kernel command line.
    pub(crate) command_line: PathBuf,
    /// Kept until power goes: boot id, reports that could not be sent, Nix's configuration.
    pub(crate) run: PathBuf,
    /// The keys of the initrd.
    pub(crate) trusted_keys: PathBuf,
}

const NETWORK: &str = "/sys/class/net";
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Default for Machine {
    fn default() -> Self {
        Self {
            command_line: "/proc/cmdline".into(),
            run: "/run/rookery".into(),
            trusted_keys: "/etc/rookery/trusted-public-keys".into(),
        }
    }
}

impl Machine {
    /// Does the command line that is obeyed belong to the kernel that runs? Only then may this program replace that kernel: a test,
    /// or a person who tries it out, brings a command line of his own.
    pub(crate) fn is_booting(&self) -> bool {
        self.command_line == Self::default().command_line
    }

    pub(crate) fn read_command_line(&self) -> Result<CommandLine, Failure> {
        fs::read_to_string(&self.command_line)
            .map(CommandLine::new)
            .map_err(|error| failed("reading", &self.command_line, &error, "is /proc mounted?"))
    }

    /// Says what stage 1 must hand over to: it may be something else than the kernel command line asked for.
    pub(crate) fn hand_over(&self, init: &InitPath) -> Result<(), Failure> {
        let file = self.run.join("init");
        let written = fs::create_dir_all(&self.run).and_then(|()| fs::write(&file, format!("{init}\n")));
        written.map_err(|error| failed("writing", &file, &error, "is /run writable?"))
    }

    /// Says, where it exists, that and why the system runs without having reached the server.
    pub(crate) fn offline_note(&self) -> PathBuf {
        self.run.join("offline")
    }

    /// The name of the interface whose card the loader booted from. A driver may still be loading, so it is waited for.
    pub(crate) fn boot_interface(&self, wait: Duration) -> Result<String, Failure> {
        let card = self.read_command_line()?.boot_card()?;
        let begun = Instant::now();
        loop {
            if let Some((name, _)) = interfaces().into_iter().find(|(_, mac)| *mac == card) {
                return Ok(name);
            }
            if begun.elapsed() >= wait {
                return Err(Failure::new(
                    Exit::Failure,
                    format!(
                        "no network interface has the address {card} that BOOTIF= names; is its driver in the initrd?"
                    ),
                ));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The card that reports speak for: the one that booted, or the first one there is.
    pub(crate) fn card(&self) -> Option<MacAddr> {
        let booted = self.read_command_line().ok().and_then(|line| line.boot_card().ok());
        booted.or_else(|| interfaces().into_iter().map(|(_, mac)| mac).next())
    }

    /// The number that tells this boot from all others. Drawn once, then kept in `run`.
    pub(crate) fn boot_id(&self) -> io::Result<u64> {
        fs::create_dir_all(&self.run)?;
        let file = self.run.join("boot-id");
        if let Some(id) = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(id);
        }
        let id = crate::backoff::random();
        fs::write(&file, id.to_string())?;
        Ok(id)
    }
}

/// Time since the kernel started, in milliseconds; 0 where `/proc` does not say.
pub(crate) fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    (seconds * 1000.0) as u64
}

/// Network cards by name. The loopback interface has a zero address and is left out.
fn interfaces() -> Vec<(String, MacAddr)> {
    let Ok(entries) = fs::read_dir(NETWORK) else { return Vec::new() };
    let mut found: Vec<(String, MacAddr)> = entries
        .flatten()
        .filter_map(|entry| {
            let address = fs::read_to_string(entry.path().join("address")).ok()?;
            Some((entry.file_name().into_string().ok()?, address.trim().parse().ok()?))
        })
        .filter(|(_, mac): &(String, MacAddr)| mac.bytes() != [0; 6])
        .collect();
    found.sort();
    found
}

/// A failed operation on a file, as a sentence.
pub(crate) fn failed(doing: &str, path: &Path, error: &io::Error, cure: &str) -> Failure {
    Failure::new(Exit::Failure, format!("{doing} {}: {error}; {cure}", path.display()))
}
