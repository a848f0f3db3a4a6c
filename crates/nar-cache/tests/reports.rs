//! What clients may say of themselves, and who may.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::sync::atomic::Ordering;

use boot_model::event::{Content, EventKind};
use boot_model::report::{MAX_BODY, MAX_DETAIL};
use common::{Server, state::MAC};

fn report(mac: &str, detail: &str) -> String {
    format!(
        r#"{{"mac":"{mac}","boot-id":7,"generation":"lab/1-aaaaaaaa","step":"disk","status":"ok","uptime-ms":2100,"detail":"{detail}"}}"#
    )
}

#[test]
fn a_report_from_the_leased_address_becomes_an_event() {
    let server = Server::start();
    let response = server.post("/report", &report("52:54:00:77:00:01", "created"));
    assert_eq!((response.status(), response.header("Content-Length")), (204, None));
    let [event] = &server.events()[..] else { panic!("one event and no other: {:?}", server.events()) };
    assert_eq!((event.mac, event.address), (Some(MAC), Some("127.0.0.1".parse().unwrap())));
    let EventKind::Report { report } = &event.kind else { panic!("{event:?}") };
    assert_eq!((report.mac, report.detail.as_deref()), (MAC, Some("created")));
}

#[test]
fn what_is_no_report_is_refused() {
    let server = Server::start();
    let good = "52:54:00:77:00:01";
    for (body, status) in [
        (report("52:54:00:77:00:02", ""), 403),
        (report(good, &"x".repeat(MAX_DETAIL)), 204),
        (report(good, &"x".repeat(MAX_DETAIL + 1)), 400),
        (report(good, "\\u001b[2J"), 400),
        (report(good, "two\\nlines"), 400),
        (report(good, "\\u009b"), 400),
        (report("nobody", ""), 400),
        (report(good, "").replace("boot-id", "boot"), 400),
        ("{}".to_owned(), 400),
        (String::new(), 400),
        (format!("{}{}", report(good, ""), " ".repeat(MAX_BODY)), 413),
        ("[".repeat(MAX_BODY), 400),
    ] {
        let response = server.post("/report", &body);
        assert_eq!(response.status(), status, "{body}");
        assert!(status == 204 || response.text().lines().count() == 2, "{}", response.text());
    }
    server.wait_for_responses(11);
    let (mut reports, mut errors) = (0, 0);
    for event in server.events() {
        match event.kind {
            EventKind::Report { .. } => reports += 1,
            EventKind::Http { path, content: Content::Error, .. } if path == "/report" => errors += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((reports, errors), (1, 11));
    assert_eq!(server.desk.counts().strangers.load(Ordering::Relaxed), 1);
}

#[test]
fn a_chunked_body_is_bounded_too() {
    let server = Server::start();
    let mut client = server.client();
    client.send("POST /report HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        client.try_send(format!("400\r\n{}\r\n", " ".repeat(0x400)).as_bytes());
    }
    assert_eq!(client.response_to("POST").status(), 413);
}

#[test]
fn who_has_no_lease_says_nothing() {
    let server = Server::start();
    server.state.lease("10.77.0.100".parse().unwrap(), MAC);
    let response = server.post("/report", &report("52:54:00:77:00:01", ""));
    assert_eq!(response.status(), 403);
    server.wait_for_responses(1);
    assert_eq!(server.events().len(), 1);
    assert_eq!(server.events()[0].mac, None);
}

#[test]
fn a_flood_of_reports_is_bounded() {
    let server = Server::start();
    let mut client = server.client();
    let body = report("52:54:00:77:00:01", "");
    let mut refused = 0;
    // The bound is 100 in ten seconds; a machine that is so slow that these take longer sees fewer refusals, not none.
    for _ in 0..2000 {
        client.send(&format!("POST /report HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let response = client.response_to("POST");
        match response.status() {
            204 => {}
            429 => {
                assert_eq!(response.header("Retry-After"), Some("10"));
                refused += 1;
                break;
            }
            other => panic!("{other}"),
        }
        if response.header("Connection") == Some("close") {
            client = server.client();
        }
    }
    assert!(refused > 0);
}
