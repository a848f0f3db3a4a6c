//! The shell around every service, the same for all: command line, logging, signals, readiness, watchdog, inherited sockets,
//! exit codes, the event writer and files opened beneath one directory.
//!
//! It knows nothing of DHCP, TFTP or Nix. A service's `main` is one call of [`main`] with its command-line type; its long-running part is
//! a future given to [`run`], which ends when its [`Process`] says so.

mod events;
mod failure;
mod logging;
mod process;

pub mod activation;
pub mod confined;
pub mod notify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

pub use events::EventWriter;
pub use failure::Failure;
pub use logging::LogFormat;
pub use process::{Process, run, run_in_one_thread};

/// The options that every service has.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The site's configuration
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/rookery/rookery.toml")]
    pub config: PathBuf,
    /// How log lines are written to standard error; RUST_LOG sets what is logged
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Parses the command line, does what `program` says and turns the result into the exit code: 0, 1 (failure), 64 (usage) or 78
/// (configuration). An error is printed once, as a chain from what was being done to the cause.
pub fn main<P: clap::Parser>(program: impl FnOnce(P) -> Result<(), Failure>) -> ExitCode {
    main_with(std::env::args_os(), program)
}

fn main_with<P: clap::Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    program: impl FnOnce(P) -> Result<(), Failure>,
) -> ExitCode {
    let result = match P::try_parse_from(arguments) {
        Ok(parsed) => program(parsed),
        Err(error) => {
            // clap knows whether its text belongs on standard output (--help) or standard error. Nobody is left to tell if that fails.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure}", P::command().get_name());
            failure.exit_code()
        }
    }
}

/// How every service's verb `check` ends, after it has printed a line `cannot serve <path>: <reason>` for each of so many problems.
///
/// # Errors
/// If there is one: exit code 1.
pub fn checked(problems: usize) -> Result<(), Failure> {
    match problems {
        0 => Ok(()),
        count => Err(Failure::runtime(format!("{count} things that are there cannot be served; each is named above"))),
    }
}

/// Milliseconds since 1970 began by the system's clock: the time that events carry.
pub fn unix_millis() -> u64 {
    // A clock before 1970 is a clock that was never set; events then say so by their date.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "rookery-test")]
    struct Cli {
        #[command(flatten)]
        options: Options,
        #[arg(long)]
        fail: Option<String>,
    }

    fn exit(arguments: &[&str]) -> ExitCode {
        let arguments = std::iter::once("rookery-test").chain(arguments.iter().copied()).map(OsString::from);
        main_with(arguments, |cli: Cli| match cli.fail.as_deref() {
            None => Ok(()),
            Some("config") => Err(Failure::configuration("x.toml:1: no")),
            Some(text) => Err(Failure::runtime(text.to_owned())),
        })
    }

    #[test]
    fn exit_codes_tell_usage_configuration_and_failure_apart() {
        // ExitCode has no equality; its Debug form is the only way to look into it.
        let code = |arguments: &[&str]| format!("{:?}", exit(arguments));
        let number = |n: u8| format!("{:?}", ExitCode::from(n));
        assert_eq!(code(&[]), number(0));
        assert_eq!(code(&["--help"]), number(0));
        assert_eq!(code(&["--nonsense"]), number(64));
        assert_eq!(code(&["--log-format", "xml"]), number(64));
        assert_eq!(code(&["--fail", "config"]), number(78));
        assert_eq!(code(&["--fail", "disk full"]), number(1));
    }
}
