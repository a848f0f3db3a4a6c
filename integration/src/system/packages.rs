//! Which packages a system is made of and built with: apt's choice, as the lists that `system.nix` reads. Once written, a list
//! and the files it names are all that a build needs; the network is asked no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::apt::{Apt, Source};
use super::closure::Graph;
use super::control::Stanza;
use super::sections::Sections;
use super::{Work, write_atomically};
use crate::{Error, Result};

/// The packages of one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packages {
    /// The kernel, which refers to nothing.
    pub(super) kernel: Kernel,
    /// What the client runs, each behind what it refers to.
    pub(super) system: Vec<Package>,
}

/// What is needed while building. Always the released versions: otherwise an update of a compressor would give another store path
/// to all that it compresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tools {
    /// Each behind what it refers to.
    packages: Vec<Package>,
}

/// One package of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Package {
    /// Debian's name for it.
    pub(super) name: String,
    /// Debian's version.
    pub(super) version: String,
    /// The downloaded .deb.
    pub(super) file: PathBuf,
    /// Names of packages that stand before this one: its Depends.
    pub(super) deps: Vec<String>,
}

/// A `linux-image-<release>` package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernel {
    /// What `uname -r` says, as `6.1.0-50-amd64`.
    pub(super) release: String,
    /// Debian's version.
    pub(super) version: String,
    /// The downloaded .deb.
    pub(super) file: PathBuf,
}

/// A list in the work directory, and the words of packages.txt that led to it: other words need another list.
#[derive(Serialize, Deserialize)]
struct Kept<List> {
    asked: Vec<String>,
    list: List,
}

impl Packages {
    /// The list of a generation, written to `path` if it isn't there.
    pub(super) fn obtain(work: &Work, source: Source, path: &Path, wanted: &Sections) -> Result<Self> {
        let asked = asked(wanted, &["system", "kernel", "steer"]);
        if let Some(kept) = Kept::<Self>::read(path, &asked)
            && kept.kernel.file.exists()
            && kept.system.iter().all(|package| package.file.exists())
        {
            return Ok(kept);
        }
        let apt = Apt::create(work)?;
        let chosen = Self::choose(&answer(&apt, source, &asked)?, wanted, &|stanza| apt.file(stanza))?;
        Kept::write(path, asked, chosen)
    }

    /// Sorts apt's choice into kernel and system.
    fn choose(stanzas: &[Stanza], wanted: &Sections, file: &dyn Fn(&Stanza) -> PathBuf) -> Result<Self> {
        let kernel = |stanza: &Stanza| {
            let release = stanza.name.strip_prefix("linux-image-")?;
            let is_one = release.starts_with(|c: char| c.is_ascii_digit());
            is_one.then(|| Kernel { release: release.to_owned(), version: stanza.version.clone(), file: file(stanza) })
        };
        let Some(kernel) = stanzas.iter().find_map(kernel) else {
            return Err(Error::Wrong("none of the packages is a kernel: see packages.txt, section kernel".into()));
        };
        Ok(Self { kernel, system: ordered(stanzas, wanted.words("system"), wanted, file) })
    }

    /// Debian's point release, as `12.11`: from the version of base-files, `12.4+deb12u11`.
    pub(super) fn os_version(&self) -> String {
        let version =
            self.system.iter().find(|package| package.name == "base-files").map_or("", |package| &package.version);
        let major = version.split('.').next().unwrap_or_default();
        match version.rsplit_once('u') {
            Some((_, point)) => format!("{major}.{point}"),
            None => version.to_owned(),
        }
    }

    /// The version of everything that the client runs.
    pub(super) fn versions(&self) -> BTreeMap<String, String> {
        let system = self.system.iter().map(|package| (package.name.clone(), package.version.clone()));
        let kernel = format!("{} ({})", self.kernel.version, self.kernel.release);
        system.chain([("linux-image".to_owned(), kernel)]).collect()
    }
}

impl Tools {
    /// The list, written to `path` if it isn't there.
    pub(super) fn obtain(work: &Work, path: &Path, wanted: &Sections) -> Result<Self> {
        let asked = asked(wanted, &["tools"]);
        if let Some(kept) = Kept::<Self>::read(path, &asked)
            && kept.packages.iter().all(|package| package.file.exists())
        {
            return Ok(kept);
        }
        let apt = Apt::create(work)?;
        let stanzas = answer(&apt, Source::Released, &asked)?;
        let packages = ordered(&stanzas, wanted.words("tools"), wanted, &|stanza| apt.file(stanza));
        Kept::write(path, asked, Self { packages })
    }

