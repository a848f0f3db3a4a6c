//! What Nix says of its progress (`--log-format internal-json`, one object per line behind `@nix `), and how a person and the
//! server see it.

use std::collections::HashMap;

use boot_model::{generation::Generation, report::Progress};
use serde::Deserialize;

use super::{Brought, progress::Display};
use crate::report::Reporter;

/// What the lines of all attempts say, shown and reported.
pub(super) struct NixLog<'a> {
    display: Display<'a>,
    log: Log,
    /// Before this attempt.
    earlier: Brought,
    closure_paths: u64,
}

/// The state that the lines of one attempt add up to.
#[derive(Debug, Default)]
struct Log {
    /// Bytes of each path that is being copied, by activity.
    copying: HashMap<u64, u64>,
    /// The activity that counts copied paths.
    counting: Option<u64>,
    done: Brought,
    expected: Brought,
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    action: String,
    #[serde(default)]
    id: u64,
    #[serde(default, rename = "type")]
    kind: u32,
    #[serde(default)]
    fields: Vec<serde_json::Value>,
    #[serde(default)]
    level: u8,
    #[serde(default)]
    msg: String,
}

// Numbers from Nix, src/libutil/logging.hh.
const COPY_PATH: u32 = 100;
const COPY_PATHS: u32 = 103;
const RESULT_PROGRESS: u32 = 105;
const RESULT_EXPECTED: u32 = 106;
/// Errors and warnings.
const LOUD: u8 = 1;
/// Enough to find the cause in; Nix repeats itself.
const MOST_MESSAGES: usize = 64;

impl<'a> NixLog<'a> {
    pub(super) fn new(generation: &Generation, reporter: &'a Reporter) -> Self {
        Self {
            display: Display::new(reporter),
            log: Log::default(),
            earlier: Brought::default(),
            closure_paths: generation.closure.paths,
        }
    }

    /// A new process begins to count at zero.
    pub(super) fn begin_attempt(&mut self) {
        self.earlier = self.brought();
        self.log = Log::default();
    }

    /// What all attempts brought so far, whole paths only.
    pub(super) fn brought(&self) -> Brought {
        Brought { paths: self.earlier.paths + self.log.done.paths, bytes: self.earlier.bytes + self.log.done.bytes }
    }

    /// Takes one line. True if something went forward.
    pub(super) fn line(&mut self, line: &str) -> bool {
        self.log.line(line)
    }

    /// Errors and warnings of this attempt, without colours.
    pub(super) fn messages(&self) -> &[String] {
        &self.log.messages
    }

    /// Shows and reports what there is to show, if it is time.
    pub(super) fn tick(&mut self) {
        let (progress, paths) = (self.progress(), self.closure_paths);
        let asking = || format!("rookery: asking the server about {paths} paths");
        self.display.tick(progress, || (progress.total_bytes == 0).then(asking));
    }

    /// Ends the line on the console.
    pub(super) fn finish(&mut self) {
        self.display.finish();
    }

    fn progress(&self) -> Progress {
        let copying: u64 = self.log.copying.values().sum();
        let brought = self.brought();
        Progress {
            paths: brought.paths,
            total_paths: self.earlier.paths.saturating_add(self.log.expected.paths),
            bytes: brought.bytes + copying,
            // What the server announced, before anything of it is verified.
            total_bytes: self.earlier.bytes.saturating_add(self.log.expected.bytes),
        }
    }
}

