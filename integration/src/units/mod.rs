//! The README's way to a served room, and the units of `deploy/`, under a real systemd: a Debian in a container.

mod container;
mod readme;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::container::{Container, debian};
use self::readme::{Chapter, scripts};
use crate::process::run;
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

/// The interface that the README and the example name, and its address there.
const INTERFACE: &str = "enp3s0";
const ADDRESS: &str = "10.77.0.1";

/// procps has the `kill` of the units' ExecReload; the publisher's machine has Nix; troubles are looked at with jq.
const PACKAGES: [&str; 7] = ["systemd", "systemd-sysv", "dbus", "iproute2", "procps", "nix-bin", "jq"];

/// Where the reader of the README would be: in the checkout, with everything built.
const CHECKOUT: &str = "root/rookery";
const PROGRAMS: [&str; 5] =
    ["rookery", "rookery-dhcpd", "rookery-tftpd", "rookery-menu-generator", "rookery-nar-cache"];

/// Follows the README to a served room, looks at what runs then, reloads and stops it.
pub fn check(lab: &Lab, workspace: &Workspace) -> Result<()> {
    let chapter = Chapter::parse(&read(&workspace.root().join("README.md"))?)?;
    let root = lab.scratch().join("units");
    // What the README installs from Debian is in the container already: it has no network to fetch it over.
    let packages = [&PACKAGES[..], &chapter.packages()].concat();
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian(workspace, &packages)?).arg(&root))?;
    fill_checkout(workspace, &root.join(CHECKOUT))?;
    let mut container = Container::boot(lab, &root)?;
    let outcome = check_room(&container, &root, &chapter);
    // What the services said is in the container's journal, and the container is about to go. Before the first unit was
    // installed, journalctl fails.
    let journal = container.run("journalctl", &["--no-pager", "--boot", "--unit=rookery-*"]).unwrap_or_default();
    journal.lines().for_each(|line| lab.log().note("journal", line));
    let ended = container.power_off();
    outcome.and(ended)
}

fn check_room(container: &Container, root: &Path, chapter: &Chapter) -> Result<()> {
    container.run("ip", &["link", "add", INTERFACE, "type", "veth", "peer", "name", "lab1"])?;
    container.run("ip", &["addr", "add", &format!("{ADDRESS}/24"), "dev", INTERFACE])?;
    for device in ["lo", INTERFACE, "lab1"] {
        container.run("ip", &["link", "set", device, "up"])?;
    }
    serve_as_told(container, root, chapter)?;
    expect_silence(container)?;
    for unit in &UNITS {
        check_running(container, unit)?;
    }
    check_served(container)?;
    check_troubleshooting(container, root)?;
    check_folders(container)?;
    check_collected(container, root)?;

    let services = UNITS.map(|unit| format!("rookery-{}.service", unit.name));
    // The sockets first, or they start their services again.
    container.systemctl("stop", &["rookery-tftpd.socket", "rookery-nar-cache.socket"])?;
    container.systemctl("stop", &services.each_ref().map(String::as_str))?;
    for name in &services {
        let ended = container.properties(name, &["ActiveState", "Result", "ExecMainStatus"])?;
        expect(ended == ["inactive", "success", "0"], || format!("{name} stopped as {ended:?}"))?;
    }
    check_follow(container)?;
    check_example(container, root)?;
    check_wrong_configuration(container, root)
}

/// Does what the README says, line by line as it stands there. Only the published system has a name that exists.
fn serve_as_told(container: &Container, root: &Path, chapter: &Chapter) -> Result<()> {
    write(&configuration(root), &chapter.configuration)?;
    let toplevel = add_toplevel(container, root)?;
    for line in &chapter.commands {
        let line = line.replace(&format!("/nix/store/…-{SYSTEM}"), &toplevel);
        container.run("bash", &["-euc", &format!("cd /{CHECKOUT} && {line}")])?;
    }
    // A service behind a socket starts with the first that asks.
    container.systemctl("start", &["rookery-tftpd.service", "rookery-nar-cache.service"])
}

const SYSTEM: &str = "nixos-system-lab-26.05";

/// A toplevel without boot.json, in the container's own Nix store. Nothing boots it; what it holds need not run.
fn add_toplevel(container: &Container, root: &Path) -> Result<String> {
    let folder = root.join("root").join(SYSTEM);
    for (file, text) in [
        ("init", "#!/bin/sh\n"),
        ("kernel", "a kernel"),
        ("initrd", "an initrd"),
        ("kernel-params", "loglevel=4"),
        ("nixos-version", "26.05"),
        ("system", "x86_64-linux"),
    ] {
        write(&folder.join(file), text)?;
    }
    container.run("nix-store", &["--add", &format!("/root/{SYSTEM}")]).map(|path| path.trim().to_owned())
}

