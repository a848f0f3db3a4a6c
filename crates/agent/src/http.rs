//! HTTP to the one server that the menu named. No TLS: what matters is signed, and an initrd's clock can't judge certificates.

use std::time::Duration;

use ureq::Agent;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a request did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection, no answer in time, or an answer cut off: worth another try.
    #[error("{url}: {cause}")]
    Unreachable { url: String, cause: String },
    /// The server answered, and not with what was asked for.
    #[error("{url}: the server answered {status}")]
    Status { url: String, status: u16 },
}

impl HttpError {
    /// Might it be better in a moment?
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
        }
    }
}

/// Gets a small document, at most `limit` bytes.
pub(crate) fn get(url: &str, limit: u64, timeout: Duration) -> Result<Vec<u8>, HttpError> {
    let unreachable = |error: ureq::Error| HttpError::Unreachable { url: url.to_owned(), cause: error.to_string() };
    let mut response = agent(timeout).get(url).call().map_err(unreachable)?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(HttpError::Status { url: url.to_owned(), status });
    }
    response.body_mut().with_config().limit(limit).read_to_vec().map_err(unreachable)
}

/// Posts a JSON document and expects nothing but a good status.
pub(crate) fn post_json(url: &str, body: &[u8], timeout: Duration) -> Result<(), HttpError> {
    let request = agent(timeout).post(url).header("Content-Type", "application/json");
    let response =
        request.send(body).map_err(|error| HttpError::Unreachable { url: url.to_owned(), cause: error.to_string() })?;
    match response.status().as_u16() {
        200..300 => Ok(()),
        status => Err(HttpError::Status { url: url.to_owned(), status }),
    }
}

fn agent(timeout: Duration) -> Agent {
    Agent::config_builder()
        .timeout_global(Some(timeout))
        .timeout_connect(Some(CONNECT.min(timeout)))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("rookery-agent/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}
