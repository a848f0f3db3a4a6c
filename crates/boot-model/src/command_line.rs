use std::fmt;
use std::net::SocketAddrV4;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;
use crate::{EraseConsent, GenerationRef, generation::InitPath};

/// One parameter of the kernel: printable ASCII, blanks only between double quotes (the kernel's own quoting,
/// lib/cmdline.c), and none of the names that Rookery sets itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KernelParameter(Box<str>);

/// The text is no kernel parameter that a menu may carry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the kernel parameter {text:?} {rule}")]
pub struct InvalidParameter {
    text: String,
    rule: &'static str,
}

/// The whole command line of one menu entry for one server address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(String);

/// The parameters of an entry do not fit on the kernel's command line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the kernel command line would be {length} bytes long with what the loader adds, and the kernel cuts it after {} \
     (COMMAND_LINE_SIZE on x86 and arm64); shorten boot.kernelParams by {} bytes", CommandLine::LIMIT, length - CommandLine::LIMIT
)]
pub struct TooLong {
    /// Bytes with everything that a loader adds.
    pub length: usize,
}

const OURS: [&str; 8] = [
    "init",
    "initrd",
    "BOOTIF",
    "BOOT_IMAGE",
    "rookery.server",
    "rookery.generation",
    CommandLine::OFFLINE,
    EraseConsent::PARAMETER,
];

impl KernelParameter {
    /// The parameter as it stands on the command line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of those that only Rookery sets; whoever makes it answers for its being one word.
    pub(crate) fn ours(text: String) -> Self {
        Self(text.into())
    }
}

impl FromStr for KernelParameter {
    type Err = InvalidParameter;

    fn from_str(text: &str) -> Result<Self, InvalidParameter> {
        let invalid = |rule| Err(InvalidParameter { text: text.to_owned(), rule });
        if text.is_empty() {
            return invalid("is empty");
        }
        if !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return invalid("holds a control character or one beyond ASCII, which no loader passes on unharmed");
        }
        let mut quoted = false;
        for byte in text.bytes() {
            match byte {
                b'"' => quoted = !quoted,
                b' ' if !quoted => return invalid("holds a blank outside double quotes: give it as two parameters"),
                _ => {}
            }
        }
        if quoted {
            return invalid("has an odd number of double quotes");
        }
        // Some readers take off the outer double quotes only, as the kernel does, and some all of them.
        let unquoted = text.replace('"', "");
        if unquoted.split('=').next().is_some_and(|name| OURS.contains(&name)) {
            return invalid("is one that Rookery sets itself: remove it from boot.kernelParams");
        }
        if unquoted == "--" {
            return invalid("ends the kernel's own parameters, and what the loader adds must still be read");
        }
        Ok(Self(text.into()))
    }
}

impl CommandLine {
    /// The longest command line that x86 and arm64 kernels keep: COMMAND_LINE_SIZE is 2048 with the NUL.
    pub const LIMIT: usize = 2047;

    /// The parameter that names the generation that could not be had. No menu writes it: an agent does, when it starts another kernel
    /// because the server is gone.
    pub const OFFLINE: &str = "rookery.offline";

    /// Puts together what boots `init` of `generation` from `server`: `init=`, `rookery.server=`, `rookery.generation=`, then the
    /// entry's own parameters.
    ///
    /// What a loader adds counts too, or the line would be cut on the client and not here: pxelinux counts the kernel's URL and
    /// appends `initrd=` with the other and `BOOTIF=` (syslinux core/elflink/load_linux).
    pub fn new(
        init: &InitPath,
        generation: &GenerationRef,
        server: SocketAddrV4,
        parameters: &[KernelParameter],
    ) -> Result<Self, TooLong> {
        let mut line = format!("init={init} rookery.server={server} rookery.generation={generation}");
        for parameter in parameters {
            line.push(' ');
            line.push_str(parameter.as_str());
        }
        match line.len() + Self::loader_room(generation) {
            length if length > Self::LIMIT => Err(TooLong { length }),
            _ => Ok(Self(line)),
        }
    }

    /// Bytes that a loader adds at most, for the longest server address.
    fn loader_room(generation: &GenerationRef) -> usize {
        let digest = 64;
        let url = "http://255.255.255.255:65535/boot/".len() + generation.to_string().len() + 1 + digest;
        let bootif = " BOOTIF=01-52-54-00-77-00-01".len();
        url + " initrd=".len() + url + bootif
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KernelParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KernelParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(KernelParameter);

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos-system-lab-26.05/init";

    fn line(parameters: &[&str]) -> Result<CommandLine, TooLong> {
        let parameters: Vec<KernelParameter> = parameters.iter().map(|p| p.parse().unwrap()).collect();
        let generation = "lab/42-9f3k2xq1".parse().unwrap();
        CommandLine::new(&INIT.parse().unwrap(), &generation, "10.77.0.1:8080".parse().unwrap(), &parameters)
    }

    #[test]
    fn the_line_says_what_to_boot_and_from_where() {
        let expected =
            format!("init={INIT} rookery.server=10.77.0.1:8080 rookery.generation=lab/42-9f3k2xq1 quiet loglevel=4");
        assert_eq!(line(&["quiet", "loglevel=4"]).unwrap().as_str(), expected);
    }

    #[test]
    fn the_limit_counts_what_the_loader_adds() {
        let fits = (1..CommandLine::LIMIT).rev().find(|n| line(&[&"x".repeat(*n)]).is_ok()).unwrap();
        assert!(fits < CommandLine::LIMIT - 300, "{fits}");
        let error = line(&[&"x".repeat(fits + 3)]).unwrap_err();
        assert_eq!(error.length, CommandLine::LIMIT + 3);
        assert!(error.to_string().contains("shorten boot.kernelParams by 3 bytes"), "{error}");
    }

    #[test]
    fn parameters_cannot_smuggle() {
        for good in ["quiet", "console=ttyS0,115200", "dyndbg=\"file a.c +p\"", "$x", "rookery.onfail=reboot"] {
            assert!(good.parse::<KernelParameter>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\nAPPEND x",
            "a\tb",
            "a\"b c",
            "é",
            "init=/bin/sh",
            "\"init\"=/bin/sh",
            "rook\"ery\".server=6.6.6.6:80",
            "\"rookery.server=6.6.6.6:80\"",
            "in\"\"it\"=/bin/sh\"",
            "initrd=x",
            "--",
            "\"--\"",
            "BOOTIF=01-0",
            "rookery.server=6.6.6.6:80",
            "rookery.offline=lab/42-9f3k2xq1",
        ] {
            assert!(bad.parse::<KernelParameter>().is_err(), "{bad}");
        }
    }
}
