//! The README's chapter "Serve a real room", as commands that can be run.

use crate::{Error, Result};

/// What the chapter tells the reader to do.
pub(super) struct Chapter {
    /// The lines of its shell blocks, in order; the build, which happened before, left out.
    pub(super) commands: Vec<String>,
    /// Its `rookery.toml`.
    pub(super) configuration: String,
}

const TITLE: &str = "## Serve a real room";
/// What integration/setup did before, with more flags.
const BUILD: &str = "cargo build --release";
const INSTALL: &str = "apt-get install ";

impl Chapter {
    /// Reads it out of the README.
    pub(super) fn parse(readme: &str) -> Result<Self> {
        let chapter = readme.split_once(TITLE).map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
        let chapter = chapter.ok_or_else(|| Error::Wrong(format!("the README has no chapter {TITLE:?}")))?;
        let mut commands = blocks(chapter, "sh");
        let configuration = blocks(chapter, "toml").join("\n");
        match commands.iter().position(|line| line == BUILD) {
            Some(0) => commands.remove(0),
            _ => return Err(Error::Wrong(format!("the README's first command is not `{BUILD}` any more"))),
        };
        Ok(Self { commands, configuration })
    }

    /// The Debian packages that it has installed.
    pub(super) fn packages(&self) -> Vec<&str> {
        let lines = self.commands.iter().filter_map(|line| line.strip_prefix(INSTALL));
        lines.flat_map(str::split_whitespace).collect()
    }
}

/// The shell blocks of a document, each a script.
pub(super) fn scripts(document: &str) -> Vec<&str> {
    let blocks = document.split("```sh\n").skip(1);
    blocks.filter_map(|rest| rest.split_once("```").map(|(script, _)| script)).collect()
}

/// The lines of all fenced blocks in this language, without the list's indentation.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        match line {
            "```" => inside = false,
            _ if line == fence => inside = true,
            _ if inside && !line.is_empty() => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_configuration_of_the_chapter_only() {
        let readme = "# R\n```sh\nintegration/demo\n```\n## Serve a real room\n1. Do\n\n   ```sh\n   cargo build --release\n   \
                      apt-get install a b\n   ```\n2. Write\n   ```toml\n   [[role]]\n   name = \"x\"\n   ```\n## What\n```sh\nno\n```\n";
        let chapter = Chapter::parse(readme).unwrap();
        assert_eq!(chapter.commands, ["apt-get install a b"]);
        assert_eq!(chapter.packages(), ["a", "b"]);
        assert_eq!(chapter.configuration, "[[role]]\nname = \"x\"");
    }

    #[test]
    fn scripts_with_their_lines() {
        assert_eq!(
            scripts("a\n```sh\none \\\n  two\n```\nb\n```\nnone\n```\n```sh\nthree\n```\n"),
            ["one \\\n  two\n", "three\n"]
        );
    }
}
