//! Whether an `append-initrd-secrets` script would append anything.
//!
//! NixOS writes the script for every system with an initrd; where no `boot.initrd.secrets` are set, it ends with `exit 0`
//! before it touches a file. Publishing runs nothing of the published system, so the script is read, not run, and only what
//! plainly does nothing is accepted: secrets in an initrd that every machine of the room may download are secrets no more.

/// True if the script ends, or runs out of lines, before its first command that could have an effect.
///
/// Up to there only definitions of functions and `if [ … ]` blocks may stand, with nothing in them but messages to stderr, a
/// call of `usage`, and exits.
pub(crate) fn appends_nothing(script: &str) -> bool {
    let mut depth = 0_usize;
    for line in script.lines().map(str::trim) {
        let opens = line.starts_with("function ") && line.ends_with('{') || is_test(line);
        match line {
            _ if line.is_empty() || line.starts_with('#') => {}
            "exit 0" if depth == 0 => return true,
            _ if opens => depth += 1,
            "fi" | "}" if depth > 0 => depth -= 1,
            "usage" | "exit 0" | "exit 1" if depth > 0 => {}
            _ if depth > 0 && is_message(line) => {}
            _ => return false,
        }
    }
    true
}

/// `if [ … ]; then` and nothing beside it.
fn is_test(line: &str) -> bool {
    let inside = line.strip_prefix("if [ ").and_then(|rest| rest.strip_suffix(" ]; then"));
    inside.is_some_and(|test| !test.contains(['`', '(', ';', '|', '&', '<', '>']))
}

/// `echo "…" >&2`, with no command substituted in it.
fn is_message(line: &str) -> bool {
    let text = line.strip_prefix("echo \"").and_then(|rest| rest.strip_suffix("\" >&2"));
    text.is_some_and(|text| !text.contains(['`', '(', '"', '|']))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The beginning that NixOS gives the script (nixos/modules/system/boot/stage-1.nix).
    const HEAD: &str = r#"#!/nix/store/00000000000000000000000000000000-bash/bin/bash -e
function usage {
  echo "USAGE: $0 INITRD_FILE" >&2
  echo "Appends this configuration's secrets to INITRD_FILE" >&2
}

if [ $# -ne 1 ]; then
  usage
  exit 1
fi

if [ "$1"x = "--helpx" ]; then
  usage
  exit 0
fi

"#;
    const BODY: &str = "export PATH=/nix/store/x/bin\ncp -a /etc/secret \"$tmp\"\n";

    #[test]
    fn without_secrets_the_script_ends_before_its_work() {
        assert!(appends_nothing(&format!("{HEAD}exit 0\n{BODY}")));
        assert!(appends_nothing(HEAD));
        assert!(appends_nothing("#!/bin/sh\n"));
    }

    #[test]
    fn with_secrets_or_anything_unknown_it_does_not() {
        assert!(!appends_nothing(&format!("{HEAD}\n{BODY}exit 0\n")));
        for line in ["exit 1", "cat s >> \"$1\"", "if cp s \"$1\"; then", "if [ $(cp s \"$1\") ]; then", "x; exit 0"] {
            assert!(!appends_nothing(&format!("{HEAD}{line}\nexit 0\n")), "{line}");
        }
        assert!(!appends_nothing(&HEAD.replace("\" >&2", "\" >> \"$1\"")));
    }
}
