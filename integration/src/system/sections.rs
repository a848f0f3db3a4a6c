//! The lists of `integration/system/`: lines of `SECTION: WORD...`, `#` begins a comment.

use std::collections::BTreeMap;

/// The words of each section, in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sections(BTreeMap<String, Vec<String>>);

impl Sections {
    /// Reads a list. `Err` holds the first line that has no section.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut sections = Self::default();
        for line in text.lines() {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let (section, words) = content.split_once(':').ok_or_else(|| line.to_owned())?;
            let words = words.split_whitespace().map(str::to_owned);
            sections.0.entry(section.trim().to_owned()).or_default().extend(words);
        }
        Ok(sections)
    }

    /// The words of one section; none if the file does not have it.
    pub(super) fn words(&self, section: &str) -> &[String] {
        self.0.get(section).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_section_are_joined_in_order() {
        let sections = Sections::parse("# a list\nb: x y # why\n\na: 1\nb: z\n").unwrap();
        assert_eq!(sections.words("b"), ["x", "y", "z"]);
        assert_eq!(sections.words("a"), ["1"]);
        assert!(sections.words("c").is_empty());
    }

    #[test]
    fn a_line_without_section_is_named() {
        assert_eq!(Sections::parse("a: 1\nstray\n"), Err("stray".to_owned()));
    }

    #[test]
    fn the_lists_in_the_repository_are_readable() {
        let packages = Sections::parse(include_str!("../../system/packages.txt")).unwrap();
        assert!(packages.words("system").contains(&"systemd".to_owned()));
        assert_eq!(packages.words("kernel").len(), 1);
        let modules = Sections::parse(include_str!("../../system/modules.txt")).unwrap();
        assert!(modules.words("initrd").contains(&"virtio_net".to_owned()));
    }
}
