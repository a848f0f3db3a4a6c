//! Menus for GRUB.
//!
//! Its language quotes as a shell does: between single quotes every character stands for itself, and a single quote is written
//! `'\''`. Debian's signed GRUB has no HTTP, so kernel and initrd come by TFTP, from the server that the menu is for.
//!
//! `linux` hands its words over with a backslash before each `"`, `'` and `\`, which the kernel takes as it stands
//! (grub-core/lib/cmdline.c): a command line with one of those is not offered.

use std::fmt::Write;
use std::net::Ipv4Addr;

use boot_model::Architecture;
use config::SerialConsole;
use generations::Layout;

use crate::display::{COLUMNS, fold};
use crate::{Action, Boot, Item, Menu, serial};

/// Why GRUB would not hand this command line over as it stands, if so.
pub(crate) fn misread(command_line: &str) -> Option<String> {
    let escaped = command_line.chars().find(|c| matches!(c, '"' | '\'' | '\\'))?;
    Some(format!("GRUB would put a backslash before the {escaped} in it"))
}

/// The file that GRUB reads first: it finds the machine's own menu by its card.
///
/// `-s` opens the file where `-e` would list its folder, which TFTP can't. It can't tell a file that is not there from a server that is
/// not: only when the menu of unknown machines can be had, which is always there, and the machine's own still can't, it has none. The
/// card is written with hyphens, as `BOOTIF=` and the menus' names have it.
///
/// `source` succeeds whatever happens (grub-core/commands/configfile.c), so each menu's last line says that all of it was read. Without
/// a menu GRUB opens its shell; nobody gets one before an unlocked menu says so.
pub(crate) fn start(server: Ipv4Addr) -> String {
    let pairs = ["a", "b", "c", "d", "e", "f"];
    let sets: String = (1..).zip(pairs).map(|(n, pair)| format!(" --set={n}:{pair}")).collect();
    let pattern = ["(..)"; 6].join(":");
    let hyphened = pairs.map(|pair| format!("${pair}")).join("-");
    format!(
        "# Written by rookery-menu-generator: changes here are lost.\n\
         {LOCK}\n\
         regexp{sets} '^{pattern}' \"$net_default_mac\"\n\
         set bootif=\"01-{hyphened}\"\n\
         export bootif\n\
         set menus=\"(tftp,{server})/grub/$grub_cpu\"\n\
         set own=\"$menus/$bootif.cfg\"\n\
         set others=\"$menus/default.cfg\"\n\
         set rookery_menu=none\n\
         if [ -s \"$own\" ]; then\n  source \"$own\"\n\
         elif [ -s \"$others\" ]; then\n  \
           if [ -s \"$own\" ]; then\n    source \"$own\"\n  else\n    source \"$others\"\n  fi\n\
         fi\n\
         if [ \"$rookery_menu\" != whole ]; then\n  \
           echo 'Rookery: the menu did not come, or not all of it. Server: {server}. The machine restarts in 15 seconds.'\n  \
           sleep 15\n  reboot\n\
         fi\n"
    )
}

/// With superusers and none among them nobody can edit an entry or open the shell; --unrestricted ones still boot.
const LOCK: &str = "set superusers=''\nexport superusers";
/// Everybody can, as without a start file.
const UNLOCK: &str = "unset superusers";
/// What the start file looks for.
const WHOLE: &str = "set rookery_menu=whole";

pub(crate) fn render(menu: &Menu, server: Ipv4Addr, architecture: Architecture) -> String {
    let mut out = "# Written by rookery-menu-generator: changes here are lost.\n".to_owned();
    if let Some(console) = &menu.serial_console
        && let Some(unit) = serial::unit(console)
        && architecture == Architecture::X86_64
    {
        // Not every build has the module; the screen is there in any case.
        line(
            &mut out,
            format_args!(
                "if serial --unit={unit} --speed={}; then\n  terminal_input --append serial\n  terminal_output --append serial\nfi",
                console.baud()
            ),
        );
    }
    line(&mut out, format_args!("{}", if menu.locked { LOCK } else { UNLOCK }));
    head(&mut out, menu);
    Renderer { server, architecture, serial_console: menu.serial_console.as_ref() }.entries(&mut out, menu, "");
    line(&mut out, format_args!("{WHOLE}"));
    out
}

#[derive(Clone, Copy)]
struct Renderer<'a> {
    server: Ipv4Addr,
    architecture: Architecture,
    serial_console: Option<&'a SerialConsole>,
}

