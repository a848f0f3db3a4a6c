//! A reader of pxelinux configurations that does what syslinux's own does (com32/menu/readconfig.c): a line is at most 4095 bytes,
//! the rest of a longer one is the next line; keywords fold case; a value is the rest of its line.

/// What a configuration says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) title: String,
    pub(crate) timeout: Option<u32>,
    /// The words behind SERIAL.
    pub(crate) serial: Option<String>,
    pub(crate) no_escape: bool,
    /// Every entry in order, those of submenus too.
    pub(crate) entries: Vec<Entry>,
    /// The labels of submenus.
    pub(crate) submenus: Vec<String>,
    /// Lines that a reader would skip, and directives that stand where they mean nothing.
    pub(crate) astray: Vec<String>,
    /// Whether the last entry still takes directives.
    open: bool,
    depth: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) indent: usize,
    pub(crate) default: bool,
    pub(crate) disabled: bool,
    pub(crate) kernel: Option<String>,
    pub(crate) initrd: Option<String>,
    pub(crate) append: Option<String>,
    pub(crate) local: bool,
    pub(crate) back: bool,
    pub(crate) help: Vec<String>,
}

impl Configuration {
    pub(crate) fn parse(text: &str) -> Self {
        let mut read = Self::default();
        let mut lines = physical_lines(text).into_iter();
        while let Some(line) = lines.next() {
            let (keyword, value) = word(&line);
            match (keyword.as_str(), read.current()) {
                ("" | "#" | "ui" | "prompt" | "allowoptions", _) => {}
                ("serial", None) => set(&mut read.serial, value),
                ("noescape", None) => read.no_escape = value == "1",
                ("timeout", None) => read.timeout = Some(value.parse().unwrap()),
                ("label", _) => {
                    read.entries.push(Entry { id: value.to_owned(), ..Entry::default() });
                    read.open = true;
                }
                ("ipappend", Some(_)) => assert_eq!(value, "2"),
                ("kernel" | "linux" | "com32", Some(entry)) => set(&mut entry.kernel, value),
                ("initrd", Some(entry)) => set(&mut entry.initrd, value),
                ("append", Some(entry)) => set(&mut entry.append, value),
                ("localboot", Some(entry)) => entry.local = true,
                ("text", Some(entry)) => {
                    let help = lines.by_ref().take_while(|line| word(line).0 != "endtext");
                    entry.help = help.map(|line| line.trim().to_owned()).collect();
                }
                ("menu", _) => read.menu(value),
                _ => read.astray.push(line),
            }
        }
        assert_eq!(read.depth, 0, "a submenu is not closed");
        read
    }

    fn menu(&mut self, rest: &str) {
        let (keyword, value) = word(rest);
        let depth = self.depth;
        match (keyword.as_str(), self.current()) {
            ("begin", _) => (self.open, self.depth) = (false, depth + 1),
            ("end", _) => (self.open, self.depth) = (false, depth - 1),
            ("separator", _) => self.open = false,
            ("title", _) if depth == 0 => self.title = value.to_owned(),
            ("title", _) => {}
            ("label", Some(entry)) => entry.label = value.to_owned(),
            ("label", None) if depth > 0 => self.submenus.push(value.to_owned()),
            ("indent", Some(entry)) => entry.indent = value.parse().unwrap(),
            ("default", Some(entry)) => entry.default = true,
            ("disable", Some(entry)) => entry.disabled = true,
            ("exit", Some(entry)) => entry.back = true,
            (
                "resolution" | "background" | "width" | "margin" | "vshift" | "rows" | "tabmsgrow" | "timeoutrow"
                | "helpmsgrow" | "helpmsgendrow" | "color" | "notabmsg" | "autoboot" | "clear",
                None,
            ) => {}
            _ => self.astray.push(format!("menu {rest}")),
        }
    }

    fn current(&mut self) -> Option<&mut Entry> {
        if self.open { self.entries.last_mut() } else { None }
    }
}

fn set(field: &mut Option<String>, value: &str) {
    assert_eq!(field.replace(value.to_owned()), None, "said twice");
}

/// fgets with a buffer of 4096 bytes; leading blanks are skipped.
fn physical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split(['\n']) {
        let chunks = line.as_bytes().chunks(4095).map(String::from_utf8_lossy);
        lines.extend(chunks.map(|chunk| chunk.split('\r').next().unwrap_or_default().trim_start().to_owned()));
    }
    lines
}

fn word(text: &str) -> (String, &str) {
    let (word, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
    (word.to_ascii_lowercase(), rest.trim_start())
}
