use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;

/// The text is no name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct InvalidName {
    text: String,
    what: &'static str,
    rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Box<str>);

        impl $type {
            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&[u8]) -> bool = $valid;
                if text.is_empty() || text.len() > $max || !valid(text.as_bytes()) {
                    return Err(InvalidName { text: text.to_owned(), what: $what, rule: $rule });
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        serde_as_text!($type);
    };
}

name_type!(
    /// A kind of machine: it names a folder, a URL part, a menu title and a Nix profile, so it is at most 32 lower-case letters,
    /// digits and hyphens, and begins with a letter.
    RoleName,
    "role name",
    32,
    "use 1 to 32 lower-case letters, digits and hyphens, a letter first and no hyphen last",
    |bytes| bytes[0].is_ascii_lowercase() && label(bytes)
);

name_type!(
    /// A host name of one label (RFC 1123 §2.1): at most 63 lower-case letters, digits and hyphens.
    HostName,
    "host name",
    63,
    "use 1 to 63 lower-case letters, digits and hyphens, no hyphen first or last",
    |bytes| bytes[0] != b'-' && label(bytes)
);

name_type!(
    /// The name of a NixOS specialisation: an attribute name that is safe in a menu, a URL and a path.
    SpecialisationName,
    "specialisation name",
    64,
    "use 1 to 64 letters, digits, '.', '_' and hyphens, a letter or digit first",
    |bytes| bytes[0].is_ascii_alphanumeric() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
);

fn label(bytes: &[u8]) -> bool {
    bytes.last() != Some(&b'-') && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_are_safe_everywhere() {
        for good in ["lab", "lab-2", "a", "x86-cluster"] {
            assert_eq!(good.parse::<RoleName>().unwrap().as_str(), good);
        }
        for bad in ["", "Lab", "2lab", "lab-", "../x", "lab/x", "lab x", "läb", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(bad.parse::<RoleName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_and_specialisation_names() {
        assert!("7pc".parse::<HostName>().is_ok());
        assert!("pc.lab".parse::<HostName>().is_err());
        assert!("Gaming_2.0".parse::<SpecialisationName>().is_ok());
        for bad in [".hidden", "a/b", "a b", "a\nb"] {
            assert!(bad.parse::<SpecialisationName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_refuses_what_the_parser_refuses() {
        assert_eq!(serde_json::from_str::<RoleName>("\"lab\"").unwrap().as_str(), "lab");
        let error = serde_json::from_str::<RoleName>("\"../x\"").unwrap_err().to_string();
        assert!(error.contains("is no role name: use 1 to 32"), "{error}");
    }
}
