//! The units of `deploy/` under a real systemd: a Debian in a container, with our programs, users and folders installed as a
//! package would install them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, run};
use crate::{Error, Lab, Result, Workspace};

/// A service and the capabilities it may have, as the kernel's mask.
#[derive(Debug, Clone, Copy)]
struct Unit {
    name: &'static str,
    user: &'static str,
    capabilities: u64,
    reloads: bool,
}

/// Bits of the mask (linux/capability.h).
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_RAW: u64 = 1 << 13;

const UNITS: [Unit; 4] = [
    Unit { name: "menu-generator", user: "rookery-menu-generator", capabilities: 0, reloads: true },
    Unit { name: "nar-cache", user: "rookery-nar-cache", capabilities: 0, reloads: false },
    Unit { name: "tftpd", user: "rookery-tftpd", capabilities: 0, reloads: false },
    Unit { name: "dhcpd", user: "rookery-dhcpd", capabilities: NET_BIND_SERVICE | NET_RAW, reloads: true },
];

/// Optional beside the others: it publishes what appears in a directory of Nix profiles.
const FOLLOW: Unit = Unit { name: "follow", user: "rookery-publish", capabilities: 0, reloads: false };

/// How long the container's systemd may take for one step; 0.3 s for its start where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The interface that the example's configuration is changed to, and its address there.
const INTERFACE: &str = "lab0";
const ADDRESS: &str = "10.77.0.1";

/// Installs, starts, looks at, reloads and stops all four services by their units.
pub fn check(lab: &Lab, workspace: &Workspace) -> Result<()> {
    let root = lab.scratch().join("units");
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian(workspace)?).arg(&root))?;
    install(workspace, &root)?;
    let container = Container::boot(lab, &root)?;
    let outcome = check_services(&container, &root);
    // What the services said is in the container's journal, and the container is about to go.
    let journal = container.run("journalctl", &["--no-pager", "--boot", "--unit=rookery-*"])?;
    journal.lines().for_each(|line| lab.log().note("journal", line));
    outcome?;
    container.power_off()
}

fn check_services(container: &Container, root: &Path) -> Result<()> {
    container.run("systemd-sysusers", &[])?;
    container.run("systemd-tmpfiles", &["--create", "rookery.conf"])?;
    expect_silence(container)?;
    container.run("ip", &["link", "add", INTERFACE, "type", "veth", "peer", "name", "lab1"])?;
    container.run("ip", &["addr", "add", &format!("{ADDRESS}/24"), "dev", INTERFACE])?;
    for device in ["lo", INTERFACE, "lab1"] {
        container.run("ip", &["link", "set", device, "up"])?;
    }

    let services = UNITS.map(|unit| format!("rookery-{}.service", unit.name));
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    // Type=notify: this returns when each has said READY=1.
    container.systemctl("start", &names)?;
    for unit in &UNITS {
        check_running(container, unit)?;
    }
    check_served(container)?;
    check_folders(container)?;
    container.systemctl("stop", &names)?;
    for name in &names {
        let ended = container.properties(name, &["ActiveState", "Result", "ExecMainStatus"])?;
        expect(ended == ["inactive", "success", "0"], || format!("{name} stopped as {ended:?}"))?;
    }
    check_follow(container)?;
    check_wrong_configuration(container, root)
}

/// A small Debian with systemd, made once. procps has the `kill` of the units' ExecReload.
fn debian(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.target().join("lab/debian-units");
    if root.exists() {
        return Ok(root);
    }
    let staged = root.with_extension("staged");
    if staged.exists() {
        fs::remove_dir_all(&staged).map_err(Error::io(format!("removing {}", staged.display())))?;
    }
    fs::create_dir_all(&staged).map_err(Error::io(format!("creating {}", staged.display())))?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args([
        "--quiet",
        "--variant=minbase",
        "--include=systemd,systemd-sysv,dbus,iproute2,procps",
        "bookworm",
    ]);
    run(mmdebstrap.arg(&staged))?;
    fs::rename(&staged, &root).map_err(Error::io(format!("renaming {}", staged.display())))?;
    Ok(root)
}

