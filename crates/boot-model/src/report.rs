//! What a client says of itself: the body that `rookery-agent` posts to `/report`.

use serde::{Deserialize, Serialize};

use crate::{GenerationRef, MacAddr, StorePath};

/// The longest body that a server reads, in bytes.
pub const MAX_BODY: usize = 4096;

/// The longest [`Report::detail`], in bytes; the agent cuts, the server refuses.
pub const MAX_DETAIL: usize = 1024;

/// One report. It is a claim from the network: a server believes the MAC only if the sender's address is known to be its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Report {
    /// The card that the machine booted from.
    pub mac: MacAddr,
    /// Drawn at random by the agent once per boot, so that two boots of one machine can be told apart.
    pub boot_id: u64,
    /// What the menu chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationRef>,
    /// Which part of the boot it speaks of.
    pub step: Step,
    /// How that part stands.
    pub status: Status,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// A sentence for people: the cause of a failure, the disk that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How far a fetch is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// With [`Step::Running`]: where `/run/current-system` leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_system: Option<StorePath>,
}

/// The parts of a boot that happen on the client, in their order (steps 7 to 13 of docs/boot-flow.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Stage 1 began: modules and network.
    Network,
    /// The disk's layout is checked, and created if it must be.
    Disk,
    /// File systems are mounted.
    Mount,
    /// The closure is brought onto the disk.
    Fetch,
    /// Stage 1 hands over to stage 2.
    Activate,
    /// The system runs.
    Running,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It began.
    Started,
    /// It goes on; [`Report::progress`] says how far.
    Progress,
    /// It is done.
    Ok,
    /// It failed; [`Report::detail`] says why.
    Failed,
}

/// How far a fetch is. Bytes are those of NARs, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Progress {
    /// Store paths brought so far.
    pub paths: u64,
    /// Store paths to bring.
    pub total_paths: u64,
    /// Bytes brought so far.
    pub bytes: u64,
    /// Bytes to bring.
    pub total_bytes: u64,
}

impl Step {
    /// The word that reports and the agent's command line use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Mount => "mount",
            Self::Fetch => "fetch",
            Self::Activate => "activate",
            Self::Running => "running",
        }
    }

    /// The step that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Network, Self::Disk, Self::Mount, Self::Fetch, Self::Activate, Self::Running];
        all.into_iter().find(|step| step.as_str() == word)
    }
}

impl Status {
    /// The status that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "started" => Some(Self::Started),
            "progress" => Some(Self::Progress),
            "ok" => Some(Self::Ok),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_small_flat_json() {
        let report = Report {
            mac: "52:54:00:77:00:01".parse().unwrap(),
            boot_id: 7,
            generation: Some("lab/42-9f3k2xq1".parse().unwrap()),
            step: Step::Disk,
            status: Status::Ok,
            uptime_ms: 2100,
            detail: None,
            progress: None,
            current_system: None,
        };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"mac":"52:54:00:77:00:01","boot-id":7,"generation":"lab/42-9f3k2xq1","step":"disk","status":"ok","uptime-ms":2100}"#
        );
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(serde_json::from_str::<Report>(&json.replace("uptime-ms", "uptime")).is_err());
    }

    #[test]
    fn words_and_json_agree() {
        for step in [Step::Network, Step::Disk, Step::Mount, Step::Fetch, Step::Activate, Step::Running] {
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
            assert_eq!(Step::from_word(step.as_str()), Some(step));
        }
        for status in [Status::Started, Status::Progress, Status::Ok, Status::Failed] {
            let word = serde_json::to_value(status).unwrap();
            assert_eq!(Status::from_word(word.as_str().unwrap()), Some(status));
        }
    }
}
