//! From what was found to a response: status line, headers and body.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use boot_model::event::Content;
use boot_model::{MacAddr, turn};
use generations::Served;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, RETRY_AFTER,
};
use hyper::{HeaderMap, Response, StatusCode};

use crate::body::Body;
use crate::delivery::Delivery;
use crate::desk::{Desk, Found};
use crate::line::Turn;
use crate::refusal::Refusal;
use crate::selection::Selection;
use crate::wire::Lane;

/// What a request gets.
#[derive(Debug)]
pub(crate) enum Reply {
    Found(Box<Found>),
    /// A report was taken.
    Taken,
    Refused(Refusal),
}

/// Whose request it was, for the event.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) desk: Arc<Desk>,
    pub(crate) began: Instant,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) path: String,
    /// The way out.
    pub(crate) lane: Lane,
    /// Its turn, if it is large.
    pub(crate) turn: Option<Turn>,
}

impl Reply {
    /// The response; to HEAD, the same without its body.
    pub(crate) fn into_response(self, is_head: bool, sent: Sent) -> Response<Body> {
        match self {
            Self::Found(found) => respond_found(*found, sent),
            Self::Taken => {
                let delivery = sent.delivery(StatusCode::NO_CONTENT, None, 0);
                respond(HeaderMap::new(), Body::of(Bytes::new(), delivery), StatusCode::NO_CONTENT)
            }
            Self::Refused(refusal) => respond_refused(&refusal, is_head, sent),
        }
    }
}

fn respond_found(found: Found, mut sent: Sent) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    put(&mut headers, ETAG, found.etag.to_string());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control(&found.served)));
    let (status, body_len) = match found.selection {
        Selection::NotModified => (StatusCode::NOT_MODIFIED, None),
        Selection::Part(range) => {
            put(&mut headers, CONTENT_RANGE, format!("bytes {}-{}/{}", range.start, range.end - 1, found.len));
            (StatusCode::PARTIAL_CONTENT, Some(range.end - range.start))
        }
        Selection::Whole | Selection::Unsatisfiable => (StatusCode::OK, Some(found.len)),
    };
    if let Some(len) = body_len {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&found.served)));
        headers.insert(CONTENT_LENGTH, len.into());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let payload = found.payload.unwrap_or_default();
    let (lane, turn) = (sent.lane.clone(), sent.turn.take());
    if let Some(Turn::Later(_)) = turn {
        headers.insert(turn::HEADER, HeaderValue::from_static(turn::LATER));
    }
    let delivery = sent.delivery(status, Some(found.served.content), payload.len());
    respond(headers, Body::new(payload, lane, turn, delivery), status)
}

fn respond_refused(refusal: &Refusal, is_head: bool, sent: Sent) -> Response<Body> {
    let status = refusal.status();
    let phrase = status.canonical_reason().unwrap_or_default();
    let text = format!("{} {phrase}\n{}\n", status.as_u16(), refusal.cure());
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PLAIN_TEXT));
    headers.insert(CONTENT_LENGTH, text.len().into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match refusal {
        Refusal::Method { allow } => {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        Refusal::Unsatisfiable { len } => put(&mut headers, CONTENT_RANGE, format!("bytes */{len}")),
        Refusal::TooOften => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
        }
        Refusal::Busy => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
            // It is refused for the sake of its connection.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    let text = if is_head { Bytes::new() } else { Bytes::from(text) };
    let delivery = sent.delivery(status, Some(Content::Error), text.len() as u64);
    respond(headers, Body::of(text, delivery), status)
}

fn respond(headers: HeaderMap, body: Body, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Sent {
    fn delivery(self, status: StatusCode, content: Option<Content>, expected: u64) -> Arc<Delivery> {
        Arc::new(Delivery {
            desk: self.desk,
            began: self.began,
            address: self.address,
            mac: self.mac,
            path: self.path,
            content,
            status: status.as_u16(),
            expected,
            sent: AtomicU64::new(0),
            slot: OnceLock::new(),
        })
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Tags and numbers of our own are visible ASCII; a value that were not would be left out rather than end the service.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

pub(crate) const fn cache_control(served: &Served) -> &'static str {
    match served.immutable {
        true => "public, max-age=31536000, immutable",
        // Kept, but asked about each time: the ETag says whether it is still the same.
        false => "no-cache",
    }
}

/// UEFI firmware takes only application/efi for a program to start (UEFI 2.10 §24.7.3.1).
pub(crate) fn content_type(served: &Served) -> &'static str {
    let name = served.candidates.first().and_then(|path| path.to_str()).unwrap_or_default();
    match served.content {
        Content::Menu | Content::Error => PLAIN_TEXT,
        Content::Nar => "application/x-nix-nar",
        Content::Narinfo if name.ends_with(".narinfo") => "text/x-nix-narinfo",
        Content::Narinfo if name.ends_with(".ls") => "application/json",
        Content::Narinfo => "text/x-nix-cache-info",
        Content::Generation if name.ends_with(".json") => "application/json",
        Content::Generation => PLAIN_TEXT,
        Content::Loader if name.to_ascii_lowercase().ends_with(".efi") => "application/efi",
        Content::Loader | Content::Boot | Content::Bundle => "application/octet-stream",
    }
}

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
