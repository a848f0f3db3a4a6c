use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong with the configuration: `rookery.toml:14: subnet.pools: <what, and what to change>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    /// Counted from 1; `None` where the file could not be read at all.
    line: Option<usize>,
    key: Option<String>,
    message: String,
}

/// A file whose text is at hand, to say where in it something stands.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

impl ConfigError {
    pub(crate) fn read(file: &Path, error: &io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such file; name one with --config, or start from deploy/rookery.example.toml".to_owned()
            }
            _ => format!("cannot read it: {error}"),
        };
        Self { file: file.to_owned(), line: None, key: None, message }
    }

    pub(crate) fn toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let source = Source { file, text };
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        match error.span() {
            Some(Range { start, .. }) => source.error(start, message),
            None => Self { file: file.to_owned(), line: None, key: None, message },
        }
    }
}

impl Source<'_> {
    /// An error at the value that begins at this byte.
    pub(crate) fn error(&self, offset: usize, message: impl Into<String>) -> ConfigError {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        ConfigError {
            file: self.file.to_owned(),
            line: Some(before.matches('\n').count() + 1),
            key: self.key(before.len()),
            message: message.into(),
        }
    }

    /// The key whose value stands at `offset`, with its table: read off the text, since a deserialised value has lost it.
    fn key(&self, offset: usize) -> Option<String> {
        let lines = self.text[..offset].lines().count().max(1);
        let ends_line = self.text[..offset].ends_with('\n');
        let at = if ends_line { lines } else { lines - 1 };
        let above: Vec<&str> = self.text.lines().take(at + 1).collect();
        let header = |line: &&&str| line.trim_start().starts_with('[') && !line.contains('=');
        let table = above.iter().rev().find(header).map(|line| line.trim().trim_matches(['[', ']']).trim());
        let code =
            above.iter().rev().take_while(|line| !header(line)).filter(|line| !line.trim_start().starts_with('#'));
        let key = code.filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim()).next();
        match (table, key) {
            (Some(table), Some(key)) => Some(format!("{table}.{key}")),
            (one, other) => one.or(other).map(str::to_owned),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}
