use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::Namespace;
use crate::process::{Process, run};
use crate::{Error, Lab, Result};

/// The clients that Linux systems have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// BusyBox's.
    Udhcpc,
    /// ISC's.
    Dhclient,
    /// Roy Marples's.
    Dhcpcd,
    /// systemd's.
    Networkd,
}

/// A client that runs.
pub(super) struct Client<'a> {
    program: Program,
    lab: &'a Lab,
    card: &'a Namespace,
    directory: PathBuf,
    process: Process,
}

impl Program {
    /// Whether it asks for the address that it remembers (INIT-REBOOT) instead of starting over. BusyBox's is told the address
    /// and starts over with it as a wish; systemd's keeps it in /run, which is gone after a power cut.
    pub(super) fn remembers(self) -> bool {
        matches!(self, Self::Dhclient | Self::Dhcpcd)
    }
}

impl<'a> Client<'a> {
    /// Starts it on the card `eth0`. `name` is its name in the log; what it remembers of earlier runs is in the lab's scratch
    /// directory.
    pub(super) fn start(program: Program, lab: &'a Lab, card: &'a Namespace, name: &str) -> Result<Self> {
        Self::start_with(program, lab, card, name, &[])
    }

    /// Starts it again; those that remember nothing by themselves, and can be told, are told what address they had.
    pub(super) fn start_again(program: Program, lab: &'a Lab, card: &'a Namespace, had: Ipv4Addr) -> Result<Self> {
        let had = had.to_string();
        let wish = ["-r", &had];
        Self::start_with(program, lab, card, "client-again", if program == Program::Udhcpc { &wish } else { &[] })
    }

    fn start_with(program: Program, lab: &'a Lab, card: &'a Namespace, name: &str, arguments: &[&str]) -> Result<Self> {
        let directory = lab.scratch().join("client");
        fs::create_dir_all(&directory).map_err(Error::io("making the client's directory"))?;
        let mut command = match program {
            Program::Udhcpc => udhcpc(card, &directory)?,
            Program::Dhclient => dhclient(card, &directory, &["-d", "eth0"])?,
            Program::Dhcpcd => dhcpcd(card, &directory)?,
            Program::Networkd => networkd(card, &directory)?,
        };
        command.args(arguments);
        let process = Process::start(lab.log(), name, &mut command)?;
        Ok(Self { program, lab, card, directory, process })
    }

    /// Makes it renew. All do that by themselves after half of the lease, except that BusyBox's goes straight to rebinding when
    /// less than a minute is left.
    pub(super) fn renew_now(&mut self) -> Result<()> {
        if self.program != Program::Udhcpc {
            return Ok(());
        }
        // Not before a quarter of the lease is over: a renewal that early is answered without looking at its state.
        self.lab.pause(Duration::from_secs(20))?;
        self.process.signal(Signal::SIGUSR1)
    }

    /// Makes it give its address back.
    pub(super) fn release(&mut self) -> Result<()> {
        match self.program {
            Program::Udhcpc => self.process.signal(Signal::SIGUSR2),
            Program::Dhclient => run(&mut dhclient(self.card, &self.directory, &["-r", "eth0"])?).map(drop),
            Program::Dhcpcd => self.process.signal(Signal::SIGALRM),
            Program::Networkd => self.process.signal(Signal::SIGTERM),
        }
    }

    /// Waits until its lease is on its disk.
    pub(super) fn wait_until_remembered(&self, address: Ipv4Addr) -> Result<()> {
        let written = || match self.program {
            Program::Udhcpc | Program::Networkd => true,
            Program::Dhclient => {
                let leases = fs::read_to_string(self.directory.join("leases")).unwrap_or_default();
                leases.contains(&format!("fixed-address {address};"))
            }
            Program::Dhcpcd => fs::metadata(self.directory.join("db/eth0.lease")).is_ok_and(|file| file.len() > 0),
        };
        self.lab.poll("the client's memory", Duration::from_secs(60), || Ok(written().then_some(())))
    }

    /// Ends it without a word to the server.
    pub(super) fn cut_power(self) {
        drop(self);
    }
}

