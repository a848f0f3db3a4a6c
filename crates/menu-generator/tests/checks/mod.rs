//! Whether a rendered menu, read as its loader reads it, has the entries and directives of its model and nothing else.

mod grub;
mod ipxe;
mod pxelinux;

use std::net::Ipv4Addr;

use menu_generator::{Action, Boot, Item, Loader, Menu};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

pub(crate) fn check(loader: Loader, menu: &Menu, text: &str) {
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    match loader {
        Loader::Pxelinux | Loader::SyslinuxEfi => pxelinux::check(menu, text, loader),
        Loader::Ipxe | Loader::IpxeArm64 => ipxe::check(menu, text, loader),
        Loader::Grub | Loader::GrubArm64 => grub::check(menu, text, loader),
    }
}

/// A line of a menu, in the order in which loaders that nest menus write them.
enum Row<'a> {
    Note,
    /// With the menu that it stands in, and its place there.
    Item(&'a Menu, usize),
    /// The end of a menu within another.
    Back(&'a Item),
}

fn rows(menu: &Menu) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = menu.notes.iter().map(|_| Row::Note).collect();
    for (place, item) in menu.items.iter().enumerate() {
        match &item.action {
            Action::Submenu(submenu) => {
                rows.extend(self::rows(submenu));
                rows.push(Row::Back(item));
            }
            _ => rows.push(Row::Item(menu, place)),
        }
    }
    rows
}

/// A menu and those within it.
fn menus(menu: &Menu) -> Vec<&Menu> {
    let within = menu.items.iter().filter_map(|item| match &item.action {
        Action::Submenu(submenu) => Some(menus(submenu)),
        _ => None,
    });
    std::iter::once(menu).chain(within.flatten()).collect()
}

/// Every item, those of menus within the menu too.
fn items(menu: &Menu) -> Vec<&Item> {
    menus(menu).into_iter().flat_map(|menu| &menu.items).collect()
}

/// What opens another menu.
fn openings(menu: &Menu) -> Vec<&Item> {
    items(menu).into_iter().filter(|item| matches!(item.action, Action::Submenu(_))).collect()
}

pub(crate) fn boots(menu: &Menu) -> Vec<(&Item, &Boot)> {
    fn boot(item: &Item) -> Option<(&Item, &Boot)> {
        if let Action::Boot(boot) = &item.action { Some((item, boot)) } else { None }
    }
    items(menu).into_iter().filter_map(boot).collect()
}

fn count(menu: &Menu, action: &Action) -> usize {
    items(menu).into_iter().filter(|item| item.action == *action).count()
}

/// The line that loaders are told of: one of the four whose place they know.
fn serial(menu: &Menu) -> Option<(u8, u32)> {
    let console = menu.serial_console.as_ref()?;
    Some((console.unit().filter(|unit| *unit < 4)?, console.baud()))
}

/// What the memory test is given.
fn memtest_words(menu: &Menu) -> Vec<String> {
    let console = menu.serial_console.iter().filter(|_| serial(menu).is_some());
    console.map(|console| format!("console={console}")).collect()
}

pub(crate) fn url(name: &str) -> String {
    format!("http://{SERVER}:8080/{name}")
}
