//! A reader of iPXE scripts that does what iPXE's shell does (src/core/exec.c, src/image/script.c): lines joined by a final
//! backslash, words split at blanks, commands ended by `&&`, `||`, `;` or a word that begins with `#`, and only then `${}` expanded.

/// One command: its name and words, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) words: Vec<String>,
}

/// What a script says, in the order of its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) labels: Vec<String>,
    pub(crate) commands: Vec<Command>,
    /// Settings that were expanded and that the script itself did not set.
    pub(crate) expanded: Vec<String>,
}

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.starts_with("#!ipxe\n"), "no script");
        let mut read = Self::default();
        let joined = text.replace("\\\n", "");
        for line in joined.lines() {
            let mut line = line.trim();
            if let Some(label) = line.strip_prefix(':') {
                let (label, rest) = label.split_once(' ').unwrap_or((label, ""));
                read.labels.push(label.to_owned());
                line = rest;
            }
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let words = words.iter().position(|word| word.starts_with('#')).map_or(&words[..], |at| &words[..at]);
            for command in words.split(|word| matches!(*word, "&&" | "||" | ";")) {
                read.command(command);
            }
        }
        read
    }

    /// The commands of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Command> {
        self.commands.iter().filter(move |command| command.name == name)
    }

    fn command(&mut self, words: &[&str]) {
        let Some((name, words)) = words.split_first() else { return };
        let words: Vec<String> = words.iter().map(|word| self.expand(word)).collect();
        assert!(words.len() <= 255, "iPXE refuses so many words");
        self.commands.push(Command { name: (*name).to_owned(), words });
    }

    fn expand(&mut self, word: &str) -> String {
        let mut word = word.to_owned();
        // The first `}` and the last `${` before it, again and again.
        while let Some((start, end)) = innermost(&word) {
            let name = word[start + 2..end].to_owned();
            let value = if name == "pad:string" { " ".to_owned() } else { format!("<{name}>") };
            if name != "pad:string" {
                self.expanded.push(name);
            }
            word.replace_range(start..=end, &value);
        }
        word
    }
}

fn innermost(word: &str) -> Option<(usize, usize)> {
    let first = word.find("${")?;
    let end = first + word[first..].find('}')?;
    Some((word[..end].rfind("${")?, end))
}

impl Command {
    /// The words after the options and their arguments, joined as iPXE joins them.
    pub(crate) fn text(&self, from: usize) -> String {
        self.words[from..].join(" ")
    }
}
