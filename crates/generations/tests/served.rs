//! The table of served names: what it gives, and what it never gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use boot_model::Timestamp;
use boot_model::event::Content;
use common::{KERNEL, digest, publish, toplevel};
use generations::{CacheIndex, Layout, NotServed, Removed, ServedNames, Snapshot, scan};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

fn table(with_cache: bool) -> (tempfile::TempDir, ServedNames) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    publish(&layout, 1, 'a');
    let snapshot = scan(&layout, &Snapshot::default()).unwrap();
    let (index, problems) = CacheIndex::build(&layout, &snapshot, &CacheIndex::default());
    assert_eq!(problems, []);
    (directory, ServedNames::new(Arc::new(snapshot), with_cache.then(|| Arc::new(index))))
}

#[test]
fn each_form_of_name_has_its_file() {
    let (_keep, names) = table(true);
    let mac = "52:54:00:77:00:01".parse().unwrap();
    let kernel = digest(KERNEL);
    let hash = toplevel('a').hash();
    for (name, content, file) in [
        ("lpxelinux.0".to_owned(), Content::Loader, "loaders/lpxelinux.0".to_owned()),
        ("/efi64//ldlinux.e64".to_owned(), Content::Loader, "loaders/efi64/ldlinux.e64".to_owned()),
        ("pxelinux.cfg/default".to_owned(), Content::Menu, "menus/current/10.77.0.1/pxelinux.cfg/default".to_owned()),
        (
            "pxelinux.cfg/01-52-54-00-77-00-01".to_owned(),
            Content::Menu,
            "menus/current/10.77.0.1/pxelinux.cfg/01-52-54-00-77-00-01".to_owned(),
        ),
        (
            "efi64/pxelinux.cfg/01-52-54-00-77-00-01".to_owned(),
            Content::Menu,
            "menus/current/10.77.0.1/efi/01-52-54-00-77-00-01".to_owned(),
        ),
        ("/grub/grub.cfg".to_owned(), Content::Menu, "menus/current/10.77.0.1/grub/grub.cfg".to_owned()),
        (
            "/grub/arm64/01-52-54-00-77-00-01.cfg".to_owned(),
            Content::Menu,
            "menus/current/10.77.0.1/grub/arm64/01-52-54-00-77-00-01.cfg".to_owned(),
        ),
        (
            "boot-arm64.ipxe".to_owned(),
            Content::Menu,
            "menus/current/10.77.0.1/ipxe-arm64/52-54-00-77-00-01.ipxe".to_owned(),
        ),
        ("boot.ipxe".to_owned(), Content::Menu, "menus/current/10.77.0.1/ipxe/52-54-00-77-00-01.ipxe".to_owned()),
        (format!("boot/lab/1-aaaaaaaa/{kernel}"), Content::Boot, format!("generations/lab/1-aaaaaaaa/boot/{kernel}")),
        (
            "generations/lab/1-aaaaaaaa/closure".to_owned(),
            Content::Generation,
            "generations/lab/1-aaaaaaaa/closure".to_owned(),
        ),
        (
            "bundle/lab/7-bbbbbbbb..1-aaaaaaaa".to_owned(),
            Content::Bundle,
            "bundles/lab/7-bbbbbbbb..1-aaaaaaaa".to_owned(),
        ),
        ("nix-cache-info".to_owned(), Content::Narinfo, "cache/nix-cache-info".to_owned()),
        (format!("{hash}.narinfo"), Content::Narinfo, format!("cache/{hash}.narinfo")),
        (format!("{hash}.ls"), Content::Narinfo, format!("cache/{hash}.ls")),
        ("nar/a.nar.zst".to_owned(), Content::Nar, "cache/nar/a.nar.zst".to_owned()),
    ] {
        let served = names.resolve(&name, SERVER, Some(mac)).unwrap();
        assert_eq!((served.content, &served.candidates[0]), (content, &PathBuf::from(file)), "{name}");
    }
    let script = names.resolve("boot.ipxe", SERVER, None).unwrap();
    assert_eq!(script.candidates, [PathBuf::from("menus/current/10.77.0.1/ipxe/default.ipxe")]);
}

