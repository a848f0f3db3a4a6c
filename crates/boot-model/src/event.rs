//! `events/`: what happened to clients, one JSON line each, written by the services.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::{Circuit, MacAddr, Timestamp};

/// One thing that happened to a client: a line of `events/<service>/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// When the service saw it.
    pub time: Timestamp,
    /// The client's card, where the service knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The client's address, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen to a client. Texts come from Rookery's own tables or are names that it serves. A client's own words stand in a
/// [`Report`], and in the `file` or `path` of a request that was refused; a relay agent's in a `circuit`: printable ASCII in all of
/// them, and not many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventKind {
    /// DHCP: an address was offered, promised or refused. `message` is the reply's type (OFFER, ACK, NAK), `reason` why.
    Dhcp {
        /// The reply's message type, in capitals. ACK is of a lease only: INFORM and BOOT-SERVER (port 4011) are answers to a sender
        /// that has its address from elsewhere, or says so.
        message: String,
        /// The file that the client was told to boot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot_file: Option<String>,
        /// The wire that the client is on, as its relay agent calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        circuit: Option<Circuit>,
        /// The engine's reason in words; with no boot file, why there is none.
        reason: String,
    },
    /// TFTP: a transfer ended.
    Tftp {
        /// The name that was asked for, without leading slashes; bytes beyond printable ASCII are escaped.
        file: String,
        /// Bytes of the file that the client acknowledged.
        bytes: u64,
        /// `done`, `probe`, `aborted`, `timeout` or `refused`.
        outcome: String,
        /// The negotiated block size in bytes.
        block_size: u16,
        /// The negotiated window in blocks.
        window: u16,
        /// From the request to the end.
        milliseconds: u64,
    },
    /// HTTP: a response was sent, or cut off.
    Http {
        /// What was asked for, with one leading slash and no doubled ones. With [`Content::Error`] it is what the client wrote, where that
        /// is at most 256 letters, digits and `._-+?=/`, else `/`.
        path: String,
        /// What kind of thing that is.
        content: Content,
        /// The status code.
        status: u16,
        /// Bytes of the body that were handed to the network.
        bytes: u64,
        /// Whether the whole body was.
        complete: bool,
        /// From the request to the end.
        milliseconds: u64,
    },
    /// The client spoke of itself, from the address that its MAC leases.
    Report {
        /// Its words.
        report: Report,
    },
}

/// What an HTTP response carried, so that bytes can be added up by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// A boot menu or script.
    Menu,
    /// A boot loader's file.
    Loader,
    /// A kernel or an initrd.
    Boot,
    /// generation.json, its signature or the closure manifest.
    Generation,
    /// nix-cache-info, a narinfo or a listing.
    Narinfo,
    /// A packed store path.
    Nar,
    /// An update bundle: what one generation has and another has not.
    Bundle,
    /// Nothing that is served: an error's few words.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Status, Step};

    #[test]
    fn every_kind_is_one_flat_line_that_reads_back() {
        let kinds = [
            EventKind::Dhcp {
                message: "ACK".into(),
                boot_file: Some("lpxelinux.0".into()),
                circuit: Circuit::new(b"eth1"),
                reason: "selecting".into(),
            },
            EventKind::Tftp {
                file: "lpxelinux.0".into(),
                bytes: 70_000,
                outcome: "done".into(),
                block_size: 1408,
                window: 1,
                milliseconds: 12,
            },
            EventKind::Http {
                path: "/nix-cache-info".into(),
                content: Content::Narinfo,
                status: 200,
                bytes: 22,
                complete: true,
                milliseconds: 0,
            },
            EventKind::Report {
                report: Report {
                    mac: "52:54:00:77:00:01".parse().unwrap(),
                    boot_id: u64::MAX,
                    generation: None,
                    step: Step::Running,
                    status: Status::Ok,
                    uptime_ms: 9000,
                    detail: None,
                    progress: None,
                    current_system: None,
                },
            },
        ];
        for kind in kinds {
            let event = Event {
                time: "2026-11-23T02:35:07.250Z".parse().unwrap(),
                mac: Some("52:54:00:77:00:01".parse().unwrap()),
                address: Some(Ipv4Addr::new(10, 77, 0, 100)),
                kind,
            };
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
        }
    }
}
