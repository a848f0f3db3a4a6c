//! Which packages a generation is made of: apt's choice, as the list that `system.nix` reads. Once written, the list and the
//! files it names are all that a build needs; the network is asked no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

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
    /// The words of packages.txt that led here; other words need another list.
    asked: Vec<String>,
    /// The kernel, which refers to nothing.
    pub(super) kernel: Kernel,
    /// What the client runs, each behind what it refers to.
    pub(super) system: Vec<Package>,
    /// What else is needed while building, likewise.
    pub(super) build: Vec<Package>,
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

impl Packages {
    /// The list of a generation: from the work directory, or else from apt.
    pub(super) fn obtain(work: &Work, source: Source, name: &str, wanted: &Sections) -> Result<Self> {
        let words: Vec<String> =
            ["system", "kernel", "build", "steer"].iter().flat_map(|section| wanted.words(section)).cloned().collect();
        let omitted = wanted.words("omit").iter().map(|word| format!("-{word}"));
        let asked: Vec<String> = words.iter().cloned().chain(omitted).collect();
        let path = work.path(&format!("{name}.packages.json"));
        if let Some(kept) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            && kept.asked == asked
            && kept.files().all(|file| file.exists())
        {
            return Ok(kept);
        }
        let apt = Apt::create(work)?;
        let stanzas = apt.closure(source, &words)?;
        let packages = Self::choose(&stanzas, wanted, asked, |stanza| apt.file(stanza))?;
        let json = serde_json::to_vec_pretty(&packages).map_err(|error| Error::Wrong(error.to_string()))?;
        write_atomically(&path, &json)?;
        Ok(packages)
    }

    /// Sorts apt's choice into kernel, system and build.
    fn choose(
        stanzas: &[Stanza],
        wanted: &Sections,
        asked: Vec<String>,
        file: impl Fn(&Stanza) -> PathBuf,
    ) -> Result<Self> {
        let kernel = stanzas
            .iter()
            .find_map(|stanza| {
                let release = stanza
                    .name
                    .strip_prefix("linux-image-")
                    .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?;
                Some(Kernel { release: release.to_owned(), version: stanza.version.clone(), file: file(stanza) })
            })
            .ok_or_else(|| Error::Wrong("none of the packages is a kernel: see packages.txt, section kernel".into()))?;

        let graph = Graph::new(stanzas);
        let omitted: BTreeSet<String> = wanted.words("omit").iter().cloned().collect();
        let system = graph.reachable(wanted.words("system"), &omitted);
        let outside = omitted.union(&system).cloned().collect();
        let build = graph.reachable(wanted.words("build"), &outside);

        let both: BTreeSet<String> = system.union(&build).cloned().collect();
        let (mut in_system, mut in_build) = (Vec::new(), Vec::new());
        for ordered in graph.ordered(&both) {
            let Some(stanza) = stanzas.iter().find(|stanza| stanza.name == ordered.name) else { continue };
            let to = if system.contains(&ordered.name) { &mut in_system } else { &mut in_build };
            to.push(Package {
                name: ordered.name,
                version: stanza.version.clone(),
                file: file(stanza),
                deps: ordered.deps,
            });
        }
        Ok(Self { asked, kernel, system: in_system, build: in_build })
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
        system
            .chain([("linux-image".to_owned(), format!("{} ({})", self.kernel.version, self.kernel.release))])
            .collect()
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let packages = self.system.iter().chain(&self.build).map(|package| &package.file);
        packages.chain([&self.kernel.file])
    }
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
    const WANTED: &str = "system: kmod base-files\nkernel: linux-image-amd64\nbuild: cpio\nomit: debconf\n";

    fn chosen() -> Packages {
        let wanted = Sections::parse(WANTED).unwrap();
        Packages::choose(&Stanza::parse_all(SHOWN), &wanted, Vec::new(), |stanza| stanza.file_name().into()).unwrap()
    }

    #[test]
    fn kernel_system_and_build_are_told_apart() {
        let packages = chosen();
        assert_eq!(packages.kernel.release, "6.1.0-50-amd64");
        let names = |list: &[Package]| list.iter().map(|package| package.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&packages.system), ["libc6", "base-files", "kmod"]);
        assert_eq!(names(&packages.build), ["cpio"]);
        assert_eq!(packages.build[0].deps, ["libc6"]);
    }

    #[test]
    fn the_point_release_is_that_of_base_files() {
        assert_eq!(chosen().os_version(), "12.14");
    }

    #[test]
    fn without_a_kernel_there_is_no_system() {
        let wanted = Sections::parse(WANTED).unwrap();
        assert!(Packages::choose(&[], &wanted, Vec::new(), |stanza| stanza.file_name().into()).is_err());
    }
}
