//! The host's apt, asked about Debian suites that the host itself need not use. Lists, state and downloads stay in the work
//! directory; proxies and the like are the host's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Work;
use super::control::Stanza;
use crate::process::run;
use crate::{Error, Result};

/// What apt may choose packages from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// bookworm as released.
    Released,
    /// bookworm with updates and security.
    Updated,
    /// trixie, for a newer Nix.
    Newer,
}

impl Source {
    const ALL: &[Self] = &[Self::Released, Self::Updated, Self::Newer];

    fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Updated => "updated",
            Self::Newer => "newer",
        }
    }

    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Released => &["bookworm"],
            Self::Updated => &["bookworm", "bookworm-updates", "bookworm-security"],
            Self::Newer => &["trixie"],
        }
    }
}

/// Signs every suite above; on every Debian 12.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt of our own below the work directory, for one architecture.
#[derive(Debug)]
pub(super) struct Apt {
    directory: PathBuf,
    archives: PathBuf,
    architecture: &'static str,
    sources: &'static [Source],
}

impl Apt {
    /// Makes the directories. No network yet.
    pub(super) fn create(work: &Work) -> Result<Self> {
        Self::make(work, "apt", "amd64", Source::ALL)
    }

    /// As [`Apt::create`], for packages of 64-bit Arm as released.
    pub(super) fn arm64(work: &Work) -> Result<Self> {
        Self::make(work, "apt-arm64", "arm64", &[Source::Released])
    }

    fn make(work: &Work, name: &str, architecture: &'static str, sources: &'static [Source]) -> Result<Self> {
        let apt = Self { directory: work.path(name), archives: work.path("debs"), architecture, sources };
        for directory in [apt.directory.join("lists/partial"), apt.archives.join("partial")] {
            fs::create_dir_all(&directory).map_err(Error::io(format!("making {}", directory.display())))?;
        }
        apt.write("status", "")?;
        Ok(apt)
    }

    /// Downloads the Depends closure of `words` (Recommends left out) and returns its packages; all their files are in
    /// [`Apt::file`]'s place afterwards. Files that are there already are not downloaded again.
    pub(super) fn closure(&self, source: Source, words: &[String]) -> Result<Vec<Stanza>> {
        let plan = self.with_lists(|| self.download(source, words))?;
        let chosen = chosen_versions(&plan);
        Ok(Stanza::parse_all(&run(self.command("apt-cache", source).arg("show").args(chosen))?))
    }

    /// Downloads these packages as released, without what they depend on, into a directory.
    pub(super) fn packages(&self, words: &[&str], directory: &Path) -> Result<()> {
        let source = Source::Released;
        self.with_lists(|| {
            let download = &mut self.command("apt-get", source);
            run(download.arg("download").args(words).current_dir(directory)).map(drop)
        })
    }

    /// What a package without files of its own stands for, `linux-image-arm64` say.
    pub(super) fn stands_for(&self, name: &str) -> Result<String> {
        let said = self.with_lists(|| run(self.command("apt-cache", Source::Released).args(["depends", name])))?;
        let depends = said.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        depends
            .map(str::to_owned)
            .ok_or_else(|| Error::Wrong(format!("apt knows nothing that {name} depends on: {said}")))
    }

    /// Asks, and if need be again with new lists: security suites drop a version when the next one comes, so lists that were read a
    /// while ago name files that are gone.
    fn with_lists<T>(&self, ask: impl Fn() -> Result<T>) -> Result<T> {
        if !self.directory.join("updated").exists() {
            self.update()?;
        }
        ask().or_else(|_| {
            self.update()?;
            ask()
        })
    }

    /// Where the file of a package lies.
    pub(super) fn file(&self, stanza: &Stanza) -> PathBuf {
        self.archives.join(stanza.file_name())
    }

    /// Downloads and returns what apt says about it, versions included.
    fn download(&self, source: Source, words: &[String]) -> Result<String> {
        let options = ["install", "--yes", "--no-install-recommends", "--download-only", "--verbose-versions"];
        run(self.command("apt-get", source).args(options).args(words))
    }

