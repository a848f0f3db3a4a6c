//! `intents/`: what a person wishes for a machine's next boot, one file a machine.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{Event, EventKind};
use crate::{DiskSerial, EraseConsent, GenerationRef, MacAddr, Nonce, Timestamp};

/// The schema that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// A wish for the next boot of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Intent {
    schema: u32,
    /// The card that the machine boots from.
    pub mac: MacAddr,
    /// When it was wished. What the machine did before is no answer to it.
    pub created: Timestamp,
    /// When it is void, fulfilled or not.
    pub expires: Timestamp,
    /// What is wished.
    pub next: Next,
}

/// What a machine is to do at its next boot, unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "boot", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Next {
    /// Boot this generation.
    Generation {
        /// One of the machine's role.
        generation: GenerationRef,
    },
    /// Test its memory.
    Memtest,
    /// Erase this disk, whosever it is, and boot its role's default.
    Reinstall {
        /// The disk.
        serial: DiskSerial,
        /// What tells this consent from every other one.
        nonce: Nonce,
    },
}

/// The bytes are no intent of the known schema.
#[derive(Debug, Error)]
pub enum InvalidIntent {
    /// Not JSON, or a field is missing or wrong.
    #[error("not an intent: {0}")]
    Json(#[from] serde_json::Error),
    /// A later Rookery wrote it.
    #[error("schema {0}, but this program knows schema {SCHEMA}: update it")]
    Schema(u32),
}

impl Intent {
    /// A wish.
    pub const fn new(mac: MacAddr, created: Timestamp, expires: Timestamp, next: Next) -> Self {
        Self { schema: SCHEMA, mac, created, expires, next }
    }

    /// Reads a file of `intents/`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidIntent> {
        let read: Self = serde_json::from_slice(bytes)?;
        if read.schema == SCHEMA { Ok(read) } else { Err(InvalidIntent::Schema(read.schema)) }
    }