impl Renderer<'_> {
    /// The entries of a menu; `path` is where it hangs, so that the ids of its notes are its own.
    fn entries(self, out: &mut String, menu: &Menu, path: &str) {
        for (index, note) in menu.notes.iter().enumerate() {
            // GRUB has no line that can't be chosen: this one does nothing.
            line(out, format_args!("menuentry {} --id note-{path}{index} --unrestricted {{\n  true\n}}", text(note)));
        }
        for item in &menu.items {
            self.entry(out, item);
        }
    }

    fn entry(self, out: &mut String, item: &Item) {
        let Item { id, label, action, .. } = item;
        if let Action::Submenu(submenu) = action {
            line(out, format_args!("submenu {} --id {id} --unrestricted {{", text(label)));
            head(out, submenu);
            self.entries(out, submenu, &format!("{id}-"));
            return line(out, format_args!("}}"));
        }
        line(out, format_args!("menuentry {} --id {id} --unrestricted {{", text(label)));
        match action {
            Action::Boot(boot) => self.boot(out, boot),
            Action::LocalDisk => self.local_disk(out),
            // Each `configfile` would nest one menu deeper; from the start, the server says by DHCP whether there is something now.
            Action::LookAgain => line(out, format_args!("  reboot")),
            Action::Memtest => {
                let program = format!("(tftp,{})/{}", self.server, Layout::MEMTEST_EFI_NAME);
                let console = serial::memtest_parameter(self.serial_console);
                self.start(out, &format!("chainloader {program}{console}"), None);
            }
            Action::Submenu(_) => {}
        }
        line(out, format_args!("}}"));
    }

    /// The loader that lies on a disk, where systems put theirs or where firmware itself looks; without one, `exit`. The latter comes last,
    /// for it is where every installer's stick has one, and GRUB searches those too.
    ///
    /// `exit` alone would not do: GRUB tells the firmware then that all went well, and edk2 opens its own menu instead of trying the
    /// next boot option (MdeModulePkg, BdsEntry.c, BootBootOptions).
    fn local_disk(self, out: &mut String) {
        let places = match self.architecture {
            Architecture::X86_64 => {
                "/EFI/Microsoft/Boot/bootmgfw.efi /EFI/systemd/systemd-bootx64.efi /EFI/BOOT/BOOTX64.EFI"
            }
            Architecture::Aarch64 => "/EFI/systemd/systemd-bootaa64.efi /EFI/BOOT/BOOTAA64.EFI",
        };
        line(
            out,
            format_args!(
                "  for loader in {places}; do\n    if search --no-floppy --set=disk --file $loader; then\n      \
                 if chainloader ($disk)$loader; then\n        boot\n      fi\n    fi\n  done\n  exit"
            ),
        );
    }

    fn boot(self, out: &mut String, boot: &Boot) {
        let Self { server, .. } = self;
        let words: Vec<String> = boot.command_line.as_str().split(' ').map(word).collect();
        let kernel = format!("linux (tftp,{server})/{} {} BOOTIF=$bootif", boot.kernel, words.join(" "));
        self.start(out, &kernel, Some(&format!("initrd (tftp,{server})/{}", boot.initrd)));
    }

    /// What starts, or says why not and lets the machine try again: the firmware asks for everything anew then.
    fn start(self, out: &mut String, program: &str, initrd: Option<&str>) {
        let Self { server, architecture, .. } = self;
        let cpu = Layout::grub_cpu(architecture);
        line(out, format_args!("  echo 'Rookery: loading from {server} ({cpu}) ...'\n  if {program}; then"));
        match initrd {
            Some(initrd) => line(out, format_args!("    if {initrd}; then\n      boot\n    fi")),
            None => line(out, format_args!("    boot")),
        }
        line(
            out,
            format_args!(
                "  fi\n  echo 'Rookery: the lines above say why that failed. Server: {server}. The machine restarts in 15 seconds.'\n  \
                 sleep 15\n  reboot"
            ),
        );
    }
}

/// What is chosen, and when.
fn head(out: &mut String, menu: &Menu) {
    if let Some(item) = menu.default.and_then(|index| menu.items.get(index)) {
        line(out, format_args!("set default={}", item.id));
    }
    match menu.timeout_seconds {
        0 => line(out, format_args!("set timeout=-1")),
        seconds => line(out, format_args!("set timeout={seconds}")),
    }
}

/// A title: one quoted word.
fn text(text: &str) -> String {
    let indent = " ".repeat(text.len() - text.trim_start().len());
    format!("'{indent}{}'", fold(text, &[], COLUMNS).replace('\'', "'\\''"))
}

/// A word of the command line, which has neither blanks nor quotes ([`misread`]).
fn word(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._/:=,@%".contains(&b);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grub_would_change_is_named() {
        for fine in ["init=/x quiet", "a=$x b={} c=a&&b d=#x e=;x f=|g <h >i `j` *"] {
            assert_eq!(misread(fine), None, "{fine}");
        }
        for bad in ["x=\"a b\"", "x='", "x=\\n"] {
            assert!(misread(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn words_and_titles_are_quoted() {
        assert_eq!(word("console=ttyS0,115200"), "console=ttyS0,115200");
        assert_eq!(word("x=$y"), "'x=$y'");
        assert_eq!(text(" 9  it's"), "' 9  it'\\''s'");
    }
}