    fn update(&self) -> Result<()> {
        let targets = run(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
        let archive = Archive::of_host(&targets)?;
        for source in self.sources {
            self.write(&format!("{}.list", source.name()), &archive.lines(source.suites()))?;
        }
        // All suites at once: apt deletes the lists of those that it is not told about.
        let all: String = self.sources.iter().map(|source| archive.lines(source.suites())).collect();
        self.write("all.list", &all)?;
        let mut update = Command::new("apt-get");
        // The cache over all of them would never be used.
        run(self.configure(&mut update, "all").args(["-o", "pkgCacheFile::Generate=false", "-qq", "update"]))?;
        self.write("updated", "")
    }

    fn command(&self, program: &str, source: Source) -> Command {
        let mut command = Command::new(program);
        self.configure(&mut command, source.name());
        command
    }

    fn configure<'a>(&self, command: &'a mut Command, list: &str) -> &'a mut Command {
        let below = |name: &str| self.directory.join(name).display().to_string();
        let settings = [
            format!("Dir::Etc::SourceList={}", below(&format!("{list}.list"))),
            "Dir::Etc::SourceParts=-".into(),
            "Dir::Etc::Preferences=-".into(),
            "Dir::Etc::PreferencesParts=-".into(),
            // An empty one: nothing is installed, so the whole closure is wanted.
            format!("Dir::State::status={}", below("status")),
            format!("Dir::State::Lists={}", below("lists")),
            format!("Dir::State::extended_states={}", below("extended_states")),
            format!("Dir::Cache::Archives={}", self.archives.display()),
            format!("Dir::Cache::PkgCache={}", below(&format!("{list}.packages"))),
            "Dir::Cache::SrcPkgCache=".into(),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            "APT::Sandbox::User=root".into(),
            "APT::Keep-Downloaded-Packages=true".into(),
            "APT::Default-Release=".into(),
            "Acquire::Languages=none".into(),
            // Three times faster to read.
            "Acquire::GzipIndexes=false".into(),
            "Acquire::Retries=3".into(),
        ];
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command.args(settings.into_iter().flat_map(|setting| ["-o".into(), setting]))
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path: &Path = &self.directory.join(name);
        fs::write(path, content).map_err(Error::io(format!("writing {}", path.display())))
    }
}

/// The Debian archive that the host uses.
struct Archive {
    main: String,
    security: String,
}

impl Archive {
    /// From the addresses of the host's own sources, one a line.
    fn of_host(addresses: &str) -> Result<Self> {
        let ending =
            |end: &str| addresses.lines().map(|line| line.trim_end_matches('/')).find(|line| line.ends_with(end));
        let Some(main) = ending("/debian") else {
            let what =
                "apt on this machine has no Debian archive (an address ending in /debian) among its sources: add one";
            return Err(Error::Wrong(what.into()));
        };
        let security = ending("/debian-security").map_or_else(|| format!("{main}-security"), str::to_owned);
        Ok(Self { main: main.to_owned(), security })
    }

    fn lines(&self, suites: &[&str]) -> String {
        let line = |suite: &&str| {
            let address = if suite.ends_with("-security") { &self.security } else { &self.main };
            format!("deb [target=Packages signed-by={KEYRING}] {address} {suite} main\n")
        };
        suites.iter().map(line).collect()
    }
}

/// `   libc6 (2.36-9)` → `libc6=2.36-9`, for each such line below the heading of what is new. Nothing is installed in our apt, so
/// everything is.
fn chosen_versions(plan: &str) -> Vec<String> {
    let chosen = |line: &str| {
        let (name, version) = line.trim_start().split_once(" (")?;
        Some(format!("{name}={}", version.strip_suffix(')')?))
    };
    let lines = plan.lines().skip_while(|line| !line.starts_with("The following NEW packages")).skip(1);
    lines.take_while(|line| line.starts_with(' ')).filter_map(chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_off_what_apt_says() {
        let plan = "Reading package lists...\nThe following additional packages will be installed:\n   libc6 (2.36-9)\n\
                    Suggested packages:\n   glibc-doc (2.36-9)\nThe following NEW packages will be installed:\n   libc6 (2.36-9)\n   \
                    login (1:4.13)\n0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\n";
        assert_eq!(chosen_versions(plan), ["libc6=2.36-9", "login=1:4.13"]);
    }

    #[test]
    fn the_hosts_archive_serves_every_suite() {
        let archive =
            Archive::of_host("https://x.test/apt\nhttp://deb.test/debian/\nhttp://sec.test/debian-security\n").unwrap();
        let lines = archive.lines(&["bookworm", "bookworm-security"]);
        assert!(lines.contains("http://deb.test/debian bookworm main\n"), "{lines}");
        assert!(lines.contains("http://sec.test/debian-security bookworm-security main\n"), "{lines}");
        let archive = Archive::of_host("http://deb.test/debian\n").unwrap();
        assert_eq!(archive.security, "http://deb.test/debian-security");
        assert!(Archive::of_host("https://x.test/ubuntu\n").is_err());
    }
}
