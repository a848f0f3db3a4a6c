//! A reader of GRUB scripts that splits them as GRUB's lexer does (grub-core/script/yylex.l): words at blanks, commands at line ends and
//! `;`, blocks in braces, single quotes around what stands for itself, `\` before one character that does.

/// What a script says, blocks of entries among it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// Every command with its words, in order, those in blocks too.
    pub(crate) commands: Vec<Vec<String>>,
    /// Variables that would be expanded.
    pub(crate) expanded: Vec<String>,
}

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        let mut read = Self::default();
        let mut words: Vec<String> = Vec::new();
        let mut word: Option<String> = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
                ' ' | '\t' => words.extend(word.take()),
                '\n' | ';' | '{' | '}' | '&' | '|' | '<' | '>' => {
                    words.extend(word.take());
                    read.end(&mut words);
                }
                '\'' => {
                    let quoted = word.get_or_insert_default();
                    loop {
                        match chars.next().expect("a quotation is not closed") {
                            '\'' => break,
                            c => quoted.push(c),
                        }
                    }
                }
                '\\' => word.get_or_insert_default().extend(chars.next()),
                '$' => {
                    let mut name = String::new();
                    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                    word.get_or_insert_default().push_str(&format!("<{name}>"));
                    read.expanded.push(name);
                }
                '"' => panic!("no text stands in double quotes, which expand"),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        read.end(&mut words);
        read
    }

    /// The commands of this name, their words without it.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [String]> {
        self.commands.iter().filter(move |words| words[0] == name).map(|words| &words[1..])
    }

    fn end(&mut self, words: &mut Vec<String>) {
        // `if`, `then`, `else` and `do` stand before a command.
        let skipped = words.iter().take_while(|word| matches!(word.as_str(), "if" | "then" | "else" | "do")).count();
        let command: Vec<String> = words.drain(..).skip(skipped).collect();
        if !command.is_empty() {
            self.commands.push(command);
        }
    }
}
