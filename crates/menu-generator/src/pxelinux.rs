//! Menus for the `vesamenu.c32` and `menu.c32` of PXELINUX and of syslinux.efi.
//!
//! Its configuration has no quoting: a value is the rest of its line, so no value may hold a line's end, and none can. A line of more
//! than 4095 bytes would be cut and its rest read as directives; the longest here is a command line of at most 2047
//! (syslinux com32/menu/readconfig.c, MAX_LINE).

use std::fmt::Write;
use std::net::SocketAddrV4;

use config::SerialConsole;
use generations::Layout;

use crate::display::{COLUMNS, fold};
use crate::{Action, Item, Menu, serial};

/// Which of the two programs reads the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// pxelinux.0 or lpxelinux.0, on BIOS.
    Pxelinux,
    /// syslinux.efi.
    SyslinuxEfi,
}

/// A caret makes the character after it a hotkey and cannot be escaped.
const AVOID: &[(char, &str)] = &[('^', "")];

/// Where things are on a graphical screen. 800x600 has 98 columns and 36 rows of text; where the card cannot do it, vesamenu falls back
/// to a text screen of 80 by 25, and a margin of 4 still leaves [`COLUMNS`] (com32/menu/menumain.c, draw_row).
const GRAPHICS: &str = "\
MENU RESOLUTION 800 600
MENU BACKGROUND #ff10202e
MENU MARGIN 4
MENU VSHIFT 2
MENU ROWS 18
MENU TABMSGROW 24
MENU TIMEOUTROW 26
MENU HELPMSGROW 29
MENU HELPMSGENDROW 33
";

/// The same on a terminal of 80 by 24.
const TERMINAL: &str = "\
MENU WIDTH 80
MENU MARGIN 4
MENU ROWS 12
MENU TABMSGROW 17
MENU TIMEOUTROW 18
MENU HELPMSGROW 20
MENU HELPMSGENDROW 23
";

/// Colours are #aarrggbb, the alpha value first; the ANSI column is for the text screen.
const COLOURS: &str = "\
MENU COLOR screen 37;40 #ffb8c7d1 #00000000 none
MENU COLOR border 36;40 #ff3d6480 #00000000 none
MENU COLOR title 1;36;40 #ff8fd3ff #00000000 none
MENU COLOR unsel 37;40 #ffd7e1e8 #00000000 none
MENU COLOR sel 7;37;40 #ff10202e #ff8fd3ff none
MENU COLOR scrollbar 36;40 #ff8fd3ff #00000000 none
MENU COLOR tabmsg 37;40 #ff7f95a3 #00000000 none
MENU COLOR timeout_msg 37;40 #ffb8c7d1 #00000000 none
MENU COLOR timeout 1;37;40 #ffffffff #00000000 none
MENU COLOR help 37;40 #ff9fb3c0 #00000000 none
MENU COLOR disabled 37;40 #ffd7e1e8 #00000000 none
MENU NOTABMSG Arrow keys choose, Enter boots.
MENU CLEAR
";

pub(crate) fn render(menu: &Menu, server: SocketAddrV4, program: Program) -> String {
    // ALLOWOPTIONS 0: no editing of command lines at the keyboard. A key held at the start still leads to the prompt, where any file of
    // the server can be named; NOESCAPE prevents that, for the price that a site without vesamenu.c32 would make its clients ask for
    // that file without a pause (ldlinux.c, enter_cmdline). `rookery loaders install` copies all of it or nothing.
    let mut out = String::new();
    // The manual wants it first in the file.
    if let Some(console) = &menu.serial_console
        && let Some(port) = program.serial_port(console)
    {
        line(&mut out, format_args!("SERIAL {port} {}", console.baud()));
    }
    // vesamenu addresses a terminal as it does the screen, with more columns and rows than a terminal has; under UEFI a firmware
    // that mirrors its console to a serial line mirrors text only.
    let (module, places) =
        if menu.serial_console.is_some() { ("menu.c32", TERMINAL) } else { ("vesamenu.c32", GRAPHICS) };
    let head = "# Written by rookery-menu-generator: changes here are lost.";
    line(&mut out, format_args!("{head}\nUI {module}\nPROMPT 0\nALLOWOPTIONS 0"));
    if menu.locked {
        line(&mut out, format_args!("NOESCAPE 1"));
    }
    line(&mut out, format_args!("MENU TITLE {}", text(&menu.heading)));
    out += places;
    out += COLOURS;
    if menu.timeout_seconds > 0 {
        line(&mut out, format_args!("TIMEOUT {}", u32::from(menu.timeout_seconds) * 10));
        let unasked = menu.default.and_then(|index| menu.items.get(index)).or(menu.items.first());
        let boots = unasked.is_some_and(|item| matches!(item.action, Action::Boot(_)));
        let what = if boots { "Boots" } else { "Goes on" };
        line(&mut out, format_args!("MENU AUTOBOOT {what} in # second{{,s}}; any key stops the clock."));
    }
    Renderer { server, program, module, serial_console: menu.serial_console.as_ref() }.entries(&mut out, menu, "");
    out
}

