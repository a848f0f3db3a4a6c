//! A Nix of today beside Debian 12's, from Debian 13's packages: for tests, and for the initrd of the clients.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{Apt, Source};
use super::{Via, Work, write_atomically};
use crate::process::run;
use crate::{Error, Result};

/// Debian 13's nix-bin, unpacked. It needs neither root nor a chroot: each program is started through the ld.so beside it.
#[derive(Debug, Clone)]
pub struct NewerNix {
    directory: PathBuf,
}

/// A program of the initrd: where it comes from, where it goes, and names that it looks at to know what it is asked for.
type Program = (&'static str, &'static str, &'static [&'static str]);
const MAKE: Program = ("usr/sbin/mke2fs", "sbin/mke2fs", &["sbin/mkfs.ext4"]);
const CHECK: Program = ("usr/sbin/e2fsck", "sbin/e2fsck", &["sbin/fsck.ext4"]);
const NIX: Program = ("usr/bin/nix", "bin/nix", &["bin/nix-store", "bin/nix-env"]);
const PAYLOADS: [(Via, &[Program]); 3] =
    [(Via::Rookery, &[MAKE, CHECK]), (Via::Nix, &[MAKE, CHECK, NIX]), (Via::Squashfs, &[MAKE, CHECK])];
const TOOLS: [&str; 9] = [
    "nix",
    "nix-build",
    "nix-collect-garbage",
    "nix-copy-closure",
    "nix-daemon",
    "nix-env",
    "nix-hash",
    "nix-instantiate",
    "nix-store",
];
const LIBRARIES: &str = "lib/x86_64-linux-gnu";

impl NewerNix {
    /// Unpacks it below the work directory, unless that has been done; the network is needed the first time only.
    pub fn obtain(work: &Work) -> Result<Self> {
        let _lock = work.lock()?;
        Self::obtain_locked(work)
    }

    /// For who holds the work directory's lock already.
    pub(super) fn obtain_locked(work: &Work) -> Result<Self> {
        let words = super::list("packages.txt")?.words("payload").to_vec();
        let newer = Self { directory: work.path("newer-nix") };
        let mark = newer.directory.join("complete");
        let made_of = format!("{} {PAYLOADS:?}", words.join(" "));
        if fs::read_to_string(&mark).is_ok_and(|kept| kept == made_of) {
            return Ok(newer);
        }
        if newer.directory.exists() {
            fs::remove_dir_all(&newer.directory).map_err(Error::io("removing an incomplete newer Nix"))?;
        }
        newer.unpack(work, &words)?;
        newer.write_wrappers()?;
        PAYLOADS.iter().try_for_each(|(via, programs)| newer.collect_payload(*via, programs))?;
        write_atomically(&mark, made_of.as_bytes())?;
        Ok(newer)
    }

    /// A program of Nix: `nix`, `nix-store`, ... The caller's NIX_CONFIG counts, and so does `NIX_SANDBOX_PATHS` (a value for
    /// sandbox-paths; Debian's own default names a file that Debian 12 has not).
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }

    /// What an initrd carries of it: mke2fs, e2fsck and, if that is what fetches, Nix, their libraries and ld.so, laid out so that
    /// they run as they are.
    pub(super) fn payload(&self, via: Via) -> PathBuf {
        self.directory.join(format!("payload-{}", via.word()))
    }

    /// Where it lies, programs in `bin`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn unpack(&self, work: &Work, words: &[String]) -> Result<()> {
        let apt = Apt::create(work)?;
        let root = self.root();
        make_directory(&root.join("usr"))?;
        // Debian 13 has a merged /usr, and some of its packages still ship files through these.
        for name in ["bin", "sbin", "lib", "lib64"] {
            make_directory(&root.join("usr").join(name))?;
            symlink(format!("usr/{name}"), root.join(name)).map_err(Error::io("linking directories of /usr"))?;
        }
        for stanza in apt.closure(Source::Newer, words)? {
            unpack_deb(&apt.file(&stanza), &root)?;
        }
        Ok(())
    }

    fn write_wrappers(&self) -> Result<()> {
        make_directory(&self.directory.join("bin"))?;
        for tool in TOOLS {
            let path = self.program(tool);
            fs::write(&path, self.wrapper(tool)).map_err(Error::io(format!("writing {}", path.display())))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .map_err(Error::io("making a wrapper executable"))?;
        }
        Ok(())
    }

    fn wrapper(&self, tool: &str) -> String {
        let root = self.root();
        let root = root.display();
        format!(
            "#!/bin/sh\n\
             # build-hook: Nix would start /proc/self/exe for it, which is ld.so here.\n\
             NIX_CONFIG=\"build-hook =\nsandbox-paths = ${{NIX_SANDBOX_PATHS:-}}\n\
             experimental-features = nix-command flakes\nbuild-users-group =\n$NIX_CONFIG\"\n\
             export NIX_CONFIG\n\
             exec '{root}/usr/lib64/ld-linux-x86-64.so.2' --library-path '{root}/usr/{LIBRARIES}' --argv0 {tool} \
             '{root}/usr/bin/nix' \"$@\"\n"
        )
    }

    fn collect_payload(&self, via: Via, programs: &[Program]) -> Result<()> {
        let (root, payload) = (self.root(), self.payload(via));
        let loader = root.join("usr/lib64/ld-linux-x86-64.so.2");
        for directory in ["bin", "sbin", "etc", "lib64", LIBRARIES] {
            make_directory(&payload.join(directory))?;
        }
        copy(&loader, &payload.join("lib64/ld-linux-x86-64.so.2"))?;
        copy(&root.join("etc/mke2fs.conf"), &payload.join("etc/mke2fs.conf"))?;
        for (from, to, aliases) in programs {
            let program = root.join(from);
            copy(&program, &payload.join(to))?;
            let path = root.join("usr").join(LIBRARIES);
            let listed = run(Command::new(&loader).arg("--library-path").arg(&path).arg("--list").arg(&program))?;
            for library in libraries(&listed, &path) {
                let file_name = library.file_name().unwrap_or_default();
                copy(&library, &payload.join(LIBRARIES).join(file_name))?;
            }
            for alias in *aliases {
                // Beside each other in one directory.
                let target = Path::new(to).file_name().unwrap_or_default();
                symlink(target, payload.join(alias)).map_err(Error::io(format!("linking {alias}")))?;
            }
        }
        Ok(())
    }
}

/// Those lines of `ld.so --list` that name a file of `directory`: `libz.so.1 => <directory>/libz.so.1 (0x...)`.
fn libraries(listed: &str, directory: &Path) -> Vec<PathBuf> {
    let path = |line: &str| Some(PathBuf::from(line.split_once(" => ")?.1.rsplit_once(" (")?.0));
    listed.lines().filter_map(path).filter(|path| path.parent() == Some(directory)).collect()
}

/// Data only: no maintainer script is run. tar goes through the links of a merged /usr, `dpkg-deb -x` would replace them.
pub(super) fn unpack_deb(deb: &Path, root: &Path) -> Result<()> {
    let script = r#"dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --no-same-owner -C "$2""#;
    run(Command::new("bash").args(["-o", "pipefail", "-c", script, "unpack"]).args([deb, root])).map(drop)
}

/// The content of a file, links followed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::io(format!("copying {} to {}", from.display(), to.display())))
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(format!("making {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_of_the_unpacked_root() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /r/lib/libz.so.1 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 => /r/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(libraries(listed, Path::new("/r/lib")), [Path::new("/r/lib/libz.so.1")]);
    }
}
