use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use boot_model::GenerationRef;

use crate::lab::Lab;
use crate::namespace::SERVER;
use crate::process::{Process, run};
use crate::servers::PORT;
use crate::system::Toplevel;
use crate::{Error, Result, Workspace};

/// The client's agent without a machine around it: what stage 1 and stage 2 call, over a directory of this machine. A fetch then
/// costs seconds, where a boot under emulation costs a minute.
#[derive(Debug)]
pub struct Agent<'a> {
    lab: &'a Lab,
    program: PathBuf,
    root: PathBuf,
    /// What the initrd and the kernel know: command line, keys, `/run`.
    surroundings: PathBuf,
}

/// How a verb of the agent ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed, line by line.
    pub said: Vec<String>,
}

/// Its name in the log.
const NAME: &str = "agent";

/// How long a verb may take. Far more than any needs: machines are busy, too.
const VERB: Duration = Duration::from_secs(600);

impl<'a> Agent<'a> {
    /// An agent that trusts one key, and whose client's root is (or will be mounted at) `root`.
    pub fn new(lab: &'a Lab, workspace: &Workspace, public_key: &Path, root: &Path) -> Result<Self> {
        let agent = Self {
            lab,
            program: workspace.agent()?,
            root: root.to_owned(),
            surroundings: root.with_extension("surroundings"),
        };
        for directory in [&agent.surroundings, &agent.store()] {
            fs::create_dir_all(directory).map_err(Error::io(format!("creating {}", directory.display())))?;
        }
        let keys = agent.surroundings.join("keys");
        fs::copy(public_key, &keys).map_err(Error::io(format!("copying a key to {}", keys.display())))?;
        Ok(agent)
    }

    /// The client's `/nix/store`, as this machine sees it.
    pub fn store(&self) -> PathBuf {
        self.root.join("nix/store")
    }

    /// The client's `/nix/var`.
    pub fn state(&self) -> PathBuf {
        self.root.join("nix/var")
    }

    /// Switches the client on: an entry of the menu was chosen, and nothing is left of what was in memory before.
    pub fn choose(&self, generation: &GenerationRef, toplevel: &Toplevel) -> Result<()> {
        let server = SocketAddrV4::new(SERVER, PORT);
        let card = "01-52-54-00-77-00-00";
        let toplevel = &toplevel.path;
        let line =
            format!("init={toplevel}/init rookery.server={server} rookery.generation={generation} BOOTIF={card}\n");
        let _ = fs::remove_dir_all(self.run());
        fs::create_dir_all(self.run())
            .and_then(|()| fs::write(self.surroundings.join("cmdline"), line))
            .map_err(Error::io(format!("writing into {}", self.surroundings.display())))
    }

    /// Begins to fetch what was chosen.
    pub fn start_fetch(&self, options: &[&str]) -> Result<Process> {
        let root = self.root.display().to_string();
        self.start(&[&["fetch", "--root", &root], options].concat())
    }

    /// Fetches what was chosen, to the end.
    pub fn fetch(&self, options: &[&str]) -> Result<Ended> {
        let since = self.lab.log().place();
        let mut process = self.start_fetch(options)?;
        let status = process.wait(VERB)?;
        let lines = self.lab.log().since(since).into_iter().filter(|line| line.source == NAME);
        Ok(Ended { status, said: lines.map(|line| line.text).collect() })
    }

    /// As stage 2: tells Nix what is there, by this machine's own Nix.
    pub fn register(&self) -> Result<()> {
        let root = self.root.display().to_string();
        let status = self.start(&["register", "--root", &root, "--nix-store", "nix-store"])?.wait(VERB)?;
        if status.success() { Ok(()) } else { Err(Error::Wrong(format!("rookery-agent register ended with {status}"))) }
    }

    /// Marks a generation as one that came up and ran. `report running` does that, but only for the machine's own root.
    pub fn came_up(&self, generation: &GenerationRef) -> Result<()> {
        let mark = self.state().join("rookery/good").join(generation.role.as_str());
        mark.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&mark, generation.id.to_string()))
            .map_err(Error::io(format!("writing {}", mark.display())))
    }

    /// What stage 1 would hand over to.
    pub fn init(&self) -> Option<String> {
        fs::read_to_string(self.run().join("init")).ok().map(|text| text.trim().to_owned())
    }

    /// Stock Nix finds every path of the closure valid, and in every file of the store what its database says.
    pub fn verify(&self, toplevel: &Toplevel) -> Result<()> {
        let paths = toplevel.closure.iter().map(|path| path.path.as_str());
        self.nix_store(["--check-validity"].into_iter().chain(paths))?;
        self.nix_store(["--verify", "--check-contents"])
    }

    fn nix_store<'b>(&self, arguments: impl IntoIterator<Item = &'b str>) -> Result<()> {
        let remote = format!("local?root={}", self.root.display());
        run(std::process::Command::new("nix-store").args(arguments).env("NIX_REMOTE", remote)).map(drop)
    }

    fn start(&self, arguments: &[&str]) -> Result<Process> {
        // Offline it may want to start another kernel: not this machine's.
        let mut command = self.lab.namespace().command("setpriv");
        command.args(["--bounding-set=-sys_boot", "--"]).arg(&self.program).args(arguments);
        command.arg("--cmdline").arg(self.surroundings.join("cmdline"));
        command.arg("--trusted-keys").arg(self.surroundings.join("keys"));
        command.arg("--run-dir").arg(self.run());
        Process::start(self.lab.log(), NAME, &mut command)
    }

    fn run(&self) -> PathBuf {
        self.surroundings.join("run")
    }
}

impl Ended {
    /// An error with what it said last, unless it succeeded.
    pub fn expect_success(&self) -> Result<()> {
        if self.status.success() {
            return Ok(());
        }
        Err(Error::Wrong(format!("rookery-agent ended with {}: {:?}", self.status, self.said)))
    }

    /// Whether a line that it printed has this.
    pub fn says(&self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }
}
