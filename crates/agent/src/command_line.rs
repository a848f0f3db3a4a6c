//! The kernel command line, the interface between the menu and the agent. It comes from the network: nothing on it is believed
//! further than its type reaches, and `init=` only if a signed generation lists it.

use std::net::SocketAddrV4;

use boot_model::{CommandLine as MenuLine, EraseConsent, GenerationRef, MacAddr, generation::InitPath};

use crate::{Exit, Failure};

/// The text of `/proc/cmdline`.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandLine(String);

/// A parameter is not there, or not what it must be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error("the kernel command line has no `{0}=`; was this machine booted from Rookery's menu?")]
    Missing(&'static str),
    #[error("`{name}={value}` on the kernel command line is not understood: {cause}; choose another menu entry")]
    Invalid { name: &'static str, value: String, cause: String },
}

impl From<ParameterError> for Failure {
    fn from(error: ParameterError) -> Self {
        Self::new(Exit::Configuration, error)
    }
}

impl CommandLine {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// What stage 1 hands over to.
    pub(crate) fn init(&self) -> Result<InitPath, ParameterError> {
        self.parsed("init", |value| value.parse().map_err(|error| format!("{error}")))
    }

    /// Where the menu came from.
    pub(crate) fn server(&self) -> Result<SocketAddrV4, ParameterError> {
        self.parsed("rookery.server", |value| value.parse().map_err(|_| "it must be an address and a port".to_owned()))
    }

    /// What was chosen.
    pub(crate) fn generation(&self) -> Result<GenerationRef, ParameterError> {
        self.parsed("rookery.generation", |value| value.parse().map_err(|error| format!("{error}")))
    }

    /// The generation that could not be had, if another kernel was started because of that.
    pub(crate) fn offline(&self) -> Option<GenerationRef> {
        self.value(MenuLine::OFFLINE)?.parse().ok()
    }

    /// The permission to erase a disk, if a person gave one.
    pub(crate) fn erase(&self) -> Result<Option<EraseConsent>, ParameterError> {
        let consent = self.parsed(EraseConsent::PARAMETER, |value| value.parse().map_err(|error| format!("{error}")));
        match consent {
            Err(ParameterError::Missing(_)) => Ok(None),
            consent => consent.map(Some),
        }
    }

    /// The card that the loader booted from.
    pub(crate) fn boot_card(&self) -> Result<MacAddr, ParameterError> {
        self.parsed("BOOTIF", |value| MacAddr::from_bootif(value).map_err(|error| format!("{error}")))
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ParameterError> {
        let value = self.value(name).ok_or(ParameterError::Missing(name))?;
        parse(&value).map_err(|cause| ParameterError::Invalid { name, value, cause })
    }

    /// The last one counts, as for the kernel. Double quotes group blanks and are taken off (kernel lib/cmdline.c, `next_arg`).
    fn value(&self, name: &str) -> Option<String> {
        let mut quoted = false;
        let words = self.0.split(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        });
        // What follows `--` belongs to init.
        let words = words.map(|word| word.replace('"', "")).take_while(|word| word != "--");
        words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)).last()
    }
}

#[cfg(test)]
mod tests {
    use boot_model::KernelParameter;

    use super::*;

    const INIT: &str = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos-system-lab/init";

    fn line(text: &str) -> CommandLine {
        CommandLine::new(text.to_owned())
    }

    #[test]
    fn a_line_as_pxelinux_hands_it_over() {
        let line = line(&format!(
            "BOOT_IMAGE=boot/lab/42-9f3k2xq1/abc init={INIT} loglevel=4 rookery.server=10.77.0.1:8080 \
             rookery.generation=lab/42-9f3k2xq1 ip=dhcp BOOTIF=01-52-54-00-77-00-0a\n"
        ));
        assert_eq!(line.init().unwrap().as_str(), INIT);
        assert_eq!(line.server().unwrap().to_string(), "10.77.0.1:8080");
        assert_eq!(line.generation().unwrap().to_string(), "lab/42-9f3k2xq1");
        assert_eq!(line.boot_card().unwrap().to_string(), "52:54:00:77:00:0a");
    }

    #[test]
    fn values_as_the_kernel_reads_them() {
        let table = [
            ("x=1", Some("1")),
            ("x=1 x=2", Some("2")),
            ("\tx=1\n", Some("1")),
            ("x=", Some("")),
            ("x=\"a b\" y", Some("a b")),
            ("\"x=a b\" y", Some("a b")),
            ("y=\"a x=1\"", None),
            ("x", None),
            ("xx=1 ax=1", None),
            ("x=1 -- x=2", Some("1")),
            ("x=1 \"--\" x=2", Some("1")),
            ("x=\"unfinished y=2", Some("unfinished y=2")),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(line(text).value("x").as_deref(), expected, "{text:?}");
        }
    }

    /// Whatever parameters a menu may carry, what Rookery has set is what is read: all short texts of the pieces that matter.
    #[test]
    fn no_parameter_that_a_menu_may_carry_changes_what_was_chosen() {
        const PIECES: [&str; 9] = ["\"", "=", " ", "x", "--", "init", "rookery.", "server", "BOOTIF"];
        let menu = |parameter| {
            let (generation, server) = ("lab/42-9f3k2xq1".parse().unwrap(), "10.77.0.1:8080".parse().unwrap());
            MenuLine::new(&INIT.parse().unwrap(), &generation, server, &[parameter]).unwrap()
        };
        let mut texts = vec![String::new()];
        let mut allowed = 0;
        for _ in 0..5 {
            texts = texts.iter().flat_map(|text| PIECES.map(|piece| format!("{text}{piece}"))).collect();
            for parameter in texts.iter().filter_map(|text| text.parse::<KernelParameter>().ok()) {
                allowed += 1;
                // pxelinux adds this one.
                let line = line(&format!("{} BOOTIF=01-52-54-00-77-00-0a", menu(parameter).as_str()));
                assert_eq!(line.init().unwrap().as_str(), INIT, "{line:?}");
                assert_eq!(line.server().unwrap().to_string(), "10.77.0.1:8080", "{line:?}");
                assert_eq!(line.boot_card().unwrap().to_string(), "52:54:00:77:00:0a", "{line:?}");
            }
        }
        assert!(allowed > 1000, "{allowed}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("", "no `init=`"),
            ("init=/bin/sh", "`init=/bin/sh`"),
            ("init=/nix/store/../../bin/sh", "not understood"),
            ("init=/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-x/../../../bin/sh", "not understood"),
        ];
        for (text, expected) in table {
            let error = line(text).init().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(line("rookery.server=server:80").server().is_err());
        assert!(line("rookery.server=10.0.0.1").server().is_err());
        assert!(line("rookery.generation=../42-9f3k2xq1").generation().is_err());
    }
}