    /// The .deb of a tool.
    pub(super) fn file(&self, name: &str) -> Option<&Path> {
        self.packages.iter().find(|package| package.name == name).map(|package| package.file.as_path())
    }
}

/// The words of packages.txt that decide a list: what apt is asked for, and, behind a minus, what is left out of its answer.
fn asked(wanted: &Sections, sections: &[&str]) -> Vec<String> {
    let words = sections.iter().flat_map(|section| wanted.words(section)).cloned();
    words.chain(wanted.words("omit").iter().map(|word| format!("-{word}"))).collect()
}

fn answer(apt: &Apt, source: Source, asked: &[String]) -> Result<Vec<Stanza>> {
    let words: Vec<String> = asked.iter().filter(|word| !word.starts_with('-')).cloned().collect();
    apt.closure(source, &words)
}

impl<List: Serialize + DeserializeOwned> Kept<List> {
    fn read(path: &Path, asked: &[String]) -> Option<List> {
        let kept: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (kept.asked == asked).then_some(kept.list)
    }

    fn write(path: &Path, asked: Vec<String>, list: List) -> Result<List> {
        let kept = Self { asked, list };
        let json = serde_json::to_vec_pretty(&kept).map_err(|error| Error::Wrong(error.to_string()))?;
        write_atomically(path, &json)?;
        Ok(kept.list)
    }
}

/// What `roots` lead to, without what packages.txt omits, each behind what it refers to.
fn ordered(stanzas: &[Stanza], roots: &[String], wanted: &Sections, file: &dyn Fn(&Stanza) -> PathBuf) -> Vec<Package> {
    let graph = Graph::new(stanzas);
    let omitted: BTreeSet<String> = wanted.words("omit").iter().cloned().collect();
    let stanza: BTreeMap<&str, &Stanza> = stanzas.iter().map(|stanza| (stanza.name.as_str(), stanza)).collect();
    let package = |(name, deps): (String, Vec<String>)| {
        let stanza = stanza.get(name.as_str())?;
        Some(Package { name, version: stanza.version.clone(), file: file(stanza), deps })
    };
    let ordered = graph.ordered(&graph.reachable(roots, &omitted));
    ordered.into_iter().map(|ordered| (ordered.name, ordered.deps)).filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Package: linux-image-amd64\nVersion: 6.1.176-1\nArchitecture: amd64\nDepends: linux-image-6.1.0-50-amd64\n\n\
        Package: linux-image-6.1.0-50-amd64\nVersion: 6.1.176-1\nArchitecture: amd64\nDepends: kmod\n\n\
        Package: kmod\nVersion: 30\nArchitecture: amd64\nDepends: libc6\n\n\
        Package: base-files\nVersion: 12.4+deb12u14\nArchitecture: amd64\n\n\
        Package: cpio\nVersion: 2\nArchitecture: amd64\nDepends: libc6, debconf\n\n\
        Package: debconf\nVersion: 1\nArchitecture: all\n\n\
        Package: libc6\nVersion: 2.36\nArchitecture: amd64\n";
    const WANTED: &str = "system: kmod base-files\nkernel: linux-image-amd64\ntools: cpio\nomit: debconf\n";

    fn file(stanza: &Stanza) -> PathBuf {
        stanza.file_name().into()
    }

    fn chosen() -> Packages {
        let wanted = Sections::parse(WANTED).unwrap();
        Packages::choose(&Stanza::parse_all(SHOWN), &wanted, &file).unwrap()
    }

    #[test]
    fn kernel_and_system_are_told_apart() {
        let packages = chosen();
        assert_eq!(packages.kernel.release, "6.1.0-50-amd64");
        let names = |list: &[Package]| list.iter().map(|package| package.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&packages.system), ["libc6", "base-files", "kmod"]);
        let wanted = Sections::parse(WANTED).unwrap();
        let tools = ordered(&Stanza::parse_all(SHOWN), wanted.words("tools"), &wanted, &file);
        assert_eq!(names(&tools), ["libc6", "cpio"]);
        assert_eq!(tools[1].deps, ["libc6"]);
    }

    #[test]
    fn the_point_release_is_that_of_base_files() {
        assert_eq!(chosen().os_version(), "12.14");
    }

    #[test]
    fn without_a_kernel_there_is_no_system() {
        let wanted = Sections::parse(WANTED).unwrap();
        assert!(Packages::choose(&[], &wanted, &file).is_err());
    }
}