    /// The bytes of its file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("an intent has only string keys and no floats");
        bytes.push(b'\n');
        bytes
    }

    /// The consent that goes with it, if it erases.
    pub fn consent(&self) -> Option<EraseConsent> {
        match &self.next {
            Next::Reinstall { serial, nonce } => {
                Some(EraseConsent { mac: self.mac, nonce: *nonce, serial: serial.clone() })
            }
            Next::Generation { .. } | Next::Memtest => None,
        }
    }

    /// Whether this event says that the machine has done it. Events carry a MAC only if the sender's address is known to be
    /// its own. `carried` says of which generations the entries that are booted unasked have carried the consent to erase.
    ///
    /// A generation counts as booted as soon as its initrd speaks: one that fails later must not be booted again and again. A report of
    /// a kernel that was started before the wish speaks of an earlier boot. A memory test tells nobody; that it was downloaded counts.
    pub fn fulfilled_by(&self, event: &Event, carried: impl Fn(&GenerationRef) -> bool) -> bool {
        if event.mac != Some(self.mac) || event.time < self.created {
            return false;
        }
        match (&event.kind, &self.next) {
            (EventKind::Report { report }, next) => {
                let started = event.time.unix_millis().saturating_sub(report.uptime_ms);
                let wished = match next {
                    Next::Generation { generation } => report.generation.as_ref() == Some(generation),
                    // Somebody may have chosen another entry, which erases nothing. A report does not tell specialisations apart.
                    Next::Reinstall { .. } => report.generation.as_ref().is_some_and(carried),
                    Next::Memtest => false,
                };
                wished && started >= self.created.unix_millis()
            }
            (EventKind::Http { path, complete: true, status: 200, .. }, Next::Memtest) => {
                matches!(path.as_str(), "/memtest-bios" | "/memtest-efi")
            }
            // GRUB has no HTTP.
            (EventKind::Tftp { file, outcome, .. }, Next::Memtest) => outcome == "done" && file == "memtest-efi",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Content;
    use crate::report::{Report, Status, Step};

    const CREATED: u64 = 1_795_000_000_000;

    fn intent(next: Next) -> Intent {
        let at = Timestamp::from_unix_millis;
        Intent::new("52:54:00:77:00:01".parse().unwrap(), at(CREATED), at(CREATED + 1000), next)
    }

    fn event(millis_later: u64, kind: EventKind) -> Event {
        let time = Timestamp::from_unix_millis(CREATED + millis_later);
        Event { time, mac: Some("52:54:00:77:00:01".parse().unwrap()), address: None, kind }
    }

    fn report(uptime_ms: u64, generation: &str) -> EventKind {
        let report = Report {
            mac: "52:54:00:77:00:01".parse().unwrap(),
            boot_id: 1,
            generation: Some(generation.parse().unwrap()),
            step: Step::Network,
            status: Status::Ok,
            uptime_ms,
            detail: None,
            progress: None,
            current_system: None,
        };
        EventKind::Report { report }
    }

    /// Generation 40 carries whatever consent there is.
    fn done(wish: &Intent, event: &Event) -> bool {
        wish.fulfilled_by(event, |generation| generation.to_string() == "lab/40-cccccccc")
    }

    fn reinstall() -> Next {
        Next::Reinstall { serial: "S1".parse().unwrap(), nonce: Nonce::new([1; 16]) }
    }

    /// Frozen: files of this schema are read for ever.
    #[test]
    fn schema_1() {
        let intent = intent(reinstall());
        let text = r#"{
  "schema": 1,
  "mac": "52:54:00:77:00:01",
  "created": "2026-11-18T11:06:40.000Z",
  "expires": "2026-11-18T11:06:41.000Z",
  "next": {
    "boot": "reinstall",
    "serial": "S1",
    "nonce": "01010101010101010101010101010101"
  }
}
"#;
        assert_eq!(Intent::from_json(text.as_bytes()).unwrap(), intent);
        assert_eq!(Intent::from_json(&intent.to_json()).unwrap(), intent);
        assert!(Intent::from_json(text.replace("\"schema\": 1", "\"schema\": 2").as_bytes()).is_err());
    }

    #[test]
    fn only_a_boot_after_the_wish_answers_it() {
        let wish = intent(Next::Generation { generation: "lab/41-aaaaaaaa".parse().unwrap() });
        assert!(done(&wish, &event(30_000, report(2_000, "lab/41-aaaaaaaa"))));
        assert!(!done(&wish, &event(30_000, report(2_000, "lab/42-bbbbbbbb"))), "somebody chose another entry");
        assert!(!done(&wish, &event(30_000, report(31_000, "lab/41-aaaaaaaa"))), "the boot before");
        let mut foreign = event(30_000, report(2_000, "lab/41-aaaaaaaa"));
        foreign.mac = None;
        assert!(!done(&wish, &foreign), "an address that is nobody's");
    }

    #[test]
    fn only_the_generation_that_carried_the_consent_ends_it() {
        let wish = intent(reinstall());
        assert!(done(&wish, &event(30_000, report(2_000, "lab/40-cccccccc"))));
        assert!(!done(&wish, &event(30_000, report(2_000, "lab/42-bbbbbbbb"))), "it had none");
        assert!(!done(&wish, &event(30_000, report(31_000, "lab/40-cccccccc"))), "the boot before");
    }

    #[test]
    fn a_memory_test_is_fulfilled_by_its_download() {
        let http = |path: &str, complete| EventKind::Http {
            path: path.to_owned(),
            content: Content::Loader,
            status: 200,
            bytes: 9,
            complete,
            milliseconds: 1,
        };
        let wish = intent(Next::Memtest);
        assert!(done(&wish, &event(1, http("/memtest-bios", true))));
        assert!(!done(&wish, &event(1, http("/memtest-bios", false))));
        let tftp = |file: &str, outcome: &str| EventKind::Tftp {
            file: file.to_owned(),
            bytes: 1,
            outcome: outcome.to_owned(),
            block_size: 1024,
            window: 1,
            milliseconds: 1,
        };
        assert!(done(&wish, &event(1, tftp("memtest-efi", "done"))));
        assert!(!done(&wish, &event(1, tftp("memtest-efi", "aborted"))));
        assert!(!done(&wish, &event(1, tftp("grubx64.efi", "done"))));
        assert!(!done(&wish, &event(1, http("/boot.ipxe", true))));
        assert!(!done(&wish, &event(1, report(0, "lab/42-bbbbbbbb"))));
    }
}
