//! The name of a file as a client writes it, made harmless.

use std::fmt;

/// The file name of a request: a relative path without `.`, `..`, empty components, NUL or `\`.
///
/// Bytes, not text: shim 15.8 asks for names such as `loader/<0xff>Onboard` (rhboot/shim#649), and a name that can't
/// be found has to be answered like any other. Loaders write `\EFI\x`, `//x`, `./x` and `/x` for the same file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileName(Vec<u8>);

/// Why the bytes of a request name no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left once separators and `.` are taken away.
    #[error("the file name is empty")]
    Empty,
    /// A `..` component, which no boot loader needs.
    #[error("the file name contains a `..` component")]
    ParentDirectory,
    /// A NUL byte, which would end the name on the wire.
    #[error("the file name contains a NUL byte")]
    Nul,
}

impl FileName {
    /// Normalises the bytes of a request.
    ///
    /// # Errors
    /// If nothing is left of the name, or it has a `..` component or a NUL.
    pub fn parse(raw: &[u8]) -> Result<Self, NameError> {
        let mut name = Vec::with_capacity(raw.len());
        for component in raw.split(|&byte| byte == b'/' || byte == b'\\') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(NameError::ParentDirectory),
                _ if component.contains(&0) => return Err(NameError::Nul),
                _ => {}
            }
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(component);
        }
        if name.is_empty() { Err(NameError::Empty) } else { Ok(Self(name)) }
    }

    /// The normalised name: components joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The normalised name as text, if it is UTF-8. Every served name is, so `None` means "not found".
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// Printable whatever the client sent: bytes outside of printable ASCII are escaped.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileName({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_path_is_one_name() {
        for raw in [
            "boot/lpxelinux.0",
            "/boot/lpxelinux.0",
            "//boot//lpxelinux.0",
            "./boot/./lpxelinux.0",
            "\\boot\\lpxelinux.0",
        ] {
            assert_eq!(FileName::parse(raw.as_bytes()).unwrap().as_str(), Some("boot/lpxelinux.0"), "{raw}");
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let cases: [(&[u8], NameError); 7] = [
            (b"", NameError::Empty),
            (b"/", NameError::Empty),
            (b"./.", NameError::Empty),
            (b"..", NameError::ParentDirectory),
            (b"boot/../../etc/shadow", NameError::ParentDirectory),
            (b"boot\\..\\..\\secret", NameError::ParentDirectory),
            (b"a\0b", NameError::Nul),
        ];
        for (raw, error) in cases {
            assert_eq!(FileName::parse(raw), Err(error), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn dots_inside_a_component_are_letters() {
        assert_eq!(FileName::parse(b"a..b/...").unwrap().as_str(), Some("a..b/..."));
    }

    /// rhboot/shim#649.
    #[test]
    fn garbage_of_shim_is_a_name_that_can_be_printed() {
        let name = FileName::parse(b"loader/\xffOnboard\n").unwrap();
        assert_eq!(name.as_str(), None);
        assert_eq!(name.to_string(), "loader/\\xffOnboard\\n");
    }
}
