//! Why a request gets no file, in two texts: one for the client, one for the log.

use std::path::PathBuf;

use generations::NotServed;
use hyper::StatusCode;
use service::confined::OpenError;
use thiserror::Error;

/// Why a request is refused. `Display` is for the log and for `explain`; of it the client gets [`Refusal::status`] and
/// [`Refusal::cure`] only, so that no path and no error of the system leaves the machine.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The path is no percent-encoded text.
    #[error("the URL's path is not percent-encoded UTF-8 without control characters")]
    Url,
    /// The table of served names does not know it.
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// The table knows it, but no such file is there.
    #[error("none of these files is there: {}", list(.0))]
    Missing(Vec<PathBuf>),
    /// The file is there and can't be served.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file was opened and can't be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The path beneath the state directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The range begins behind the file's end.
    #[error("the range begins behind the end, which is at {len} bytes")]
    Unsatisfiable {
        /// The file's length.
        len: u64,
    },
    /// A method that this URL does not have.
    #[error("method not allowed; allowed: {allow}")]
    Method {
        /// Those that it has.
        allow: &'static str,
    },
    /// A report of more than [`boot_model::report::MAX_BODY`] bytes.
    #[error("the report is too long")]
    ReportTooLong,
    /// A report that did not arrive in time or was cut off.
    #[error("the report did not arrive whole")]
    ReportCut,
    /// No report by its form.
    #[error("not a report: {0}")]
    NotAReport(String),
    /// A report about a machine that does not have this address.
    #[error("the sender's address is not that of the machine that the report is about")]
    Stranger,
    /// Too many reports from this address.
    #[error("too many reports")]
    TooOften,
    /// Too many wait for their turn already, of all clients or of this one.
    #[error("too many large responses are waited for")]
    Busy,
    /// A thread that was to open the file is gone.
    #[error("a thread ended early: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl Refusal {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Url | Self::NotAReport(_) => StatusCode::BAD_REQUEST,
            Self::NotServed(_) | Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Open(error) => match error {
                OpenError::NotFound(_) | OpenError::NotRegular(_) | OpenError::Escapes(_) => StatusCode::NOT_FOUND,
                OpenError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Read { .. } | Self::Thread(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unsatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ReportTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ReportCut => StatusCode::REQUEST_TIMEOUT,
            Self::Stranger => StatusCode::FORBIDDEN,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What to do about it, for whoever reads the answer on a client's screen.
    pub(crate) fn cure(&self) -> &'static str {
        match self.status() {
            StatusCode::NOT_FOUND => {
                "Nothing is published under this name; `rookery-nar-cache explain` on the server says why."
            }
            StatusCode::INTERNAL_SERVER_ERROR => {
                "The server could not read it; `rookery-nar-cache check` there says why."
            }
            StatusCode::RANGE_NOT_SATISFIABLE => "Ask for a range that begins within the length given.",
            StatusCode::METHOD_NOT_ALLOWED => "Use a method that Allow names.",
            StatusCode::PAYLOAD_TOO_LARGE => "Send a report of at most 4096 bytes.",
            StatusCode::REQUEST_TIMEOUT => "Send the report again.",
            StatusCode::FORBIDDEN => "Report from this machine's own address, in a network of the configuration.",
            StatusCode::SERVICE_UNAVAILABLE => "Ask again after the seconds that Retry-After says.",
            StatusCode::TOO_MANY_REQUESTS => "Wait before the next report.",
            _ => "Send a well-formed request.",
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
