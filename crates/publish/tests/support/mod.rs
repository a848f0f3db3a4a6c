//! A diverted Nix store with systems in it, made with stock Nix: paths get invented hashes, real NAR hashes from
//! `nix-store --dump`, and are registered by `nix-store --load-db`.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "only tests call this")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use boot_model::StorePath;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A directory with a diverted store, and room for a state directory beside it. Removed when dropped.
pub struct TestStore {
    directory: TempDir,
}

impl TestStore {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for folder in ["root/nix/store", "home", "tmp"] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        Self { directory }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn on_disk(&self, path: &StorePath) -> PathBuf {
        self.root().join(path.as_str().trim_start_matches('/'))
    }

    /// Makes and registers one path; `fill` writes what lies there.
    pub fn add(&self, name: &str, references: &[&StorePath], fill: impl FnOnce(&Path)) -> StorePath {
        let path = store_path(name);
        fill(&self.on_disk(&path));
        self.register(&path, references);
        path
    }

    /// Says that the path is valid as it lies there now.
    pub fn register(&self, path: &StorePath, references: &[&StorePath]) {
        let dump = self.nix("nix-store", &["--dump", self.on_disk(path).to_str().unwrap()]).stdout;
        let hash: String = Sha256::digest(&dump).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut registration = format!("{path}\nsha256:{hash}\n{}\n\n{}\n", dump.len(), references.len());
        for reference in references {
            registration += &format!("{reference}\n");
        }
        let mut child = self.command("nix-store").arg("--load-db").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), registration.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nix-store --load-db");
    }

    /// A system of four paths: kernel, initrd, a library, and the toplevel with its boot.json.
    pub fn system(&self, name: &str) -> StorePath {
        self.system_with(name, |_| {})
    }

    /// Likewise, with changes to its boot.json.
    pub fn system_with(&self, name: &str, change: impl FnOnce(&mut Value)) -> StorePath {
        let toplevel = store_path(&format!("nixos-system-{name}"));
        let (kernel, initrd, library) = self.parts(name);
        let mut spec = json!({ "org.nixos.bootspec.v1": {
            "system": "x86_64-linux",
            "label": format!("NixOS {name}"),
            "toplevel": toplevel,
            "init": format!("{toplevel}/init"),
            "kernel": format!("{kernel}/bzImage"),
            "kernelParams": ["loglevel=4", "console=ttyS0"],
            "initrd": format!("{initrd}/initrd"),
        }, "org.nixos.specialisation.v1": {} });
        change(&mut spec);
        self.add(&format!("nixos-system-{name}"), &[&toplevel, &kernel, &initrd, &library], |path| {
            self.fill_toplevel(path, &kernel, &initrd);
            fs::write(path.join("boot.json"), spec.to_string()).unwrap();
        })
    }

    /// The paths that all systems share, and a library of this system's own.
    pub fn parts(&self, name: &str) -> (StorePath, StorePath, StorePath) {
        let kernel = self.add_once("linux-6.12.58", |path| {
            fs::create_dir_all(path.join("lib/modules/6.12.58")).unwrap();
            fs::write(path.join("bzImage"), "a kernel").unwrap();
        });
        let initrd = self.add_once("initrd-linux-6.12.58", |path| {
            fs::create_dir_all(path).unwrap();
            fs::write(path.join("initrd"), "an initrd").unwrap();
        });
        let library = self.add_once(&format!("library-{name}"), |path| {
            fs::create_dir_all(path).unwrap();
            fs::write(path.join("lib.so"), format!("library of {name}").repeat(100)).unwrap();
        });
        (kernel, initrd, library)
    }

    pub fn fill_toplevel(&self, path: &Path, kernel: &StorePath, initrd: &StorePath) {
        fs::create_dir_all(path).unwrap();
        symlink(format!("{kernel}/bzImage"), path.join("kernel")).unwrap();
        symlink(kernel.as_str(), path.join("kernel-modules")).unwrap();
        symlink(format!("{initrd}/initrd"), path.join("initrd")).unwrap();
        for (file, text) in [("nixos-version", "26.05"), ("system", "x86_64-linux"), ("kernel-params", "loglevel=4\n")]
        {
            fs::write(path.join(file), text).unwrap();
        }
        fs::write(path.join("init"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(path.join("init"), Permissions::from_mode(0o755)).unwrap();
    }

    fn add_once(&self, name: &str, fill: impl FnOnce(&Path)) -> StorePath {
        let path = store_path(name);
        if !self.on_disk(&path).exists() {
            self.add(name, &[], fill);
        }
        path
    }

    /// A command of stock Nix, which sees the diverted store and nothing of this machine's own settings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("NIX_REMOTE", format!("local?root={}", self.root().display()))
            .env("HOME", self.file("home"))
            .env("TMPDIR", self.file("tmp"))
            .env("NIX_CONFIG", "experimental-features = nix-command\nbuild-users-group =\nsubstituters =\n");
        command
    }

    /// Runs it and expects success.
    pub fn nix(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program).args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; these tests need Debian's nix-bin"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        output
    }
}

/// The path that a name gets: the same in every store.
pub fn store_path(name: &str) -> StorePath {
    rebuilt_path("", name)
}

/// The path that a name gets when something below it changed.
pub fn rebuilt_path(build: &str, name: &str) -> StorePath {
    let digest = Sha256::digest(format!("{build}{name}"));
    let hash: String =
        digest.iter().map(|byte| b"0123456789abcdfghijklmnpqrsvwxyz"[usize::from(byte % 32)] as char).collect();
    format!("/nix/store/{hash}-{name}").parse().unwrap()
}
