use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// sysexits.h EX_USAGE; units don't restart on it.
pub(crate) const USAGE: u8 = 64;
/// sysexits.h EX_CONFIG; units don't restart on it.
const CONFIGURATION: u8 = 78;

/// Why a program ends other than well. Its `Display` is the whole chain of causes on one line.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Something went wrong while running: exit code 1.
    pub fn runtime(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: 1, error: error.into() }
    }

    /// The command line asks for something that makes no sense: exit code 64.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: USAGE, error: error.into() }
    }

    /// The configuration is wrong: exit code 78.
    pub fn configuration(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: CONFIGURATION, error: error.into() }
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.error.to_string();
        f.write_str(&said)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // thiserror's `{0}` repeats the cause in the message; once is enough.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::runtime(error)
    }
}
