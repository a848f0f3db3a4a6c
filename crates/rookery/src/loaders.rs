use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use boot_model::Firmware;
use serde_json::json;
use service::Failure;

use crate::loader_sets::{CHOICES, Choice, File, Machine, PXELINUX, Set};
use crate::output::Output;
use crate::site::Site;

/// Where loaders are looked for unless the administrator says otherwise: where Debian's packages put them.
pub(crate) const DEBIAN: &str = "/";

/// The loader that one firmware is to be sent instead of the usual one: `uefi-x64=grub`.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    firmware: Firmware,
    loader: String,
}

/// Copies the loaders that are found, all files of one or none, and writes the table last: it names only what is there.
pub(crate) fn install(site: &Site, output: Output, from: &[PathBuf], wishes: &[Wish]) -> Result<(), Failure> {
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for set in Set::ALL {
        match set.read(from) {
            Ok(files) => found.extend(files),
            Err(absent) => missing.push((set, absent)),
        }
    }
    if let Some((set, absent)) = missing.iter().find(|(set, _)| **set == PXELINUX) {
        let places = from.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Failure::runtime(format!(
            "{} not found in {places}; install Debian's {}, or name the places with --from",
            absent.join(", "),
            set.packages
        )));
    }
    let installed: BTreeSet<&str> = found.keys().copied().collect();
    let table = table(&installed, wishes)?;
    for (firmware, file) in &table {
        check_machine(*firmware, file, &found[file])?;
    }
    copy(site, &found)?;
    let table: BTreeMap<&str, &str> = table.iter().map(|(firmware, file)| (firmware.as_str(), *file)).collect();
    publish::write_file(&site.layout.loaders_table(), format!("{:#}\n", json!(table)).as_bytes())?;
    let target = site.layout.loaders();
    output.answer(
        || {
            let mut text = format!("installed {} loader files in {}\n", installed.len(), target.display());
            for (firmware, file) in &table {
                text += &format!("  {firmware:<14} {file}\n");
            }
            for (set, absent) in &missing {
                text += &format!("without {}: {} not found (Debian: {})\n", set.name, absent.join(", "), set.packages);
            }
            text
        },
        || {
            let absent: Vec<&str> = missing.iter().flat_map(|(_, absent)| absent).copied().collect();
            json!({ "directory": target, "installed": installed, "missing": absent, "table": table })
        },
    )
}

impl Set {
    /// All files of the set, or the names of those that are nowhere.
    fn read(&self, from: &[PathBuf]) -> Result<Vec<(&'static str, Vec<u8>)>, Vec<&'static str>> {
        let read = self.files.iter().map(|file| (file.name, file.read(from)));
        let (there, absent): (Vec<_>, Vec<_>) = read.partition(|(_, bytes)| bytes.is_some());
        if absent.is_empty() {
            return Ok(there.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))).collect());
        }
        Err(absent.into_iter().map(|(name, _)| name).collect())
    }
}

impl File {
    /// A place is laid out as `loaders/` is, or as the root of a Debian system (or of packages that `dpkg -x` unpacked).
    fn read(&self, from: &[PathBuf]) -> Option<Vec<u8>> {
        let places = from.iter().flat_map(|place| [place.join(self.name), place.join(self.debian)]);
        places.map(fs::read).find_map(Result::ok)
    }
}

/// What each firmware is sent: what was wished, else the first choice that is there.
fn table(installed: &BTreeSet<&'static str>, wishes: &[Wish]) -> Result<BTreeMap<Firmware, &'static str>, Failure> {
    let mut table = BTreeMap::new();
    for choice in CHOICES.iter().filter(|choice| installed.contains(choice.file)) {
        table.entry(choice.firmware).or_insert(choice.file);
    }
    for Wish { firmware, loader } in wishes {
        let choices: Vec<&Choice> = CHOICES.iter().filter(|choice| choice.firmware == *firmware).collect();
        let Some(choice) = choices.iter().find(|choice| choice.loader == loader) else {
            let known: Vec<&str> = choices.iter().map(|choice| choice.loader).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::usage(format!("no loader {loader:?} is known for {firmware}; there is {known}")));
        };
        if !installed.contains(choice.file) {
            return Err(Failure::runtime(format!("{} for {firmware} was not found", choice.file)));
        }
        table.insert(*firmware, choice.file);
    }
    Ok(table)
}

/// A firmware that is sent a program for another machine shows a cryptic error or a black screen.
fn check_machine(firmware: Firmware, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let (wanted, found) = (Machine::of_firmware(firmware), Machine::of_program(bytes));
    match wanted == found {
        true => Ok(()),
        false => Err(Failure::runtime(format!(
            "{name} is {found}, but {firmware} starts {wanted}; look at what is in the places named with --from"
        ))),
    }
}

fn copy(site: &Site, files: &BTreeMap<&'static str, Vec<u8>>) -> Result<(), Failure> {
    for (name, bytes) in files {
        let target = site.layout.loaders().join(name);
        publish::make_directories(target.parent().unwrap_or(Path::new(".")))?;
        publish::write_file(&target, bytes)?;
    }
    Ok(())
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (firmware, loader) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?}: write <firmware>=<loader>, such as uefi-x64=grub"))?;
        let known = |choice: &&Choice| choice.firmware.as_str() == firmware;
        let firmware = CHOICES.iter().find(known).map(|choice| choice.firmware);
        let firmware = firmware.ok_or_else(|| {
            let names: BTreeSet<&str> = CHOICES.iter().map(|choice| choice.firmware.as_str()).collect();
            format!("no loader is known for such a firmware; there is {}", Vec::from_iter(names).join(", "))
        })?;
        Ok(Self { firmware, loader: loader.to_owned() })
    }
}
