use menu_generator::{Action, Loader, Menu};

use super::super::common::pxelinux::{Configuration, Entry};
use super::{Row, memtest_words, openings, rows, serial, url};

pub(super) fn check(menu: &Menu, text: &str, loader: Loader) {
    let read = Configuration::parse(text);
    assert_eq!(read.astray, [""; 0]);
    assert_eq!(read.timeout, (menu.timeout_seconds > 0).then(|| u32::from(menu.timeout_seconds) * 10));
    assert_eq!(read.no_escape, menu.locked);
    let ports = ["1016", "760", "1000", "744"];
    let told = serial(menu).filter(|_| loader == Loader::Pxelinux);
    assert_eq!(read.serial, told.map(|(unit, baud)| format!("{} {baud}", ports[usize::from(unit)])));
    assert_eq!(read.submenus.len(), openings(menu).len());
    assert!(read.submenus.iter().all(|label| label.len() <= 66 && !label.contains('^')), "{:?}", read.submenus);

    let rows = rows(menu);
    assert_eq!(read.entries.len(), rows.len());
    for (entry, row) in read.entries.iter().zip(rows) {
        assert!(entry.label.len() + entry.indent <= 68 && !entry.label.contains('^'), "{}", entry.label);
        assert_eq!(entry.disabled, matches!(row, Row::Note));
        assert_eq!(entry.back, matches!(row, Row::Back(_)));
        match row {
            Row::Item(own, place) => check_entry(entry, own, place, memtest_words(menu).pop(), loader),
            Row::Back(item) => assert_eq!(entry.id, format!("back-{}", item.id)),
            Row::Note => assert!(entry.id.starts_with("note-")),
        }
        if !matches!(row, Row::Item(..)) {
            assert!(entry.kernel.is_none() && entry.append.is_none() && !entry.local && !entry.default);
        }
    }
}

fn check_entry(entry: &Entry, menu: &Menu, place: usize, memtest: Option<String>, loader: Loader) {
    let item = &menu.items[place];
    assert_eq!(entry.id, item.id);
    assert_eq!(entry.default, menu.default == Some(place));
    assert_eq!(entry.help.len(), item.detail.len());
    assert_eq!(entry.local, item.action == Action::LocalDisk);
    match &item.action {
        Action::Boot(boot) => {
            assert_eq!(entry.kernel.as_deref(), Some(url(&boot.kernel).as_str()));
            assert_eq!(entry.initrd.as_deref(), Some(url(&boot.initrd).as_str()));
            assert_eq!(entry.append.as_deref(), Some(boot.command_line.as_str()));
        }
        Action::Memtest => {
            let program = if loader == Loader::Pxelinux { "memtest-bios" } else { "memtest-efi" };
            assert_eq!(entry.kernel.as_deref(), Some(url(program).as_str()));
            assert_eq!(entry.append, memtest);
        }
        Action::LookAgain => assert_eq!(entry.append.as_deref(), Some("~")),
        Action::LocalDisk | Action::Submenu(_) => assert_eq!(entry.kernel, None),
    }
}
