//! Systems whose initrd says that it was started, and how, and nothing more: what a test of firmware and loaders boots.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::run;
use crate::{Error, Result};

/// What the initrd prints behind the kernel's command line: whoever has read it has read the whole line.
pub const MARKER: &str = "rookery-marker";

/// A store with such systems in it.
#[derive(Debug)]
pub struct MarkerStore {
    root: PathBuf,
}

/// What one of them is made of.
#[derive(Debug, Clone, Copy)]
pub struct MarkerSystem<'a> {
    /// As Nix names it: `x86_64-linux`.
    pub system: &'a str,
    /// The kernel.
    pub kernel: &'a Path,
    /// A static busybox for it.
    pub busybox: &'a Path,
    /// Its serial console.
    pub console: &'a str,
    /// What tells it from others.
    pub version: &'a str,
}

impl MarkerStore {
    /// An empty store below this directory.
    pub fn create(directory: &Path) -> Result<Self> {
        let root = directory.join("marker-store");
        fs::create_dir_all(&root).map_err(Error::io(format!("creating {}", root.display())))?;
        Ok(Self { root })
    }

    /// The root of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a system and returns its toplevel.
    pub fn add(&self, marker: &MarkerSystem<'_>) -> Result<String> {
        let toplevel = self.root.join(format!("nixos-system-marker-{}", marker.version));
        let files = || -> std::io::Result<()> {
            fs::create_dir(&toplevel)?;
            fs::copy(marker.kernel, toplevel.join("kernel"))?;
            fs::write(toplevel.join("init"), "#!/bin/sh\n")?;
            fs::write(toplevel.join("system"), marker.system)?;
            fs::write(toplevel.join("nixos-version"), marker.version)?;
            fs::write(toplevel.join("kernel-params"), format!("console={}", marker.console))
        };
        files().map_err(Error::io(format!("filling {}", toplevel.display())))?;
        self.write_initrd(marker, &toplevel.join("initrd"))?;
        let mut add = Command::new("nix-store");
        add.args(["--add"]).arg(&toplevel);
        add.env("NIX_REMOTE", format!("local?root={}", self.root.display()));
        add.env("NIX_CONF_DIR", self.root.join("no-nix-conf")).env("NIX_USER_CONF_FILES", "");
        add.env("NIX_CONFIG", "build-users-group =\nsubstituters =\n").env_remove("NIX_PATH");
        Ok(run(&mut add)?.trim().to_owned())
    }

    fn write_initrd(&self, marker: &MarkerSystem<'_>, file: &Path) -> Result<()> {
        let tree = self.root.join(format!("initrd-{}", marker.version));
        // Powered off by the lab, which has seen what it wanted; a shell would wait for keys.
        let init = format!(
            "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\necho \"$(/bin/busybox cat /proc/cmdline) {MARKER}\"\n\
             while :; do /bin/busybox sleep 60; done\n"
        );
        let files = || -> std::io::Result<()> {
            for directory in ["bin", "proc", "dev"] {
                fs::create_dir_all(tree.join(directory))?;
            }
            fs::copy(marker.busybox, tree.join("bin/busybox"))?;
            fs::write(tree.join("init"), init)?;
            fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
            fs::set_permissions(tree.join("bin/busybox"), fs::Permissions::from_mode(0o755))
        };
        files().map_err(Error::io(format!("filling {}", tree.display())))?;
        let to = fs::File::create(file).map_err(Error::io(format!("creating {}", file.display())))?;
        let mut pack = Command::new("sh");
        // mknod: init has a console before anything is mounted only if there is a node for it.
        pack.args([
            "-ec",
            "test -e dev/console || mknod dev/console c 5 1; find . | cpio -o -H newc --quiet | gzip -1",
        ]);
        pack.current_dir(&tree).stdin(Stdio::null()).stdout(to);
        let status = pack.status().map_err(Error::io("packing an initrd"))?;
        if status.success() { Ok(()) } else { Err(Error::Wrong(format!("packing an initrd ended with {status}"))) }
    }
}