/// Programs, units, users, folders and the example's configuration, where a package puts them.
fn install(workspace: &Workspace, root: &Path) -> Result<()> {
    let deploy = workspace.root().join("deploy");
    for program in ["rookery", "rookery-dhcpd", "rookery-tftpd", "rookery-menu-generator", "rookery-nar-cache"] {
        copy(&workspace.program(program)?, &root.join("usr/bin").join(program))?;
    }
    for (from, to) in [("systemd", "systemd/system"), ("sysusers.d", "sysusers.d"), ("tmpfiles.d", "tmpfiles.d")] {
        let folder = deploy.join(from);
        let entries = fs::read_dir(&folder).map_err(Error::io(format!("reading {}", folder.display())))?;
        for entry in entries {
            let path = entry.map_err(Error::io(format!("reading {}", folder.display())))?.path();
            copy(&path, &root.join("usr/lib").join(to).join(path.file_name().unwrap_or_default()))?;
        }
    }
    let example = deploy.join("rookery.example.toml");
    let text = fs::read_to_string(&example).map_err(Error::io(format!("reading {}", example.display())))?;
    let adapted = text.replace("interface = \"enp3s0\"", &format!("interface = \"{INTERFACE}\""));
    expect(adapted != text && adapted.contains(&format!("\"{ADDRESS}/24\"")), || "the example has changed".to_owned())?;
    write(&configuration(root), &adapted)
}

fn configuration(root: &Path) -> PathBuf {
    root.join("etc/rookery/rookery.toml")
}

/// `systemd-analyze verify` reports an unknown key with success; so nothing at all may be printed.
fn expect_silence(container: &Container) -> Result<()> {
    let verify = "systemd-analyze verify /usr/lib/systemd/system/rookery-*.service /usr/lib/systemd/system/rookery-*.socket 2>&1; true";
    let said = container.run("sh", &["-c", verify])?;
    expect(said.is_empty(), || format!("systemd-analyze verify says: {said}"))
}

fn check_running(container: &Container, unit: &Unit) -> Result<()> {
    let name = format!("rookery-{}.service", unit.name);
    let state = container.properties(&name, &["ActiveState", "SubState", "NRestarts", "MainPID"])?;
    let [active, sub, restarts, pid] = &state[..] else { return Err(Error::Wrong(format!("{name}: {state:?}"))) };
    expect([active, sub, restarts] == ["active", "running", "0"], || format!("{name} is {state:?}"))?;
    let owner = container.run("stat", &["-c", "%U:%G", &format!("/proc/{pid}")])?;
    expect(owner.trim() == format!("{}:rookery", unit.user), || format!("{name} runs as {owner}"))?;
    let status = container.run("cat", &[&format!("/proc/{pid}/status")])?;
    for field in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":")).unwrap_or_default();
        let mask = u64::from_str_radix(mask.trim(), 16);
        expect(mask == Ok(unit.capabilities), || format!("{name} has {field} {mask:x?}"))?;
    }
    expect(status.lines().any(|line| line == "NoNewPrivs:\t1"), || format!("{name} may gain privileges"))?;
    if unit.reloads {
        container.systemctl("reload", &[&name])?;
        let after = container.properties(&name, &["ActiveState", "MainPID"])?;
        expect(after == ["active", pid], || format!("{name} after a reload: {after:?}"))?;
    }
    Ok(())
}

/// Menus come out of both servers: the sockets were handed over, and each may read what another one wrote.
fn check_served(container: &Container) -> Result<()> {
    for url in [format!("http://{ADDRESS}:8080/boot.ipxe"), format!("tftp://{ADDRESS}/pxelinux.cfg/default")] {
        let mut curl = Command::new("nsenter");
        curl.args([
            "-t",
            &container.leader,
            "-n",
            "--",
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "60",
        ]);
        let text = run(curl.arg(&url))?;
        expect(text.contains("rookery publish lab"), || format!("{url} is {text:?}"))?;
    }
    Ok(())
}

/// One owner a folder, and nothing for others.
fn check_folders(container: &Container) -> Result<()> {
    let state = "/var/lib/rookery";
    for (folder, owner) in [
        ("generations", "rookery-publish"),
        ("cache", "rookery-publish"),
        ("menus", "rookery-menu-generator"),
        ("menus/current/.", "rookery-menu-generator"),
        ("leases", "rookery-dhcpd"),
        ("loaders", "root"),
    ] {
        let seen = container.run("stat", &["-c", "%U:%G %A", &format!("{state}/{folder}")])?;
        let good = seen.starts_with(&format!("{owner}:rookery ")) && seen.trim_end().ends_with("---");
        expect(good, || format!("{state}/{folder} is {seen}"))?;
    }
    Ok(())
}

