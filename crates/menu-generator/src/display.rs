//! Texts that a menu only shows, made of the characters that every loader's console has.

/// The widest label, in columns of 80: what iPXE leaves beside a countdown of three digits (src/hci/tui/menu_ui.c: 74, and `(300)`), and
/// pxelinux beside the frame that we give it. What is longer they cut, and the end of a line is where a default and a
/// specialisation are named.
pub(crate) const COLUMNS: usize = 68;

/// Folds a text to printable ASCII, at most `columns` long, with blanks only inside. `avoid` are characters that this loader would
/// not just show, each with what stands for it; the substitute may be empty.
pub(crate) fn fold(text: &str, avoid: &[(char, &str)], columns: usize) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match avoid.iter().find(|(avoided, _)| *avoided == c) {
            Some((_, substitute)) => folded.push_str(substitute),
            None => fold_char(c, &mut folded),
        }
    }
    let folded = folded.trim();
    let cut = &folded[..folded.len().min(columns)];
    cut.trim_end().to_owned()
}

/// Latin letters lose their accents, punctuation its typography; what has no likeness in ASCII becomes a question mark.
fn fold_char(c: char, to: &mut String) {
    let likeness = match c {
        ' '..='~' => return to.push(c),
        c if c.is_control() || c.is_whitespace() => " ",
        'À'..='Å' => "A",
        'à'..='å' => "a",
        'Æ' => "AE",
        'æ' => "ae",
        'Ç' => "C",
        'ç' => "c",
        'È'..='Ë' => "E",
        'è'..='ë' => "e",
        'Ì'..='Ï' => "I",
        'ì'..='ï' => "i",
        'Ñ' => "N",
        'ñ' => "n",
        'Ò'..='Ö' | 'Ø' => "O",
        'ò'..='ö' | 'ø' => "o",
        'Ù'..='Ü' => "U",
        'ù'..='ü' => "u",
        'Ý' => "Y",
        'ý' | 'ÿ' => "y",
        'ß' => "ss",
        '\u{2010}'..='\u{2015}' => "-",
        '\u{2018}'..='\u{201b}' => "'",
        '\u{201c}'..='\u{201f}' | '«' | '»' => "\"",
        '…' => "...",
        '·' | '•' => "-",
        _ => "?",
    };
    to.push_str(likeness);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_printable_ascii() {
        for (text, folded) in [
            ("Zürich – Saal 3", "Zurich - Saal 3"),
            ("  a\u{a0}b  ", "a b"),
            ("\u{1f40d} нет", "? ???"),
            ("a\nb\u{1b}[2J", "a b [2J"),
            ("", ""),
        ] {
            assert_eq!(fold(text, &[], COLUMNS), folded);
        }
        assert_eq!(fold("a^b", &[('^', "")], COLUMNS), "ab");
        assert_eq!(fold(&"xy ".repeat(99), &[], 6), "xy xy");
        assert_eq!(fold("^ a", &[('^', "")], COLUMNS), "a");
    }
}
