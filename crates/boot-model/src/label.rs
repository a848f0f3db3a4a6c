use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;

/// The longest label, in characters. A menu shows about 75 columns; the rest is kept for `rookery show`.
const MAX_CHARS: usize = 200;

/// A text for people: one line without control characters, at most 200 characters. What a loader cannot show or would
/// misread is the renderer's business; what no line of text may hold is refused here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

/// The text is no label.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidLabel {
    /// A line break, an escape or another control character stands in it.
    #[error("the label {text:?} holds the control character U+{code:04X}; remove it (system.nixos.label in NixOS)")]
    Control {
        /// The refused label.
        text: String,
        /// The character's number.
        code: u32,
    },
    /// It is longer than a label may be.
    #[error("the label has {0} characters, at most {MAX_CHARS} fit; shorten it (system.nixos.label in NixOS)")]
    TooLong(usize),
    /// Nothing, or only blanks.
    #[error("the label is empty")]
    Empty,
}

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        if text.trim().is_empty() {
            return Err(InvalidLabel::Empty);
        }
        // U+2028 and U+2029 are line breaks that `is_control` does not count; U+202E and its kin turn the line around.
        let forbidden = |c: &char| {
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        if let Some(c) = text.chars().find(forbidden) {
            return Err(InvalidLabel::Control { text: text.to_owned(), code: c as u32 });
        }
        match text.chars().count() {
            n if n > MAX_CHARS => Err(InvalidLabel::TooLong(n)),
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

serde_as_text!(Label);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_without_control_characters() {
        assert!("NixOS 26.05 (Linux 6.12.58) – Zürich".parse::<Label>().is_ok());
        for bad in ["", "  ", "a\nLABEL evil", "a\rb", "a\u{1b}[2J", "a\0", "a\u{2028}b", "a\u{202e}b"] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
        assert_eq!("x".repeat(201).parse::<Label>(), Err(InvalidLabel::TooLong(201)));
    }
}