/// The publisher alone reads the secret key. There are no profiles yet, and that is no failure.
fn check_follow(container: &Container) -> Result<()> {
    container.run("rookery", &["keys", "generate", "lab.example.org-1"])?;
    container.run("systemd-tmpfiles", &["--create", "rookery.conf"])?;
    let key = container.run("stat", &["-c", "%U %a", "/etc/rookery/secret-key"])?;
    expect(key.trim() == "rookery-publish 400", || format!("the secret key is {key}"))?;
    container.systemctl("start", &["rookery-follow.service"])?;
    check_running(container, &FOLLOW)?;
    container.systemctl("stop", &["rookery-follow.service"])?;
    let ended = container.properties("rookery-follow.service", &["Result", "ExecMainStatus"])?;
    expect(ended == ["success", "0"], || format!("rookery-follow.service stopped as {ended:?}"))
}

/// A wrong configuration ends a service at once, with 78, and it is not started again.
fn check_wrong_configuration(container: &Container, root: &Path) -> Result<()> {
    write(&configuration(root), "state = 1\n")?;
    let name = "rookery-menu-generator.service";
    expect(container.systemctl("start", &[name]).is_err(), || format!("{name} starts with a wrong configuration"))?;
    let state = container.properties(name, &["ActiveState", "ExecMainStatus", "NRestarts"])?;
    expect(state == ["failed", "78", "0"], || format!("{name} with a wrong configuration: {state:?}"))
}

/// A booted container. Its network is its own.
struct Container {
    nspawn: Process,
    /// The process id, here, of its process 1.
    leader: String,
}

impl Container {
    fn boot(lab: &Lab, root: &Path) -> Result<Self> {
        let mut command = Command::new("systemd-nspawn");
        command.arg("--directory").arg(root).args(["--boot", "--private-network", "--register=no", "--keep-unit"]);
        command.args(["--console=pipe", &format!("--machine=rookery-{}", std::process::id())]);
        // cgroup v2 inside, also where this machine has the older hierarchy.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let nspawn = Process::start(lab.log(), "nspawn", &mut command)?;
        let leader = lab.poll("the container's process 1", PATIENCE, || Ok(leader_below(nspawn.id())))?;
        let container = Self { nspawn, leader };
        lab.poll("the container's systemd", PATIENCE, || {
            // Exits with failure while it says "starting".
            let state = container.command("systemctl", &["is-system-running"]).output();
            let state = state.map_err(Error::io("running systemctl"))?.stdout;
            Ok(matches!(state.trim_ascii(), b"running" | b"degraded").then_some(()))
        })?;
        Ok(container)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader, "-a", "--", program]).args(arguments);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(program, arguments))
    }

    fn systemctl(&self, verb: &str, units: &[&str]) -> Result<()> {
        run(self.command("systemctl", &[verb]).args(units)).map(drop)
    }

    /// Values of a unit's properties, in the order asked for (systemctl prints them in one of its own).
    fn properties(&self, unit: &str, names: &[&str]) -> Result<Vec<String>> {
        let value = |name: &&str| Ok(self.run("systemctl", &["show", "--value", "-p", name, unit])?.trim().to_owned());
        names.iter().map(value).collect()
    }

    fn power_off(mut self) -> Result<()> {
        // It may say "Connection reset by peer": the one that was asked is gone.
        let _ = self.run("systemctl", &["poweroff"]);
        self.nspawn.wait(PATIENCE).map(drop)
    }
}

/// The descendant that is process 1 in a process id namespace of its own.
fn leader_below(parent: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        match ids.split_whitespace().next_back() {
            Some("1") => Some(child.to_owned()),
            _ => leader_below(child.parse().ok()?),
        }
    })
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Wrong(otherwise())) }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let doing = format!("copying {} to {}", from.display(), to.display());
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).and_then(|()| fs::copy(from, to)).map(drop).map_err(Error::io(doing))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(Error::io(format!("writing {}", path.display())))
}
