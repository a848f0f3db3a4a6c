//! Menus as iPXE scripts.
//!
//! The shell (src/core/exec.c and src/image/script.c of 1.0.0, early 2019, which is what Debian 12 and QEMU's ROMs carry, and of 2.0)
//! has no quoting either: a line is split at blanks, then `${}` is expanded in each word, again and again while there is one; words
//! that end a command are `&&`, `||`, `;` and whatever begins with `#`; a `\` at a line's end joins the next line to it. Options
//! are read up to the first word without a hyphen.

use std::fmt::Write;
use std::net::SocketAddrV4;

use generations::Layout;

use crate::display::{COLUMNS, fold};
use crate::{Action, Boot, Menu, serial};

/// What the shell could take for its own, and what stands for it.
const AVOID: &[(char, &str)] =
    &[('$', "_"), ('#', "_"), ('\\', "/"), (';', ","), ('&', "+"), ('|', "/"), ('{', "("), ('}', ")")];

/// The most words of a command, counted after its name (MAX_ARGUMENTS, include/ipxe/parseopt.h).
const ARGUMENTS: usize = 255;

/// The script that DHCP names.
const PCS: &str = "boot.ipxe";

/// Why iPXE would not hand this command line over as it stands, if so.
pub(crate) fn misread(command_line: &str) -> Option<String> {
    if command_line.contains("${") {
        return Some("iPXE would expand the ${ in it".to_owned());
    }
    if command_line.contains("  ") {
        return Some("iPXE would join the two blanks that follow each other in it".to_owned());
    }
    let words: Vec<&str> = command_line.split(' ').collect();
    if let Some(word) = words.iter().find(|word| word.starts_with('#') || matches!(**word, "&&" | "||" | ";")) {
        return Some(format!("iPXE would end its command at the word {word}"));
    }
    // The kernel's URL, initrd= and BOOTIF= are words too.
    let count = words.len() + 3;
    (count > ARGUMENTS).then(|| format!("iPXE takes {ARGUMENTS} words, and it has {count} with what Rookery adds"))
}

/// `script` is the name that this script is served under.
pub(crate) fn render(menu: &Menu, server: SocketAddrV4, script: &str) -> String {
    // A blank that is not lost between words: hexadecimal 20, put in as ${pad:string}.
    let mut out = "#!ipxe\n# Written by rookery-menu-generator: changes here are lost.\nset pad:hex 20\n".to_owned();
    let is_for_pcs = script == PCS;
    if is_for_pcs {
        // DHCP names one script to every iPXE.
        line(&mut out, format_args!("iseq ${{buildarch}} arm64 && goto arm64 ||"));
    }
    section(&mut out, menu, server, "start", None);
    // Not before ten seconds, or a key: a room whose server is away must not hammer at it when it comes back. Control-C interrupts
    // `sleep`, and a command that fails without `||` would end the script.
    line(
        &mut out,
        format_args!(
            ":failed\nimgfree ||\n\
             echo Rookery: the lines above say why that failed. Server: {server}\n\
             :again\n\
             sleep 2 ||\n\
             prompt --timeout 8000 The menu is fetched again in 8 seconds, or at any key. ||\n\
             chain --autofree --replace http://{server}/{script} || goto failed"
        ),
    );
    if is_for_pcs {
        line(
            &mut out,
            format_args!(":arm64\nchain --autofree --replace http://{server}/boot-arm64.ipxe || goto failed"),
        );
    }
    out
}

