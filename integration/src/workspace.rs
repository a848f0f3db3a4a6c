use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The checkout that the lab works for, and where its programs are built.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// The only platform of the lab; `--target` keeps the agent's `+crt-static` away from build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

impl Workspace {
    /// The checkout that the current directory lies in.
    pub fn find() -> Result<Self> {
        let here = env::current_dir().map_err(Error::io("reading the current directory"))?;
        let root = here.ancestors().find(|dir| dir.join("integration/Cargo.toml").is_file());
        let Some(root) = root else {
            return Err(Error::Usage("run this inside a checkout of Rookery".into()));
        };
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Ok(Self { root: root.to_owned(), target })
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A program of the release build, by path: what is tested is what would be installed.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        self.built(self.target.join("release").join(name))
    }

    /// The static agent for the initrd.
    pub fn agent(&self) -> Result<PathBuf> {
        self.built(self.target.join(TRIPLE).join("agent/rookery-agent"))
    }

    /// Where logs and pictures stay.
    pub fn logs(&self, name: &str) -> PathBuf {
        self.target.join("lab").join(name)
    }

    fn built(&self, path: PathBuf) -> Result<PathBuf> {
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::Usage(format!("{} is not built: start the lab by integration/test, demo or bench", path.display())))
    }
}