impl Program {
    /// Where it is to find a serial line, as SERIAL wants it: the I/O address in decimal, since it reads no hexadecimal digits.
    ///
    /// A number up to 3 is looked up in the BIOS's list of the lines that it found: with a gap among them that is another line than the
    /// kernel's. Any other number is taken for an I/O address, and written to; 4 is in the middle of the DMA controller.
    /// syslinux.efi 6.04 looks into that list too, which UEFI does not have, and writes to whatever address lies there: it is told
    /// nothing (com32/elflink/ldlinux/readconfig.c, get_serial_port).
    fn serial_port(self, console: &SerialConsole) -> Option<u16> {
        if self == Self::Pxelinux { serial::port(console) } else { None }
    }

    const fn memtest(self) -> &'static str {
        match self {
            Self::Pxelinux => Layout::MEMTEST_BIOS_NAME,
            Self::SyslinuxEfi => Layout::MEMTEST_EFI_NAME,
        }
    }
}

#[derive(Clone, Copy)]
struct Renderer<'a> {
    server: SocketAddrV4,
    program: Program,
    /// What shows the menu.
    module: &'static str,
    serial_console: Option<&'a SerialConsole>,
}

impl Renderer<'_> {
    /// The entries of a menu; `path` is where it hangs, so that the ids of its notes are its own.
    fn entries(self, out: &mut String, menu: &Menu, path: &str) {
        for (index, note) in menu.notes.iter().enumerate() {
            line(out, format_args!("LABEL note-{path}{index}\n  MENU LABEL {}\n  MENU DISABLE", text(note)));
        }
        if !menu.notes.is_empty() {
            line(out, format_args!("MENU SEPARATOR"));
        }
        for (index, item) in menu.items.iter().enumerate() {
            // What is no generation stands apart from those above.
            let boots = |item: &Item| matches!(item.action, Action::Boot(_));
            if index > 0 && boots(&menu.items[index - 1]) && !boots(item) {
                line(out, format_args!("MENU SEPARATOR"));
            }
            match &item.action {
                Action::Submenu(submenu) => self.submenu_entry(out, item, submenu, menu.default == Some(index)),
                action => self.entry(out, item, action, menu.default == Some(index)),
            }
        }
    }

    fn entry(self, out: &mut String, item: &Item, action: &Action, default: bool) {
        let server = self.server;
        line(out, format_args!("LABEL {}", item.id));
        // Leading blanks of a value are lost; this directive is how the column of numbers stays straight.
        let indent = item.label.len() - item.label.trim_start().len();
        if indent > 0 {
            line(out, format_args!("  MENU INDENT {indent}"));
        }
        line(out, format_args!("  MENU LABEL {}", text(&item.label)));
        if default {
            line(out, format_args!("  MENU DEFAULT"));
        }
        match action {
            // IPAPPEND 2: BOOTIF=, the booting card. Stage 1 and the agent go on with that one.
            Action::Boot(boot) => line(
                out,
                format_args!(
                    "  KERNEL http://{server}/{}\n  INITRD http://{server}/{}\n  APPEND {}\n  IPAPPEND 2",
                    boot.kernel, boot.initrd, boot.command_line
                ),
            ),
            // On EFI it ends the loader with an error, and the firmware goes on with its next boot option (core/efi/main.c).
            Action::LocalDisk => line(out, format_args!("  LOCALBOOT 0")),
            Action::Memtest => {
                line(out, format_args!("  LINUX http://{server}/{}", self.program.memtest()));
                let console = serial::memtest_parameter(self.serial_console);
                if !console.is_empty() {
                    line(out, format_args!("  APPEND{console}"));
                }
            }
            // `~` is the configuration that the loader found (com32/menu/readconfig.c, parse_one_config).
            Action::LookAgain => line(out, format_args!("  COM32 {}\n  APPEND ~", self.module)),
            Action::Submenu(_) => {}
        }
        if !item.detail.is_empty() {
            line(out, format_args!("  TEXT HELP"));
            for (word, detail) in &item.detail {
                // The word in front is why no text of others can be the line that ends the help.
                line(out, format_args!("        {word:<8} {}", fold(detail, &[], COLUMNS)));
            }
            line(out, format_args!("  ENDTEXT"));
        }
    }

    fn submenu_entry(self, out: &mut String, item: &Item, submenu: &Menu, default: bool) {
        // The arrow at its end takes two columns.
        let label = fold(&item.label, AVOID, COLUMNS - 2);
        line(out, format_args!("MENU BEGIN {}\n  MENU LABEL {label}", item.id));
        line(out, format_args!("  MENU TITLE {}", text(&submenu.heading)));
        if default {
            line(out, format_args!("  MENU DEFAULT"));
        }
        self.entries(out, submenu, &format!("{}-", item.id));
        line(out, format_args!("MENU SEPARATOR\nLABEL back-{}\n  MENU LABEL Back\n  MENU EXIT\nMENU END", item.id));
    }
}

fn text(text: &str) -> String {
    fold(text, AVOID, COLUMNS)
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all that is written to it");
}
