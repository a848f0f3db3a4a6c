use menu_generator::{Action, Loader, Menu};

use super::super::common::ipxe::Script;
use super::{boots, count, items, memtest_words, menus, url};

pub(super) fn check(menu: &Menu, text: &str, loader: Loader) {
    let script = Script::parse(text);
    let (boots, menus, items) = (boots(menu), menus(menu), items(menu));
    let (local, memtest) = (count(menu, &Action::LocalDisk), count(menu, &Action::Memtest));
    // The script that every iPXE reads first sends those on Arm on.
    let for_pcs = usize::from(loader == Loader::Ipxe);
    let gaps = script.all("item").filter(|item| item.words[0] == "--gap").count();
    let known = [
        ("set", 1 + 2 * memtest),
        ("menu", menus.len()),
        // All but the first have a way back.
        ("item", items.len() + menus.len() - 1 + gaps),
        ("choose", menus.len()),
        ("kernel", boots.len() + memtest),
        ("initrd", boots.len()),
        ("boot", boots.len() + memtest),
        ("exit", 2 * local),
        ("iseq", for_pcs + local + memtest),
        ("imgfree", 1),
        ("echo", 1),
        ("sleep", 1),
        ("prompt", 1),
        ("chain", 1 + for_pcs),
    ];
    for (name, expected) in known {
        assert_eq!(script.all(name).count(), expected, "{name}");
    }
    let foreign: Vec<_> =
        script.commands.iter().filter(|c| c.name != "goto" && !known.iter().any(|(name, _)| c.name == *name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");

    let mut labels: Vec<&str> = items.iter().map(|item| item.id.as_str()).chain(["start", "failed", "again"]).collect();
    labels.extend((for_pcs == 1).then_some("arm64"));
    labels.sort_unstable();
    let mut read = script.labels.clone();
    read.sort_unstable();
    assert_eq!(read, labels);
    assert!(script.all("goto").all(|to| to.words == ["<chosen>"] || labels.contains(&to.words[0].as_str())));

    let shown = script.all("item").filter(|item| item.words[0] != "--gap");
    let (back, shown): (Vec<_>, Vec<_>) = shown.partition(|item| item.words == ["start", "Back"]);
    assert_eq!(back.len(), menus.len() - 1);
    for (read, item) in shown.iter().zip(&items) {
        assert_eq!(read.words[0], item.id);
        assert!(read.text(1).len() <= 68);
    }
    for (read, (_, boot)) in script.all("kernel").filter(|read| read.words[0] != url("<memtest>")).zip(&boots) {
        assert_eq!(read.words[0], url(&boot.kernel));
        let expected = format!("initrd=initrd {} BOOTIF=01-<netX/mac:hexhyp>", boot.command_line);
        assert_eq!(read.text(1), expected);
    }
    let testing = menus.iter().filter(|menu| menu.items.iter().any(|item| item.action == Action::Memtest));
    for (read, menu) in script.all("kernel").filter(|read| read.words[0] == url("<memtest>")).zip(testing) {
        assert_eq!(read.words[1..], memtest_words(menu));
    }
    for (read, (_, boot)) in script.all("initrd").zip(&boots) {
        assert_eq!(read.words, ["--name", "initrd", url(&boot.initrd).as_str()]);
    }
    let own = ["netX/mac:hexhyp", "netX/mac", "chosen", "buildarch", "platform", "memtest"];
    assert!(script.expanded.iter().all(|name| own.contains(&name.as_str())), "{:?}", script.expanded);
}