impl Log {
    fn line(&mut self, line: &str) -> bool {
        let Some(json) = line.strip_prefix("@nix ") else {
            // The loader's own complaints come without the prefix.
            self.message(line);
            return false;
        };
        let Ok(line) = serde_json::from_str::<Line>(json) else { return false };
        let number = |index: usize| line.fields.get(index).and_then(serde_json::Value::as_u64).unwrap_or(0);
        match (line.action.as_str(), line.kind) {
            ("start", COPY_PATH) => {
                self.copying.insert(line.id, 0);
                true
            }
            ("start", COPY_PATHS) => {
                self.counting = Some(line.id);
                false
            }
            ("result", RESULT_PROGRESS) => self.progress(line.id, number(0), number(1)),
            ("result", RESULT_EXPECTED) if number(0) == u64::from(COPY_PATH) => {
                self.expected.bytes = number(1);
                false
            }
            ("stop", _) => {
                self.done.bytes += self.copying.remove(&line.id).unwrap_or(0);
                false
            }
            ("msg", _) if line.level <= LOUD || line.msg.contains("don't know how to build") => {
                self.message(&line.msg);
                false
            }
            _ => false,
        }
    }

    fn progress(&mut self, id: u64, done: u64, expected: u64) -> bool {
        if let Some(bytes) = self.copying.get_mut(&id) {
            let forward = done > *bytes;
            *bytes = done;
            return forward;
        }
        if self.counting == Some(id) {
            (self.done.paths, self.expected.paths) = (done, expected);
        }
        false
    }

    fn message(&mut self, text: &str) {
        let text = one_line(text);
        // We make the profile, which is a root, as soon as Nix is done.
        if text.is_empty() || text.contains("--add-root") {
            return;
        }
        if self.messages.len() == MOST_MESSAGES {
            self.messages.remove(0);
        }
        self.messages.push(text);
    }
}

/// Without colour codes, and on one line.
fn one_line(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                let _ = chars.by_ref().find(|c| c.is_ascii_alphabetic());
            }
            c if c.is_whitespace() && plain.ends_with(' ') => {}
            c if c.is_whitespace() => plain.push(' '),
            c if !c.is_control() => plain.push(c),
            _ => {}
        }
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_of_nix_2_8() {
        let mut log = Log::default();
        for line in [
            r#"@nix {"action":"start","id":1,"level":0,"text":"","type":102}"#,
            r#"@nix {"action":"start","id":3,"level":0,"text":"","type":103}"#,
            r#"@nix {"action":"result","fields":[0,2,1,0],"id":3,"type":105}"#,
            r#"@nix {"action":"result","fields":[100,4000],"id":1,"type":106}"#,
            r#"@nix {"action":"result","fields":[101,900],"id":1,"type":106}"#,
            r#"@nix {"action":"start","fields":["/nix/store/x","http://s","local"],"id":9,"level":3,"text":"copying","type":100}"#,
            r#"@nix {"action":"result","fields":[1000,1500,0,0],"id":9,"type":105}"#,
        ] {
            log.line(line);
        }
        assert_eq!(log.copying.get(&9), Some(&1000));
        assert_eq!((log.expected.paths, log.expected.bytes), (2, 4000));
        log.line(r#"@nix {"action":"result","fields":[1500,1500,0,0],"id":9,"type":105}"#);
        log.line(r#"@nix {"action":"stop","id":9}"#);
        log.line(r#"@nix {"action":"result","fields":[1,2,1,0],"id":3,"type":105}"#);
        assert_eq!((log.done.paths, log.done.bytes), (1, 1500));
    }

    #[test]
    fn messages_are_kept_without_colours_and_without_noise() {
        let mut log = Log::default();
        for line in [
            r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m hash mismatch importing path '\u001b[35;1m/nix/store/x\u001b[0m';\n         got: y"}"#,
            r#"@nix {"action":"msg","level":3,"msg":"these 31 paths will be fetched"}"#,
            r#"@nix {"action":"msg","level":1,"msg":"warning: you did not specify '--add-root'; the result might be removed"}"#,
            "nix-store: error while loading shared libraries: libfoo.so",
            "@nix not json",
        ] {
            log.line(line);
        }
        assert_eq!(
            log.messages,
            [
                "error: hash mismatch importing path '/nix/store/x'; got: y",
                "nix-store: error while loading shared libraries: libfoo.so"
            ]
        );
    }
}
