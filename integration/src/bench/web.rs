//! The HTTP servers that are measured, ours and nginx, over the same files.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use boot_model::GenerationRef;
use nix::unistd::{SysconfVar, sysconf};

use super::load::Connection;
use super::{Peer, menu};
use crate::namespace::SERVER;
use crate::process::{Process, run as run_program};
use crate::room::{Room, Systems};
use crate::servers::PORT;
use crate::system::Toplevel;
use crate::{Error, Lab, Result, Workspace};

/// A room whose cache has one large pack and some small paths.
pub(super) struct Content {
    pub(super) room: Room,
    /// The generation with the large pack, of which the toplevel tells nothing but its path.
    pub(super) large: (GenerationRef, Toplevel),
    /// The URL path of the large pack, and its bytes.
    pub(super) pack: (String, u64),
    /// The URL paths of all narinfos.
    pub(super) narinfos: Vec<String>,
}

/// A server that runs.
pub(super) struct Web {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) address: SocketAddrV4,
    process: Process,
}

/// Small paths beside the large one.
const PATHS: u64 = 20;

impl Content {
    /// Publishes generations of noise; the pack of the large one has about so many bytes.
    pub(super) fn publish(workspace: &Workspace, lab: Lab, pack: usize) -> Result<Self> {
        let store = lab.scratch().join("store");
        let room = Room::open(workspace, lab, &Systems::secret_key(workspace)?, store.clone(), &[])?;
        for number in 1..=PATHS {
            room.publish(&menu::toplevel(&store, room.lab.scratch(), number, 1000, 1000)?)?;
        }
        let path = menu::toplevel(&store, room.lab.scratch(), PATHS + 1, pack, 0)?;
        let large = (room.publish(&path)?, Toplevel { path, versions: BTreeMap::new(), closure: Vec::new() });
        let cache = room.site.state().join("cache");
        let narinfos = files(&cache, "")?.into_iter().map(|(name, _)| name);
        let narinfos = narinfos.filter(|name| name.ends_with(".narinfo")).collect();
        let packs = files(&cache.join("nar"), "/nar")?.into_iter();
        let pack = packs.max_by_key(|(_, size)| *size).ok_or_else(|| Error::Wrong("nothing was packed".into()))?;
        Ok(Self { room, large, pack, narinfos })
    }
}

impl Web {
    /// Rookery's own, as it is installed: all limits have their defaults.
    pub(super) fn ours(workspace: &Workspace, room: &Room) -> Result<Self> {
        let program = workspace.program("rookery-nar-cache")?;
        let mut command = room.lab.namespace().command(&program);
        command.arg("--config").arg(room.site.config()).arg("run");
        Self::start(room, "rookery", &program, SocketAddrV4::new(SERVER, PORT), command)
    }

    /// nginx, which keeps a log of its requests as ours keeps its events.
    pub(super) fn nginx(workspace: &Workspace, room: &Room, port: u16, sendfile: bool) -> Result<Self> {
        let program = unpacked(workspace)?;
        let (name, switch) = if sendfile { ("nginx, sendfile on", "on") } else { ("nginx, sendfile off", "off") };
        let folder = room.lab.scratch().join(format!("nginx-{port}"));
        fs::create_dir_all(&folder).map_err(Error::io("creating a folder for nginx"))?;
        let address = SocketAddrV4::new(SERVER, port);
        let cache = room.site.state().join("cache");
        let text = configuration(&folder, &cache, address, switch);
        let file = folder.join("nginx.conf");
        fs::write(&file, text).map_err(Error::io("writing nginx.conf"))?;
        let mut command = room.lab.namespace().command(&program);
        command.args(["-e", "stderr", "-c"]).arg(file);
        Self::start(room, name, &program, address, command)
    }

    /// For a row.
    pub(super) fn peer(&self, value: f64) -> Peer {
        Peer { value, name: self.name.to_owned(), version: self.version.clone() }
    }

    /// Processor seconds that it has used since its start.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let ticks = self.processes()?.into_iter().map(cpu_ticks).sum::<Result<u64>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Ok(ticks as f64 / per_second as f64)
    }

    /// The most memory that it has held, in MB: of all its processes together.
    pub(super) fn peak_memory(&self) -> Result<f64> {
        let peak = |process: u32| {
            let status = read(&format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
            let kib = line.and_then(|number| number.parse::<f64>().ok());
            kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| Error::Wrong(format!("process {process} has no VmHWM")))
        };
        self.processes()?.into_iter().map(peak).sum()
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let id = self.process.id();
        let children = read(&format!("/proc/{id}/task/{id}/children"))?;
        Ok(children.split_whitespace().filter_map(|id| id.parse().ok()).chain([id]).collect())
    }

    fn start(
        room: &Room,
        name: &'static str,
        program: &Path,
        address: SocketAddrV4,
        mut command: Command,
    ) -> Result<Self> {
        let version = version(program)?;
        let process = Process::start(room.lab.log(), name, &mut command)?;
        let lab = &room.lab;
        let first = move || Connection::open(SocketAddrV4::new(SERVER, 0), address)?.get("/nix-cache-info");
        lab.poll(&format!("an answer of {name}"), READY, || Ok(lab.namespace().run(first).ok()))?;
        Ok(Self { name, version, address, process })
    }
}

