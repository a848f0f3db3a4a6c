use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::flash::Flash;
use super::line::{SerialLine, Socket};
use super::monitor::Monitor;
use super::{Client, DISK_SERIAL, Firmware};
use crate::lab::Lab;
use crate::log::{Awaited, Line, Log, Place};
use crate::process::Process;
use crate::relay::{Counts, Relay};
use crate::{Error, Result};

/// A running client. Dropping it cuts its power.
#[derive(Debug)]
pub struct Machine {
    name: String,
    process: Process,
    line: Option<SerialLine>,
    relay: Option<Relay>,
    monitor: PathBuf,
    started: Place,
    log: Log,
}

/// Lines after which no boot succeeds: firmware, boot loaders, the kernel, the emulator.
const FATAL: [&str; 10] = [
    "No bootable device",
    "Access Denied",
    "Security Violation",
    "Boot failed",
    "Failed to boot both",
    "PXE-E",
    "UEFI Interactive Shell",
    "Kernel panic",
    "KVM internal error",
    "Press any key to continue",
];

impl Machine {
    /// Switches a client on. A reboot inside switches it off ([`Machine::wait_off`]): the lab switches it on again when
    /// it has looked at what it wanted to see.
    pub fn start(lab: &Lab, client: &Client) -> Result<Self> {
        let monitor = lab.scratch().join(format!("{}.monitor", client.name));
        let relay = client
            .rules()
            .map(|rules| Relay::start(lab.log(), lab.namespace(), &client.tap(), lab.scratch(), &client.name, rules));
        let relay = relay.transpose()?;
        let started = lab.log().place();
        let program = match client.firmware {
            Firmware::UefiArm64 => "qemu-system-aarch64",
            _ => "qemu-system-x86_64",
        };
        let mut qemu = lab.namespace().command(program);
        qemu.args(arguments(client, relay.as_ref(), &monitor));
        if let Some(flash) = Flash::of(client, lab.scratch())? {
            qemu.args(flash.arguments());
        }
        let socket = client.line.then(|| Socket::bind(lab.scratch().join(format!("{}.line", client.name))));
        let socket = socket.transpose()?;
        if let Some(socket) = &socket {
            qemu.args(socket.arguments());
        }
        lab.log().note("lab", format!("{} is switched on", client.name));
        let process = Process::start(lab.log(), &client.name, &mut qemu)?;
        let line = socket.map(|socket| socket.plug(lab, &client.line_name())).transpose()?;
        Ok(Self { name: client.name.clone(), process, line, relay, monitor, started, log: lab.log().clone() })
    }

    /// The place in the log at which it was switched on.
    pub fn started(&self) -> Place {
        self.started
    }

    /// Waits for part of a line on the serial console since the machine was switched on.
    pub fn wait_for(&self, text: &str, within: Duration) -> Result<Line> {
        self.wait_since(self.started, text, within)
    }

    /// As [`Machine::wait_for`], from a later place.
    pub fn wait_since(&self, since: Place, text: &str, within: Duration) -> Result<Line> {
        let awaited = Awaited { what: &format!("{text:?}"), source: &self.name, since, within, fatal: &FATAL };
        self.log.wait(&awaited, |line| line.contains(text))
    }

    /// Fails if the machine is off, or has printed a line after which no boot succeeds.
    pub fn check_alive(&self) -> Result<()> {
        let (what, within) = ("a sign of life", Duration::ZERO);
        self.log.check(&Awaited { what, source: &self.name, since: self.started, within, fatal: &FATAL })
    }

    /// Its name in the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The socket of the emulator's monitor.
    pub fn monitor(&self) -> &Path {
        &self.monitor
    }

