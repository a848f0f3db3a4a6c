//! A PC's serial lines, as loaders and the memory test want them named.

use config::SerialConsole;

/// Where the kernel finds `ttyS0` to `ttyS3` (arch/x86/include/asm/serial.h), and loaders if they are told so.
const PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

/// The line's number, if loaders know where it is.
pub(crate) fn unit(console: &SerialConsole) -> Option<u8> {
    console.unit().filter(|unit| usize::from(*unit) < PORTS.len())
}

/// The line's I/O address, if it is one that every PC has there.
pub(crate) fn port(console: &SerialConsole) -> Option<u16> {
    PORTS.get(usize::from(console.unit()?)).copied()
}

/// What lets Memtest86+ show itself there too, with a blank before it; it reads the kernel's words (app/config.c, since 6.00).
pub(crate) fn memtest_parameter(console: Option<&SerialConsole>) -> String {
    let known = console.filter(|console| unit(console).is_some());
    known.map(|console| format!(" {}", console.kernel_parameter())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_known_place_are_told_to_loaders() {
        for (console, known) in [
            ("ttyS0,115200", Some((0, 0x3f8))),
            ("ttyS3,9600", Some((3, 0x2e8))),
            ("ttyS4,115200", None),
            ("ttyAMA0,115200", None),
        ] {
            let console: SerialConsole = console.parse().unwrap();
            assert_eq!(unit(&console).zip(port(&console)), known, "{console}");
            let word = format!(" console={console}");
            assert_eq!(memtest_parameter(Some(&console)), if known.is_some() { word.as_str() } else { "" });
        }
        assert_eq!(memtest_parameter(None), "");
    }
}
