//! Servers that `integration/setup` has unpacked: installed, they would serve this machine's network.

use std::path::PathBuf;
use std::process::Command;

use crate::{Error, Result, Workspace};

/// A server of this Debian package.
pub(crate) fn server(workspace: &Workspace, package: &str, name: &str) -> Result<PathBuf> {
    let path = workspace.target().join("lab/peers").join(package).join("usr/sbin").join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Usage(format!("{} is missing: run integration/setup", path.display())))
    }
}

/// Lets Kea's programs find their libraries where those are.
pub(super) fn kea_libraries(command: &mut Command, workspace: &Workspace) {
    command.env("LD_LIBRARY_PATH", workspace.target().join("lab/peers/kea-common/usr/lib/x86_64-linux-gnu"));
}

/// The first number in what the program says of itself. ISC's answers on standard error.
pub(super) fn version(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(Error::io(format!("asking {} for its version", name(command))))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let mut words = said.split([' ', '-', ',', '\n']);
    let number = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    number.map(str::to_owned).ok_or_else(|| Error::Wrong(format!("{} tells no version: {said}", name(command))))
}

fn name(command: &Command) -> String {
    command.get_program().display().to_string()
}
