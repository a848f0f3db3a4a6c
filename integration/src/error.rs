use std::io;
use std::process::ExitStatus;

/// Why the lab could not do, or did not see, what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with what.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A helper program said no.
    #[error("{command}: {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed last.
        output: String,
    },
    /// Something awaited did not come.
    #[error("waited {seconds:.0} s for {what} ({origin})")]
    Deadline {
        /// What was awaited.
        what: String,
        /// Where: the source of the log that was watched, or a program.
        origin: String,
        /// How long.
        seconds: f64,
    },
    /// A client printed a line after which nothing good can come.
    #[error("{origin} said {line:?} while {what} was awaited")]
    Fatal {
        /// What was awaited.
        what: String,
        /// Who said it.
        origin: String,
        /// The line.
        line: String,
    },
    /// A program whose output was watched has ended.
    #[error("{origin} ended while {what} was awaited")]
    Ended {
        /// What was awaited.
        what: String,
        /// The program.
        origin: String,
    },
    /// Something was seen that must not be, or was not as it must be.
    #[error("{0}")]
    Wrong(String),
    /// The lab was called in a way that it does not understand.
    #[error("{0}")]
    Usage(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

/// A result with the lab's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: what was being done when the operating system refused.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// As [`Error::io`], for the error numbers of the crate `nix`.
    pub(crate) fn errno(doing: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: source.into() }
    }
}
