//! What clients say of themselves: `POST /report`.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use boot_model::event::{Event, EventKind};
use boot_model::report::{MAX_BODY, MAX_DETAIL, Report};
use boot_model::{MacAddr, Timestamp};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::desk::Desk;
use crate::refusal::Refusal;

/// Where reports go.
pub(crate) const PATH: &str = "/report";

/// Takes a report from `client`, which is known to be the machine `mac`, and writes it to the events.
///
/// Who is not known is refused before a byte of the body is read.
pub(crate) async fn take(desk: &Desk, client: Ipv4Addr, mac: Option<MacAddr>, body: Incoming) -> Result<(), Refusal> {
    let Some(mac) = mac else { return Err(stranger(desk)) };
    if !desk.reports.allows(client, Instant::now()) {
        return Err(Refusal::TooOften);
    }
    let report = parse(&read(body).await?)?;
    if report.mac != mac {
        return Err(stranger(desk));
    }
    desk.counts.reports.fetch_add(1, Ordering::Relaxed);
    desk.events.write(&Event {
        time: Timestamp::from_unix_millis(service::unix_millis()),
        mac: Some(mac),
        address: Some(client),
        kind: EventKind::Report { report },
    });
    Ok(())
}

fn stranger(desk: &Desk) -> Refusal {
    desk.counts.strangers.fetch_add(1, Ordering::Relaxed);
    Refusal::Stranger
}

async fn read(body: Incoming) -> Result<Vec<u8>, Refusal> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Refusal::ReportTooLong);
    }
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::ReportTooLong),
        Ok(Err(_)) | Err(_) => Err(Refusal::ReportCut),
    }
}

fn parse(body: &[u8]) -> Result<Report, Refusal> {
    let report: Report = serde_json::from_slice(body).map_err(|error| Refusal::NotAReport(error.to_string()))?;
    let detail = report.detail.as_deref().unwrap_or_default();
    if detail.len() > MAX_DETAIL {
        return Err(Refusal::NotAReport(format!("detail has {} bytes of at most {MAX_DETAIL}", detail.len())));
    }
    // It will stand on a terminal: no escape sequences.
    if detail.chars().any(char::is_control) {
        return Err(Refusal::NotAReport("detail has control characters".to_owned()));
    }
    Ok(report)
}

/// A report is one or two packets.
const PATIENCE: Duration = Duration::from_secs(10);