    /// Types on the serial console.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.process.type_text(text)
    }

    /// Types on the third serial line, if it has one.
    pub fn type_on_line(&mut self, text: &str) -> Result<()> {
        self.line.as_mut().map_or(Ok(()), |line| line.type_text(text))
    }

    /// Presses keys on the keyboard, by QEMU's names: `down`, `ret`, `ctrl-alt-delete`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let mut monitor = Monitor::connect(&self.monitor)?;
        for key in keys {
            monitor.command(&format!("sendkey {key}"))?;
        }
        Ok(())
    }

    /// Photographs the screen, as PNG.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        self.dump_screen(file, " -f png")
    }

    /// How many colours are on the screen: a background alone has one, a menu with its text has dozens.
    pub fn colours(&self, scratch: &Path) -> Result<usize> {
        let file = scratch.join("screen.ppm");
        self.dump_screen(&file, "")?;
        let picture = fs::read(&file).map_err(Error::io(format!("reading {}", file.display())))?;
        // The header of a PPM is three lines; QEMU writes no comment into it.
        let header: usize = picture.split_inclusive(|byte| *byte == b'\n').take(3).map(<[u8]>::len).sum();
        let colours: HashSet<&[u8]> = picture[header.min(picture.len())..].chunks_exact(3).collect();
        Ok(colours.len())
    }

    fn dump_screen(&self, file: &Path, format: &str) -> Result<()> {
        // QEMU writes the file; a relative name would be relative to QEMU's directory.
        let file = std::path::absolute(file).map_err(Error::io("making a file name absolute"))?;
        let _ = fs::remove_file(&file);
        let answer = Monitor::connect(&self.monitor)?.command(&format!("screendump {}{format}", file.display()))?;
        if file.exists() {
            return Ok(());
        }
        Err(Error::Wrong(format!("no screenshot of {}: {answer}", self.name)))
    }

    /// Waits until the machine has switched itself off, or wanted to reboot.
    pub fn wait_off(&mut self, within: Duration) -> Result<()> {
        let status = self.process.wait(within)?;
        self.log.note("lab", format!("{} is off ({status})", self.name));
        if status.success() {
            Ok(())
        } else {
            Err(Error::Wrong(format!("the emulator of {} ended with {status}", self.name)))
        }
    }

    /// Pulls the plug. What the disk has not flushed is then up to the disk, see [`crate::nbd::Disk::cut`].
    pub fn cut_power(&mut self) {
        self.process.kill();
        self.log.note("lab", format!("the power of {} is cut", self.name));
    }

    /// What the cable did to the machine's packets.
    pub fn cable_counts(&self) -> Option<Counts> {
        self.relay.as_ref().map(Relay::counts)
    }
}

fn arguments(client: &Client, relay: Option<&Relay>, monitor: &Path) -> Vec<String> {
    let netdev = relay.map_or_else(
        || format!("tap,id=n0,ifname={},script=no,downscript=no", client.tap()),
        |relay| relay.netdev("n0"),
    );
    // With a screen SeaBIOS and the menu show there; without, `graphics=off` sends both to the serial console.
    let (machine, vga) = match (client.firmware, client.screen) {
        (Firmware::UefiArm64, _) => ("virt,accel=tcg", "none"),
        (Firmware::SecureBoot, _) => ("q35,accel=tcg,smm=on", "none"),
        (_, true) => ("q35,accel=tcg", "std"),
        (_, false) if client.is_bios() => ("q35,accel=tcg,graphics=off", "none"),
        (_, false) => ("q35,accel=tcg", "none"),
    };
    // Without a ROM on the card the firmware's own PXE drives it, and not iPXE.
    let rom = if client.is_bios() { "" } else { ",romfile=" };
    let card = format!("{},netdev=n0,mac={},bootindex=1{rom}", client.card.device(), client.mac());
    let cores = if client.is_bios() { "2" } else { "1" };
    let memory = client.memory.to_string();
    let monitor = format!("unix:{},server=on,wait=off", monitor.display());
    let mut arguments: Vec<String> = [
        ["-machine", machine].as_slice(),
        &["-m", &memory, "-smp", cores, "-nodefaults", "-no-reboot"],
        &["-display", "none", "-vga", vga, "-serial", "stdio", "-monitor", &monitor],
        &["-netdev", &netdev, "-device", &card],
        &["-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    let special: &[&str] = match client.firmware {
        Firmware::UefiHttp => &[
            "-fw_cfg",
            "name=opt/org.tianocore/IPv4PXESupport,string=n",
            "-fw_cfg",
            "name=opt/org.tianocore/IPv6PXESupport,string=n",
        ],
        // The variables are the firmware's alone; without this the kernel could enrol a key.
        Firmware::SecureBoot => {
            &["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
        }
        // Who leaves PXE to the next boot option would wait a minute for each of PXE and HTTP over IPv6.
        Firmware::Uefi => &["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"],
        Firmware::UefiArm64 => &["-cpu", "cortex-a57"],
        Firmware::Ipxe | Firmware::PlainPxe => &[],
    };
    arguments.extend(special.iter().map(|&word| word.to_owned()));
    if let Some(socket) = &client.disk {
        let disk = format!("driver=nbd,node-name=d0,server.type=unix,server.path={}", socket.display());
        let device = format!("virtio-blk-pci,drive=d0,bootindex=2,write-cache=on,serial={DISK_SERIAL}");
        arguments.extend(["-blockdev".to_owned(), disk, "-device".to_owned(), device]);
    }
    arguments
}
