use menu_generator::{Action, Loader, Menu};

use super::super::common::grub::Script;
use super::{Row, SERVER, boots, count, items, memtest_words, menus, openings, rows, serial};

pub(super) fn check(menu: &Menu, text: &str, loader: Loader) {
    let script = Script::parse(text);
    let (boots, menus) = (boots(menu), menus(menu));
    let (local, memtest) = (count(menu, &Action::LocalDisk), count(menu, &Action::Memtest));
    let serial = serial(menu).filter(|_| loader == Loader::Grub);
    let (locked, lines) = (usize::from(menu.locked), usize::from(serial.is_some()));
    let starts = boots.len() + memtest;
    let notes: usize = menus.iter().map(|menu| menu.notes.len()).sum();
    let preselecting = menus.iter().filter(|menu| menu.default.is_some()).count();
    let known = [
        ("set", menus.len() + preselecting + locked + 1),
        ("unset", 1 - locked),
        ("export", locked),
        ("serial", lines),
        ("terminal_input", lines),
        ("terminal_output", lines),
        ("submenu", menus.len() - 1),
        ("menuentry", items(menu).len() - (menus.len() - 1) + notes),
        ("true", notes),
        ("linux", boots.len()),
        ("initrd", boots.len()),
        ("for", local),
        ("search", local),
        ("chainloader", local + memtest),
        ("done", local),
        ("boot", starts + local),
        ("exit", local),
        ("echo", 2 * starts),
        ("sleep", starts),
        ("reboot", starts + count(menu, &Action::LookAgain)),
        ("fi", starts + boots.len() + 2 * local + lines),
    ];
    for (name, expected) in known {
        assert_eq!(script.all(name).count(), expected, "{name}");
    }
    for (read, (unit, baud)) in script.all("serial").zip(serial) {
        assert_eq!(read, [format!("--unit={unit}"), format!("--speed={baud}")]);
    }
    let foreign: Vec<_> = script.commands.iter().filter(|c| !known.iter().any(|(name, _)| c[0] == *name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(script.commands.last().unwrap()[1..], ["rookery_menu=whole"], "what the start file looks for");
    check_titles(menu, &script);
    for (read, (_, boot)) in script.all("linux").zip(&boots) {
        assert_eq!(read[0], format!("(tftp,{SERVER})/{}", boot.kernel));
        assert_eq!(read[1..].join(" "), format!("{} BOOTIF=<bootif>", boot.command_line));
    }
    for (read, (_, boot)) in script.all("initrd").zip(&boots) {
        assert_eq!(read, [format!("(tftp,{SERVER})/{}", boot.initrd)]);
    }
    let memory_test = format!("(tftp,{SERVER})/memtest-efi");
    for read in script.all("chainloader").filter(|read| read[0] != "(<disk>)<loader>") {
        assert_eq!(read[0], memory_test);
        assert_eq!(read[1..], memtest_words(menu));
    }
    assert!(script.expanded.iter().all(|name| ["bootif", "disk", "loader"].contains(&name.as_str())));
}

fn check_titles(menu: &Menu, script: &Script) {
    let entries = rows(menu).into_iter().filter(|row| !matches!(row, Row::Back(_)));
    for (read, row) in script.all("menuentry").zip(entries) {
        assert_eq!((read.len(), read[1].as_str(), read[3].as_str()), (4, "--id", "--unrestricted"));
        match row {
            Row::Item(menu, place) => {
                let item = &menu.items[place];
                assert_eq!(read[2], item.id);
                assert!(read[0].len() <= 68 + item.label.len() - item.label.trim_start().len());
            }
            Row::Note | Row::Back(_) => assert!(read[2].starts_with("note-") && read[0].len() <= 68),
        }
    }
    for (read, item) in script.all("submenu").zip(openings(menu)) {
        assert_eq!(read[1..], ["--id", item.id.as_str(), "--unrestricted"]);
        assert!(read[0].len() <= 68 + item.label.len() - item.label.trim_start().len());
    }
}