fn fill_checkout(workspace: &Workspace, checkout: &Path) -> Result<()> {
    for program in PROGRAMS {
        copy(&workspace.program(program)?, &checkout.join("target/release").join(program))?;
    }
    let capture = workspace.root().join("crates/dhcp-engine/fixtures/bios-plain.pcap");
    copy(&capture, &checkout.with_file_name("boot.pcap"))?;
    run(Command::new("cp").arg("-a").args(["deploy", "docs"].map(|name| workspace.root().join(name))).arg(checkout))
        .map(drop)
}

fn configuration(root: &Path) -> PathBuf {
    root.join("etc/rookery/rookery.toml")
}

/// `systemd-analyze verify` reports an unknown key with success; so nothing at all may be printed.
fn expect_silence(container: &Container) -> Result<()> {
    let verify =
        "systemd-analyze verify /etc/systemd/system/rookery-*.service /etc/systemd/system/rookery-*.socket 2>&1; true";
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
        let text =
            container.run_in_network("curl", &["--silent", "--show-error", "--fail", "--max-time", "60", &url])?;
        expect(text.contains("NixOS 26.05"), || format!("{url} is {text:?}"))?;
    }
    Ok(())
}

/// The commands of docs/troubleshooting.md, as they stand there.
fn check_troubleshooting(container: &Container, root: &Path) -> Result<()> {
    let document = read(&root.join(CHECKOUT).join("docs/troubleshooting.md"))?;
    let scripts = scripts(&document);
    expect(!scripts.is_empty(), || "docs/troubleshooting.md has no commands".to_owned())?;
    let run = |script| container.run("bash", &["-euo", "pipefail", "-c", &format!("cd /root && {script}")]);
    scripts.into_iter().try_for_each(|script| run(script).map(drop))
}

/// What root published by hand, the publisher's own user can collect.
fn check_collected(container: &Container, root: &Path) -> Result<()> {
    let toplevel = add_toplevel(container, root)?;
    container.run("rookery", &["publish", "spare", &toplevel])?;
    container.run("rookery", &["remove", "spare/1"])?;
    container.systemctl("start", &["rookery-gc.service"])?;
    let folders = ["generations", "bundles", "cache"].map(|name| format!("/var/lib/rookery/{name}"));
    let roots = [&folders.each_ref().map(String::as_str)[..], &["-type", "d", "-user", "root"]].concat();
    let of_root = container.run("find", &roots)?;
    expect(of_root.is_empty(), || format!("only root can remove what is in {of_root}"))
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
    let key = container.run("stat", &["-c", "%U %a", "/etc/rookery/secret-key"])?;
    expect(key.trim() == "rookery-publish 400", || format!("the secret key is {key}"))?;
    container.systemctl("start", &["rookery-follow.service"])?;
    check_running(container, &FOLLOW)?;
    container.systemctl("stop", &["rookery-follow.service"])?;
    let ended = container.properties("rookery-follow.service", &["Result", "ExecMainStatus"])?;
    expect(ended == ["success", "0"], || format!("rookery-follow.service stopped as {ended:?}"))
}

/// Every service accepts the example, with the hosts beside it.
fn check_example(container: &Container, root: &Path) -> Result<()> {
    let deploy = root.join(CHECKOUT).join("deploy");
    copy(&deploy.join("rookery.example.toml"), &configuration(root))?;
    run(Command::new("cp").arg("-a").arg(deploy.join("hosts.d")).arg(root.join("etc/rookery")))?;
    UNITS.iter().try_for_each(|unit| container.run(&format!("rookery-{}", unit.name), &["check"]).map(drop))
}

/// A wrong configuration ends a service at once, with 78, and it is not started again.
fn check_wrong_configuration(container: &Container, root: &Path) -> Result<()> {
    write(&configuration(root), "state = 1\n")?;
    let name = "rookery-menu-generator.service";
    expect(container.systemctl("start", &[name]).is_err(), || format!("{name} starts with a wrong configuration"))?;
    let state = container.properties(name, &["ActiveState", "ExecMainStatus", "NRestarts"])?;
    expect(state == ["failed", "78", "0"], || format!("{name} with a wrong configuration: {state:?}"))
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

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("reading {}", path.display())))
}