/// One menu and what its items do, from the label `name` on.
fn section(out: &mut String, menu: &Menu, server: SocketAddrV4, name: &str, parent: Option<&str>) {
    line(out, format_args!(":{name}\nmenu {}", text(&menu.heading)));
    for note in &menu.notes {
        line(out, format_args!("item --gap {}", text(note)));
    }
    if !menu.notes.is_empty() {
        // Whoever reads notes may have to tell an administrator which machine this is.
        line(out, format_args!("item --gap This card: ${{netX/mac}}\nitem --gap"));
    }
    for (index, item) in menu.items.iter().enumerate() {
        let boots = |index: usize| matches!(menu.items[index].action, Action::Boot(_));
        if index > 0 && boots(index - 1) && !boots(index) {
            line(out, format_args!("item --gap"));
        }
        line(out, format_args!("item {} {}", item.id, text(&item.label)));
    }
    if let Some(parent) = parent {
        line(out, format_args!("item --gap\nitem {parent} Back"));
    }
    let mut options = String::new();
    if let Some(item) = menu.default.and_then(|index| menu.items.get(index)) {
        options += &format!("--default {} ", item.id);
    }
    if menu.timeout_seconds > 0 {
        options += &format!("--timeout {} ", u32::from(menu.timeout_seconds) * 1000);
    }
    // Escape chooses nothing.
    line(out, format_args!("choose {options}chosen || goto again\ngoto ${{chosen}}"));
    for item in &menu.items {
        match &item.action {
            Action::Boot(boot) => boot_lines(out, &item.id, boot, server),
            // With success a BIOS takes its next boot device; a UEFI would stop in its own menu, and goes on after a failure.
            Action::LocalDisk => line(out, format_args!(":{}\niseq ${{platform}} efi && exit 1 || exit", item.id)),
            Action::Memtest => line(
                out,
                format_args!(
                    ":{}\nset memtest {}\niseq ${{platform}} efi && set memtest {} ||\n\
                     kernel http://{server}/${{memtest}}{} || goto failed\nboot || goto failed",
                    item.id,
                    Layout::MEMTEST_BIOS_NAME,
                    Layout::MEMTEST_EFI_NAME,
                    serial::memtest_parameter(menu.serial_console.as_ref())
                ),
            ),
            Action::LookAgain => line(out, format_args!(":{}\ngoto again", item.id)),
            Action::Submenu(submenu) => section(out, submenu, server, &item.id, Some(name)),
        }
    }
}

fn boot_lines(out: &mut String, id: &str, boot: &Boot, server: SocketAddrV4) {
    let Boot { kernel, initrd, command_line } = boot;
    // netX is the card that was opened last, the one that this script came over (src/net/netdev_settings.c, since 2013); net0 need
    // not be. An EFI kernel finds its initrd by the name that initrd= gives; on BIOS the word does no harm.
    line(
        out,
        format_args!(
            ":{id}\n\
             kernel http://{server}/{kernel} initrd=initrd {command_line} BOOTIF=01-${{netX/mac:hexhyp}} || goto failed\n\
             initrd --name initrd http://{server}/{initrd} || goto failed\n\
             boot || goto failed"
        ),
    );
}

/// A text for `menu`, `item` or `set`: no word of it is the shell's own, it does not begin like an option, and no blank is lost.
fn text(text: &str) -> String {
    let indent = text.len() - text.trim_start().len();
    let folded = fold(text, AVOID, COLUMNS);
    let folded = folded.trim_start_matches(['-', ' ']);
    let mut shown = "${pad:string}".repeat(indent);
    let mut after_blank = false;
    for c in folded.chars() {
        match c {
            ' ' if after_blank => shown.push_str("${pad:string}"),
            c => shown.push(c),
        }
        after_blank = c == ' ';
    }
    shown
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_would_take_for_its_own_is_named() {
        for fine in ["init=/x quiet", "a=$x b={} c=a&&b d=x# e=;x f=\"a b\" g=\\", "x|| y"] {
            assert_eq!(misread(fine), None, "{fine}");
        }
        for bad in ["init=/x a=${net0/mac}", "a=\"b  c\"", "a #b", "a && b", "a \"|| ; b\"", "a ; b"] {
            assert!(misread(bad).is_some(), "{bad}");
        }
        assert_eq!(misread(&["x"; 252].join(" ")), None);
        assert!(misread(&["x"; 253].join(" ")).is_some());
    }

    #[test]
    fn blanks_survive() {
        assert_eq!(text(" 9  a   b"), "${pad:string}9 ${pad:string}a ${pad:string}${pad:string}b");
        assert_eq!(text("--default x"), "default x");
        assert_eq!(text("${evil} && # ; ||"), "_(evil) ++ _ , //");
    }
}
