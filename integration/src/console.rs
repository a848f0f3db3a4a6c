//! What a serial console prints, as plain lines.

/// Turns a byte stream with terminal escape sequences into text lines.
///
/// Escape sequences vanish; those that move the cursor to another place end the current line, because firmware paints its
/// screen with them and never sends a newline. A carriage return begins the line anew, as on a terminal.
#[derive(Debug, Default)]
pub struct Console {
    state: State,
    line: Vec<u8>,
    returned: bool,
    /// What a control sequence said so far.
    parameters: Vec<u8>,
    cursor: Cursor,
    /// The column behind the line's last character, as far as it is known.
    end: Option<u32>,
}

/// Where the next character goes, as far as the client has said.
#[derive(Debug, Default)]
struct Cursor {
    /// Unknown after a newline, which may have scrolled.
    row: Option<u32>,
    column: Option<u32>,
}

impl Cursor {
    /// Whether `ESC [ row ; column H` keeps to its row. A BIOS goes back and forth there in the middle of a word.
    fn stays_in_row(&self, row: u32, column: u32) -> bool {
        column > 1 && self.column.is_some() && self.row.is_none_or(|own| own == row)
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// After `ESC [`, until a byte from `@` to `~`.
    Control,
    /// After `ESC ]`, until BEL or `ESC \`.
    Title,
    /// After `ESC (` and its kin: one more byte.
    Charset,
}

/// No line of a client may fill the memory.
const LONGEST_LINE: usize = 4096;
/// Nor a control sequence that never ends.
const LONGEST_PARAMETERS: usize = 32;

impl Console {
    /// Takes the next bytes and returns the lines that they completed.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            self.take(byte, &mut lines);
        }
        lines
    }

    /// The line that has begun and not ended: a prompt, for example.
    pub fn partial(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    fn take(&mut self, byte: u8, lines: &mut Vec<String>) {
        self.state = match (self.state, byte) {
            (State::Text, 0x1b) => State::Escape,
            (State::Text, _) => {
                self.text(byte, lines);
                State::Text
            }
            (State::Escape, b'[') => {
                self.parameters.clear();
                State::Control
            }
            (State::Escape, b']') => State::Title,
            (State::Escape, b'(' | b')' | b'#' | b'%') => State::Charset,
            (State::Control, b'H' | b'f') => {
                self.place(lines);
                State::Text
            }
            (State::Control, b'@'..=b'~') => State::Text,
            (State::Control, _) => {
                if self.parameters.len() < LONGEST_PARAMETERS {
                    self.parameters.push(byte);
                }
                State::Control
            }
            (State::Title, 0x07) => State::Text,
            (State::Title, 0x1b) => State::Escape,
            (State::Title, _) => State::Title,
            (State::Escape | State::Charset, _) => State::Text,
        };
    }

    fn place(&mut self, lines: &mut Vec<String>) {
        let text = String::from_utf8_lossy(&self.parameters).into_owned();
        let mut numbers = text.split(';').map(|number| number.parse().unwrap_or(1));
        let (row, column) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
        if !self.cursor.stays_in_row(row, column) {
            self.end_line(lines);
        }
        self.cursor = Cursor { row: Some(row), column: Some(column) };
    }

    fn text(&mut self, byte: u8, lines: &mut Vec<String>) {
        match byte {
            b'\n' => {
                self.end_line(lines);
                self.cursor = Cursor { row: None, column: Some(1) };
            }
            b'\r' => {
                self.returned = true;
                self.cursor.column = Some(1);
            }
            b'\t' | 0x20..=0x7e | 0x80.. => self.print(byte, lines),
            _ => {}
        }
    }

    fn print(&mut self, byte: u8, lines: &mut Vec<String>) {
        let elsewhere = self.end.is_some() && self.cursor.column.is_some() && self.end != self.cursor.column;
        // Progress overwrites itself: the earlier state is worth a line too.
        if self.returned || elsewhere {
            self.end_line(lines);
        }
        self.line.push(byte);
        self.cursor.column = self.cursor.column.filter(|_| byte != b'\t').map(|column| column.saturating_add(1));
        self.end = self.cursor.column;
        if self.line.len() >= LONGEST_LINE {
            self.end_line(lines);
        }
    }

    fn end_line(&mut self, lines: &mut Vec<String>) {
        self.returned = false;
        self.end = None;
        let text = self.partial();
        self.line.clear();
        if !text.trim().is_empty() {
            lines.push(text.trim_end().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Console;

    #[test]
    fn escapes_vanish_and_prompts_stay() {
        let mut console = Console::default();
        let lines = console.feed(b"\x1b[0;1mhello\x1b[0m\r\n\x1b]0;title\x07\x1b(Bnode login: ");
        assert_eq!(lines, ["hello"]);
        assert_eq!(console.partial(), "node login: ");
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let whole = b"a\x1b[31mb\x1b]2;x\x1b\\c\r\nd\x1b[2;1He\n";
        for cut in 0..whole.len() {
            let mut console = Console::default();
            let mut lines = console.feed(&whole[..cut]);
            lines.extend(console.feed(&whole[cut..]));
            assert_eq!(lines, ["abc", "d", "e"], "cut at {cut}");
        }
    }

    #[test]
    fn a_cursor_that_comes_back_ends_no_line() {
        let mut console = Console::default();
        assert_eq!(console.feed(b"\r\nits con\x1b[7;8Hfiguration\x1b[7;18H\r\n"), ["its configuration"]);
        assert_eq!(console.feed(b"its conf\x1b[7;8H\x1b[7;9Higuration\r\n"), ["its configuration"]);
        assert_eq!(console.feed(b"\x1b[3;1Hab\x1b[4;3Hcd\x1b[4;1Hef\x1b[4;9Hg\n"), ["ab", "cd", "ef", "g"]);
    }

    #[test]
    fn progress_that_overwrites_itself_is_kept_line_by_line() {
        assert_eq!(Console::default().feed(b"1 %\r2 %\r\n"), ["1 %", "2 %"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        assert_eq!(Console::default().feed(&[b'x'; 10_000]).len(), 2);
    }
}
