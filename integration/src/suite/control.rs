//! The lab tests itself: with servers of others, so that a broken lab and a broken Rookery can be told apart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Context, Test};
use crate::client::{Client, Firmware, Machine};
use crate::log::Awaited;
use crate::namespace::BRIDGE;
use crate::process::Process;
use crate::{Error, Lab, Result};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("control-plain", |context| boots_from_dnsmasq(context, Firmware::PlainPxe)),
        Test::new("control-ipxe", |context| boots_from_dnsmasq(context, Firmware::Ipxe)),
    ]
}

const SAID: &str = "the loader has read its configuration";

/// Firmware, cable, namespace and console work: `lpxelinux.0` comes from dnsmasq, reads its configuration and says so. dnsmasq
/// gives each kind of client a file of its own, so that the stripping of options is seen too.
fn boots_from_dnsmasq(context: &Context<'_>, firmware: Firmware) -> Result<()> {
    let lab = context.lab(1)?;
    let root = lab.scratch().join("tftp");
    serve_files(&root)?;
    let since = lab.log().place();
    let _dnsmasq = start_dnsmasq(&lab, &root)?;
    let machine = Machine::start(&lab, &Client::new("client", 0, firmware))?;
    machine.wait_for(SAID, Duration::from_secs(180))?;
    let file = if firmware == Firmware::Ipxe { "ipxe.0" } else { "plain.0" };
    let awaited = Awaited { what: file, source: "dnsmasq", since, within: Duration::from_secs(10), fatal: &[] };
    lab.log().wait(&awaited, |line| line.contains("sent") && line.contains(file))?;
    Ok(())
}

fn start_dnsmasq(lab: &Lab, root: &Path) -> Result<Process> {
    let mut command = lab.namespace().command("dnsmasq");
    command.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0", "--bind-interfaces", "--no-ping"]);
    command.arg(format!("--interface={BRIDGE}"));
    command.arg(format!("--dhcp-leasefile={}", lab.scratch().join("leases").display()));
    command.args(["--dhcp-range=10.77.0.100,10.77.0.200,1h", "--dhcp-authoritative", "--dhcp-no-override"]);
    // 175.176 = 1 spares iPXE its wait of 3 s for a ProxyDHCP offer.
    command.arg("--dhcp-option-force=encap:175,176,1b");
    command.args(["--dhcp-userclass=set:ipxe,iPXE", "--dhcp-boot=tag:ipxe,ipxe.0", "--dhcp-boot=tag:!ipxe,plain.0"]);
    command.arg("--enable-tftp").arg(format!("--tftp-root={}", root.display()));
    lab.start_server("dnsmasq", &mut command, "TFTP root is")
}

fn serve_files(root: &Path) -> Result<()> {
    let lpxelinux = Path::new("/usr/lib/PXELINUX/lpxelinux.0");
    let ldlinux = Path::new("/usr/lib/syslinux/modules/bios/ldlinux.c32");
    let configuration = format!("SAY {SAID}\nPROMPT 1\nTIMEOUT 0\n");
    fs::create_dir_all(root.join("pxelinux.cfg"))
        .and_then(|()| fs::copy(lpxelinux, root.join("plain.0")))
        .and_then(|_| fs::copy(lpxelinux, root.join("ipxe.0")))
        .and_then(|_| fs::copy(ldlinux, root.join("ldlinux.c32")))
        .and_then(|_| fs::write(root.join("pxelinux.cfg/default"), configuration))
        .map_err(Error::io(format!("filling {}", root.display())))
}
