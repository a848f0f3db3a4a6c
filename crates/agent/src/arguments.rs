//! The agent's own command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use boot_model::report::{Status, Step};

use crate::{
    disk::DiskOptions,
    fetch::{FetchOptions, RegisterOptions, Via},
    machine::Machine,
};

/// What to do.
#[derive(Debug)]
pub(crate) enum Verb {
    Help,
    Version,
    DiskPlan(DiskOptions),
    DiskApply(DiskOptions),
    Fetch(FetchOptions),
    Register(RegisterOptions),
    Report { step: Step, status: Status, detail: Option<String> },
    ReportRunning,
    BootInterface { wait: Duration },
}

/// What is wrong with the arguments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("a verb is missing")]
    NoVerb,
    #[error("there is no verb `{0}`")]
    Verb(String),
    #[error("`{0}` is not an option here")]
    Option(String),
    #[error("`{0}` must be given")]
    Missing(&'static str),
    #[error("`{0}` needs a value")]
    NoValue(String),
    #[error("`{0} {1}` is not understood")]
    Value(&'static str, String),
}

pub(crate) const USAGE: &str = "\
usage: rookery-agent VERB [OPTIONS]

  disk plan  --spec FILE [--disk DEVICE]   what would be done to the disk, and why
  disk apply --spec FILE [--disk DEVICE]   do it
  fetch --root DIR [--patience SECONDS] [--via rookery|nix] [--nix-store PROGRAM]
                                           bring the chosen generation into DIR/nix/store, with our own transfer
                                           or with a Nix
  register --nix-store PROGRAM [--root DIR]
                                           tell the client's Nix, in stage 2, what was brought
  report --step STEP --status STATUS [--detail TEXT]
                                           tell the server
  report running                           tell the server which system runs
  bootif [--wait SECONDS]                  print the interface that BOOTIF= names

everywhere: --cmdline FILE, --run-dir DIR, --trusted-keys FILE
steps: network disk mount fetch activate running; statuses: started ok failed

exit codes: 0 done, 1 failed, 64 usage, 69 server not reached, 77 refused, 78 wrong spec, keys or kernel command line";

/// Parses everything that follows the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(Machine, Verb), UsageError> {
    let mut words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let at = words.iter().position(|word| word.starts_with("--")).unwrap_or(words.len());
    let mut options = Options::parse(words.split_off(at))?;
    let mut machine = Machine::default();
    for (option, place) in [
        ("--cmdline", &mut machine.command_line),
        ("--run-dir", &mut machine.run),
        ("--trusted-keys", &mut machine.trusted_keys),
    ] {
        if let Some(value) = options.take(option) {
            *place = value.into();
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let verb = verb(&words, &mut options)?;
    match options.0.into_iter().next() {
        Some((option, _)) => Err(UsageError::Option(option)),
        None => Ok((machine, verb)),
    }
}

fn verb(words: &[&str], options: &mut Options) -> Result<Verb, UsageError> {
    Ok(match words {
        ["help"] => Verb::Help,
        [] if options.flag("--help") => Verb::Help,
        [] if options.flag("--version") => Verb::Version,
        [] => return Err(UsageError::NoVerb),
        ["disk", "plan"] => Verb::DiskPlan(disk(options)?),
        ["disk", "apply"] => Verb::DiskApply(disk(options)?),
        ["fetch"] => Verb::Fetch(FetchOptions {
            root: options.required("--root")?.into(),
            patience: options.seconds("--patience", FetchOptions::PATIENCE)?,
            via: via(options)?,
        }),
        ["register"] => Verb::Register(RegisterOptions {
            root: options.take("--root").unwrap_or_else(|| "/".to_owned()).into(),
            nix_store: options.required("--nix-store")?.into(),
        }),
        ["report", "running"] => Verb::ReportRunning,
        ["report"] => {
            let (step, status) = (options.required("--step")?, options.required("--status")?);
            Verb::Report {
                step: Step::from_word(&step).ok_or(UsageError::Value("--step", step))?,
                status: Status::from_word(&status).ok_or(UsageError::Value("--status", status))?,
                detail: options.take("--detail"),
            }
        }
        ["bootif"] => Verb::BootInterface { wait: options.seconds("--wait", Duration::from_secs(10))? },
        other => return Err(UsageError::Verb(other.join(" "))),
    })
}

fn via(options: &mut Options) -> Result<Via, UsageError> {
    let program = options.take("--nix-store");
    match options.take("--via").as_deref() {
        None | Some("rookery") => Ok(Via::Rookery),
        Some("nix") => Ok(Via::Nix(program.unwrap_or_else(|| "nix-store".to_owned()).into())),
        Some(other) => Err(UsageError::Value("--via", other.to_owned())),
    }
}

fn disk(options: &mut Options) -> Result<DiskOptions, UsageError> {
    Ok(DiskOptions { spec: options.required("--spec")?.into(), disk: options.take("--disk").map(PathBuf::from) })
}

/// `--option value` pairs, taken out as they are understood.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(words: Vec<String>) -> Result<Self, UsageError> {
        let mut pairs = Vec::new();
        let mut words = words.into_iter();
        while let Some(option) = words.next() {
            if !option.starts_with("--") {
                return Err(UsageError::Option(option));
            }
            let (option, value) = match option.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None if ["--help", "--version"].contains(&option.as_str()) => (option, Some(String::new())),
                None => (option, words.next()),
            };
            let value = value.ok_or_else(|| UsageError::NoValue(option.clone()))?;
            pairs.push((option, value));
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, option: &str) -> Option<String> {
        let at = self.0.iter().position(|(name, _)| name == option)?;
        Some(self.0.remove(at).1)
    }

    fn flag(&mut self, option: &str) -> bool {
        self.take(option).is_some()
    }

    fn required(&mut self, option: &'static str) -> Result<String, UsageError> {
        self.take(option).ok_or(UsageError::Missing(option))
    }

    fn seconds(&mut self, option: &'static str, default: Duration) -> Result<Duration, UsageError> {
        let Some(text) = self.take(option) else { return Ok(default) };
        text.parse().map(Duration::from_secs).map_err(|_| UsageError::Value(option, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Machine, Verb), UsageError> {
        parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn verbs_and_their_options() {
        let (machine, verb) = parsed("disk apply --spec=/etc/layout.json --disk /dev/vda --cmdline /tmp/c").unwrap();
        assert_eq!(machine.command_line, PathBuf::from("/tmp/c"));
        let Verb::DiskApply(options) = verb else { panic!("{verb:?}") };
        assert_eq!(options.disk, Some(PathBuf::from("/dev/vda")));
        assert!(matches!(parsed("report running"), Ok((_, Verb::ReportRunning))));
        assert!(matches!(
            parsed("report --step disk --status failed"),
            Ok((_, Verb::Report { step: Step::Disk, status: Status::Failed, detail: None }))
        ));
        assert!(matches!(parsed("--help"), Ok((_, Verb::Help))));
        let Ok((_, Verb::BootInterface { wait })) = parsed("bootif --wait 3") else { panic!() };
        assert_eq!(wait.as_secs(), 3);
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("", "a verb is missing"),
            ("disk", "no verb `disk`"),
            ("disk plan", "`--spec` must be given"),
            ("disk plan --spec", "`--spec` needs a value"),
            ("disk plan --spec x --wipe yes", "`--wipe` is not an option"),
            ("disk plan --spec x y", "`y` is not an option"),
            ("fetch --root / --patience soon", "`--patience soon`"),
            ("report --step dance --status ok", "`--step dance`"),
        ];
        for (text, expected) in table {
            let error = parsed(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