impl Drop for Client<'_> {
    /// dhcpcd is several processes, which outlive each other.
    fn drop(&mut self) {
        for process in descendants(self.process.id()) {
            // One that is gone by now is gone.
            let _ = kill(process, Signal::SIGKILL);
        }
        self.process.kill();
    }
}

fn descendants(process: u32) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse::<u32>().ok());
    children.flat_map(|child| descendants(child).into_iter().chain([Pid::from_raw(child.cast_signed())])).collect()
}

/// Puts the address on the card; an address that somebody else answers for is refused.
const UDHCPC_SCRIPT: &str = "#!/bin/sh
case $1 in
deconfig) ip addr flush dev eth0 ;;
bound | renew) ip addr replace \"$ip/16\" dev eth0 ;;
esac
";

/// It asks again every few seconds; by its own measure it would mostly be past the end of the shortest lease before it rebinds.
const DHCLIENT_CONF: &str = "initial-interval 1;\nbackoff-cutoff 3;\n";

/// dhclient declines an address if its script fails.
const DHCLIENT_SCRIPT: &str = "#!/bin/sh
case $reason in
BOUND | REBOOT)
  ip addr flush dev eth0
  busybox arping -D -q -c 2 -w 2 -I eth0 \"$new_ip_address\" || exit 1
  ip addr replace \"$new_ip_address/16\" dev eth0 ;;
esac
";

fn udhcpc(card: &Namespace, directory: &Path) -> Result<Command> {
    let mut command = card.command("udhcpc");
    command.args(["-f", "-a", "-i", "eth0", "-t", "20", "-T", "1", "-A", "1", "-s"]);
    command.arg(script(directory, UDHCPC_SCRIPT)?);
    Ok(command)
}

fn dhclient(card: &Namespace, directory: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = card.command("dhclient");
    let file = directory.join("dhclient.conf");
    fs::write(&file, DHCLIENT_CONF).map_err(Error::io(format!("writing {}", file.display())))?;
    command.args(["-4", "-cf"]).arg(file).arg("-lf").arg(directory.join("leases"));
    command.arg("-pf").arg(directory.join("pid")).arg("-sf").arg(script(directory, DHCLIENT_SCRIPT)?).args(arguments);
    Ok(command)
}

/// Its directories are compiled in. `ip netns exec` gives each program mounts of its own, so ours are seen by nobody else.
fn dhcpcd(card: &Namespace, directory: &Path) -> Result<Command> {
    let database = directory.join("db");
    fs::create_dir_all(&database).map_err(Error::io("making dhcpcd's directory"))?;
    let prepare = "mkdir -p /var/lib/dhcpcd /run/dhcpcd && mount --bind \"$0\" /var/lib/dhcpcd \
                   && mount -t tmpfs dhcpcd /run/dhcpcd \
                   && exec dhcpcd -4 -B -d -f /dev/null -c /bin/true -C resolv.conf -t 0 eth0";
    let mut command = card.command("sh");
    command.args(["-c", prepare]).arg(database);
    Ok(command)
}

/// Without udev it takes a card only if /sys is read-only, as in a container.
fn networkd(card: &Namespace, directory: &Path) -> Result<Command> {
    let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n\
                   [DHCPv4]\nSendDecline=yes\nClientIdentifier=mac\n";
    let file = directory.join("eth0.network");
    fs::write(&file, network).map_err(Error::io(format!("writing {}", file.display())))?;
    let prepare = "mount -o remount,ro /sys && mount -t tmpfs systemd /run/systemd && mkdir -p /run/systemd/network \
                   && cp \"$0\" /run/systemd/network/ && chmod 755 /run/systemd /run/systemd/network \
                   && exec env SYSTEMD_LOG_LEVEL=debug /lib/systemd/systemd-networkd";
    let mut command = card.command("sh");
    command.args(["-c", prepare]).arg(file);
    Ok(command)
}

fn script(directory: &Path, text: &str) -> Result<PathBuf> {
    let path = directory.join("script");
    let write = || {
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    write().map_err(Error::io(format!("writing {}", path.display())))?;
    Ok(path)
}
