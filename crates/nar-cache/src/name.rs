//! From a URL's path to a served name.

use crate::refusal::Refusal;

/// Decodes the percent-encoding of a URL's path. Which names there are is the business of the table of served names.
///
/// An encoded slash is refused: whether it separates would be guessed differently by every proxy in between.
pub(crate) fn decode(path: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let byte = match (first, rest) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                hex(*high)? << 4 | hex(*low)?
            }
            (b'%', _) => return Err(Refusal::Url),
            (plain, _) => *plain,
        };
        if byte.is_ascii_control() || (*first == b'%' && byte == b'/') {
            return Err(Refusal::Url);
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::Url)
}

fn hex(digit: u8) -> Result<u8, Refusal> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(Refusal::Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_or_refuses() {
        for (path, name) in [
            ("/", Some("/")),
            ("/nix-cache-info", Some("/nix-cache-info")),
            ("//boot.ipxe", Some("//boot.ipxe")),
            ("/a%2Bb+c%3f", Some("/a+b+c?")),
            ("/%2e%2e/%2E.", Some("/../..")),
            ("/%c3%a9", Some("/é")),
            ("/a%2fb", None),
            ("/a%00", None),
            ("/a%0d%0aX", None),
            ("/a%7f", None),
            ("/%", None),
            ("/%2", None),
            ("/%+1", None),
            ("/%gg", None),
            ("/%ff", None),
        ] {
            assert_eq!(decode(path).ok().as_deref(), name, "{path}");
        }
    }
}
