//! What a serial console prints, as plain lines.

/// Turns a byte stream with terminal escape sequences into text lines.
///
/// Escape sequences vanish; those that move the cursor to another line end the current one, because firmware paints its
/// screen with them and never sends a newline. A carriage return begins the line anew, as on a terminal.
#[derive(Debug, Default)]
pub struct Console {
    state: State,
    line: Vec<u8>,
    returned: bool,
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
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']') => State::Title,
            (State::Escape, b'(' | b')' | b'#' | b'%') => State::Charset,
            (State::Control, b'H' | b'f') => {
                self.end_line(lines);
                State::Text
            }
            (State::Control, b'@'..=b'~') => State::Text,
            (State::Control, _) => State::Control,
            (State::Title, 0x07) => State::Text,
            (State::Title, 0x1b) => State::Escape,
            (State::Title, _) => State::Title,
            (State::Escape | State::Charset, _) => State::Text,
        };
    }

    fn text(&mut self, byte: u8, lines: &mut Vec<String>) {
        match byte {
            b'\n' => self.end_line(lines),
            b'\r' => self.returned = true,
            b'\t' | 0x20..=0x7e | 0x80.. => {
                if self.returned {
                    // Progress overwrites itself: the earlier state is worth a line too.
                    self.end_line(lines);
                }
                self.line.push(byte);
                if self.line.len() >= LONGEST_LINE {
                    self.end_line(lines);
                }
            }
            _ => {}
        }
    }

    fn end_line(&mut self, lines: &mut Vec<String>) {
        self.returned = false;
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
    fn progress_that_overwrites_itself_is_kept_line_by_line() {
        assert_eq!(Console::default().feed(b"1 %\r2 %\r\n"), ["1 %", "2 %"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        assert_eq!(Console::default().feed(&[b'x'; 10_000]).len(), 2);
    }
}