#[test]
fn what_the_table_does_not_name_is_not_served() {
    let (_keep, names) = table(true);
    let unpublished = toplevel('b').hash();
    for (name, reason) in [
        ("", NotServed::UnknownName),
        ("../etc/shadow", NotServed::UnknownName),
        ("boot/../../etc/shadow", NotServed::UnknownName),
        (".ssh/id_ed25519", NotServed::UnknownName),
        ("loaders.json", NotServed::UnknownName),
        ("a\\b", NotServed::UnknownName),
        ("pxelinux.cfg/0A4D00C7", NotServed::UnknownName),
        ("grub/x86_64/../../x.cfg", NotServed::UnknownName),
        ("grub/x86_64/grub.cfg", NotServed::UnknownName),
        ("grub/x86_64/default", NotServed::UnknownName),
        ("boot/lab/2-bbbbbbbb/x", NotServed::NoGeneration("lab/2-bbbbbbbb".parse().unwrap())),
        ("boot/lab/1-aaaaaaaa/generation.json", NotServed::NoFile("lab/1-aaaaaaaa".parse().unwrap())),
        ("generations/lab/1-aaaaaaaa/boot", NotServed::NoFile("lab/1-aaaaaaaa".parse().unwrap())),
        ("bundle/lab/1-aaaaaaaa..2-bbbbbbbb", NotServed::NoGeneration("lab/2-bbbbbbbb".parse().unwrap())),
        ("bundle/lab/1-aaaaaaaa", NotServed::UnknownName),
        ("bundle/../1-aaaaaaaa..1-aaaaaaaa", NotServed::UnknownName),
        ("bundle/lab/01-aaaaaaaa..1-aaaaaaaa", NotServed::UnknownName),
        ("bundle/lab/.staging-x", NotServed::UnknownName),
        ("nar/b.nar.zst", NotServed::NotInAnyClosure),
        (&format!("{unpublished}.narinfo"), NotServed::NotInAnyClosure),
    ] {
        assert_eq!(names.resolve(name, SERVER, None), Err(reason), "{name:?}");
    }
}

#[test]
fn tftp_serves_no_packs() {
    let (_keep, names) = table(false);
    for name in [
        "bundle/lab/1-aaaaaaaa..1-aaaaaaaa",
        "nar/a.nar.zst",
        "nix-cache-info2/x.narinfo",
        &format!("{}.narinfo", toplevel('a').hash()),
    ] {
        assert!(names.resolve(name, SERVER, None).map_or(true, |served| served.content == Content::Loader), "{name}");
    }
    assert!(names.resolve("lpxelinux.0", SERVER, None).is_ok());
}

#[test]
fn what_was_removed_is_fetched_until_it_is_collected() {
    let (directory, _) = table(true);
    let layout = Layout::new(directory.path());
    let resolve = || {
        let snapshot = scan(&layout, &Snapshot::default()).unwrap();
        let (index, problems) = CacheIndex::build(&layout, &snapshot, &CacheIndex::default());
        assert_eq!(problems, []);
        ServedNames::new(Arc::new(snapshot), Some(Arc::new(index))).resolve("nar/a.nar.zst", SERVER, None)
    };
    let moment = Timestamp::from_unix_millis(1_000);
    for (published, name) in [("lab/1-aaaaaaaa", "lab-1-aaaaaaaa"), ("lab", "lab")] {
        let aside = layout.removed().join(Removed::name(moment, name));
        fs::create_dir_all(layout.removed()).unwrap();
        fs::rename(layout.generations().join(published), &aside).unwrap();
        assert_eq!(Removed::list(&layout).unwrap(), [Removed { path: aside.clone(), at: moment }]);
        assert!(resolve().is_ok(), "{published}");
        fs::remove_dir_all(aside).unwrap();
        assert_eq!(resolve(), Err(NotServed::NotInAnyClosure), "{published}");
        publish(&layout, 1, 'a');
    }
}