/// The cable between servers and clients, slowed down. Dropping it takes the brake off.
pub(super) struct Cable<'a> {
    lab: &'a Lab,
    /// The servers' interface.
    device: &'static str,
}

impl<'a> Cable<'a> {
    /// The loopback interface, where servers and clients share a namespace. Of a rate as tc has it.
    pub(super) fn of(lab: &'a Lab, rate: &str) -> Result<Self> {
        Self::at(lab, "lo", rate)
    }

    /// The bridge that virtual machines are plugged into.
    pub(super) fn of_machines(lab: &'a Lab, rate: &str) -> Result<Self> {
        Self::at(lab, "br0", rate)
    }

    fn at(lab: &'a Lab, device: &'static str, rate: &str) -> Result<Self> {
        let bucket = ["tbf", "rate", rate, "burst", "256kb", "latency", "50ms"];
        run_program(lab.namespace().command("tc").args(["qdisc", "add", "dev", device, "root"]).args(bucket))?;
        Ok(Self { lab, device })
    }
}

impl Drop for Cable<'_> {
    fn drop(&mut self) {
        let removed =
            run_program(self.lab.namespace().command("tc").args(["qdisc", "del", "dev", self.device, "root"]));
        if let Err(error) = removed {
            eprintln!("lab: {error}");
        }
    }
}

impl Drop for Web {
    /// In order: nginx' workers outlive a master that is killed.
    fn drop(&mut self) {
        if let Err(error) = self.process.stop() {
            eprintln!("lab: {} did not stop: {error}", self.name);
        }
    }
}

const READY: Duration = Duration::from_secs(60);

/// As an administrator would write it for a machine of two cores: two workers, and what nginx' own documentation recommends for large
/// static files.
fn configuration(folder: &Path, cache: &Path, address: SocketAddrV4, sendfile: &str) -> String {
    let (folder, cache) = (folder.display(), cache.display());
    format!(
        "user root;\ndaemon off;\nworker_processes 2;\npid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log {folder}/access.log;\n\
         sendfile {sendfile};\ntcp_nopush on;\ntcp_nodelay on;\noutput_buffers 2 512k;\nkeepalive_requests 1000000;\n\
         client_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\nfastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n\
         server {{ listen {address}; root {cache}; }}\n\
         }}\n"
    )
}

/// `integration/setup` has unpacked it: installed, it would serve this machine's network.
fn unpacked(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.target().join("lab/peers/nginx/usr/sbin/nginx");
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Usage(format!("{} is missing: run integration/setup", path.display())))
    }
}

/// The first number in what the program says of itself.
fn version(program: &Path) -> Result<String> {
    let flag = if program.ends_with("nginx") { "-v" } else { "--version" };
    let output = Command::new(program).arg(flag).output().map_err(Error::io("asking for a version"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let number = said.split([' ', '/', '\n']).find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    number.map(str::to_owned).ok_or_else(|| Error::Wrong(format!("{} tells no version: {said}", program.display())))
}

fn cpu_ticks(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/stat");
    let stat = read(&path)?;
    // The name, in brackets, may have spaces; user and system time are the 12th and 13th field behind it (proc(5)).
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    ticks(11).zip(ticks(12)).map(|(user, system)| user + system).ok_or_else(|| Error::Wrong(format!("{path}: {stat}")))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("reading {path}")))
}

/// The files of a folder by their URL paths, with their sizes.
fn files(folder: &Path, url: &str) -> Result<Vec<(String, u64)>> {
    let doing = || Error::io(format!("listing {}", folder.display()));
    let entries = fs::read_dir(folder).map_err(doing())?.map(|entry| {
        let entry = entry.map_err(doing())?;
        let size = entry.metadata().map_err(doing())?.len();
        Ok((format!("{url}/{}", entry.file_name().display()), size))
    });
    entries.collect()
}

/// The bytes of one megabit, a second long.
pub(super) const MEGABIT: f64 = 1e6 / 8.0;

/// An address of the lab's network that no server has.
pub(super) fn client(number: u32) -> Ipv4Addr {
    let [.., high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 77, 100 + high, low)
}
