//! Stock Nix drives the room: nix-env changes a profile, and what is published follows.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use boot_model::{StorePath, Timestamp};
use generations::{Layout, Snapshot, scan};
use nix_format::signature::SecretKey;
use publish::{DEFAULT_LEVEL, Follower, Pass, Publisher, Request, Roles, Store, Wake};
use support::TestStore;

struct Site {
    test: TestStore,
    layout: Layout,
    store: Store,
    keys: Vec<SecretKey>,
}

impl Site {
    fn new() -> Self {
        let test = TestStore::new();
        fs::create_dir(test.file("profiles")).unwrap();
        let key = SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32]);
        Self { layout: Layout::new(test.state()), store: Store::at(test.root()), keys: vec![key], test }
    }

    fn profiles(&self) -> PathBuf {
        self.test.file("profiles")
    }

    fn publisher(&self) -> Publisher<'_> {
        Publisher { layout: &self.layout, store: &self.store, keys: &self.keys, level: DEFAULT_LEVEL, report: &|_| {} }
    }

    fn pass(&self) -> Pass {
        Follower { publisher: &self.publisher(), profiles: self.profiles(), bundles: true }.pass().unwrap()
    }

    /// A pass that must find nothing wrong.
    fn clean_pass(&self) -> Pass {
        let pass = self.pass();
        assert_eq!(pass.problems, [] as [&str; 0]);
        pass
    }

    fn nix_env(&self, arguments: &[&str]) {
        let profile = self.profiles().join("lab");
        let all = [&["--profile", profile.to_str().unwrap()], arguments].concat();
        self.test.nix("nix-env", &all);
    }

    /// Numbers with the beginning of their hashes, highest first, and the default's number.
    fn published(&self) -> (Vec<String>, u32) {
        let snapshot = scan(&self.layout, &Snapshot::default()).unwrap();
        assert_eq!(snapshot.problems, []);
        let role = &snapshot.roles[&"lab".parse().unwrap()];
        let ids = role.generations.iter().map(|p| p.generation.id.to_string()).collect();
        (ids, role.default_generation().unwrap().generation.id.number())
    }
}

fn id(number: u32, toplevel: &StorePath) -> String {
    format!("{number}-{}", toplevel.hash().short())
}

#[test]
fn set_rollback_and_delete_are_mirrored_and_numbers_used_again() {
    let site = Site::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| site.test.system(name));
    site.nix_env(&["--set", one.as_str()]);
    site.nix_env(&["--set", two.as_str()]);
    let pass = site.clean_pass();
    assert_eq!(pass.published.iter().map(|g| g.id.number()).collect::<Vec<_>>(), [2, 1], "the default's first");
    assert_eq!(site.published(), (vec![id(2, &two), id(1, &one)], 2));
    assert_eq!(site.clean_pass(), Pass::default(), "nothing changed, nothing done");

    site.nix_env(&["--rollback"]);
    let pass = site.clean_pass();
    assert_eq!((pass.published.len(), pass.removed.len(), pass.defaults.len()), (0, 0, 1));
    assert_eq!(site.published(), (vec![id(2, &two), id(1, &one)], 1));

    site.nix_env(&["--delete-generations", "2"]);
    assert_eq!(site.clean_pass().removed.len(), 1);
    assert_eq!(site.published(), (vec![id(1, &one)], 1));

    // Number 2 is given again, to another system; and once more between two looks.
    site.nix_env(&["--set", three.as_str()]);
    site.clean_pass();
    assert_eq!(site.published(), (vec![id(2, &three), id(1, &one)], 2));
    site.nix_env(&["--rollback"]);
    site.nix_env(&["--delete-generations", "2"]);
    site.nix_env(&["--set", two.as_str()]);
    site.clean_pass();
    assert_eq!(site.published(), (vec![id(2, &two), id(1, &one)], 2));
}

/// The last number is used again: what led to the one that had it is of no use to the one that has it.
#[test]
fn bundles_follow_too() {
    let site = Site::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| site.test.system(name));
    let bundles = |pass: &Pass| pass.bundles.iter().map(|b| format!("{}..{}", b.old.id, b.new.id)).collect::<Vec<_>>();
    site.nix_env(&["--set", one.as_str()]);
    site.nix_env(&["--set", two.as_str()]);
    let name = |new: &StorePath| format!("{}..{}", id(1, &one), id(2, new));
    assert_eq!(bundles(&site.clean_pass()), [name(&two)]);
    assert_eq!(site.clean_pass(), Pass::default(), "they are there");

    site.nix_env(&["--rollback"]);
    site.nix_env(&["--delete-generations", "2"]);
    site.nix_env(&["--set", three.as_str()]);
    assert_eq!(bundles(&site.clean_pass()), [name(&three)]);
    for toplevel in [&two, &three] {
        assert!(site.layout.bundles().join("lab").join(name(toplevel)).exists(), "gc takes the old one");
    }

    fs::remove_dir_all(site.layout.bundles()).unwrap();
    let without = Follower { publisher: &site.publisher(), profiles: site.profiles(), bundles: false };
    assert_eq!(without.pass().unwrap(), Pass::default());
    assert_eq!(bundles(&site.clean_pass()), [name(&three)], "what is missing is made");
}

#[test]
fn the_date_is_the_links() {
    let site = Site::new();
    let one = site.test.system("one");
    site.nix_env(&["--set", one.as_str()]);
    let pass = site.clean_pass();
    let generation = publish::read_generation(&site.layout, &pass.published[0]).unwrap();
    let link = fs::symlink_metadata(site.profiles().join("lab-1-link")).unwrap().modified().unwrap();
    let millis = link.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(u128::from(generation.date.unix_millis()), millis);
}

#[test]
fn one_bad_generation_does_not_keep_the_others() {
    let site = Site::new();
    let one = site.test.system("one");
    let bad = site.test.system_with("bad", |spec| spec["org.nixos.bootspec.v1"]["label"] = "a\nb".into());
    site.nix_env(&["--set", one.as_str()]);
    site.nix_env(&["--set", bad.as_str()]);
    // Collected as garbage, with the link left.
    symlink(support::store_path("gone").as_str(), site.profiles().join("lab-7-link")).unwrap();

    let pass = site.pass();
    assert_eq!(site.published(), (vec![id(1, &one)], 1));
    assert_eq!(pass.problems.len(), 2, "{:?}", pass.problems);
    assert!(pass.problems[0].starts_with("lab-2-link: ") && pass.problems[0].contains("control character"));
    assert!(pass.problems[1].starts_with("lab-7-link: ") && pass.problems[1].contains("is gone from the store"));
}

#[test]
fn what_was_lost_of_a_published_generation_is_made_again() {
    let site = Site::new();
    let one = site.test.system("one");
    site.nix_env(&["--set", one.as_str()]);
    let generation = site.clean_pass().published.remove(0);
    let narinfo = site.layout.cache().join(Layout::narinfo_name(one.hash()));
    fs::remove_file(&narinfo).unwrap();
    assert_eq!(site.clean_pass().published, [generation]);
    assert!(narinfo.exists());
}

#[test]
fn an_empty_directory_removes_nothing() {
    let site = Site::new();
    let one = site.test.system("one");
    site.nix_env(&["--set", one.as_str()]);
    site.clean_pass();
    fs::rename(site.profiles(), site.test.file("unmounted")).unwrap();
    let follower = Follower { publisher: &site.publisher(), profiles: site.profiles(), bundles: true };
    assert!(follower.pass().unwrap_err().to_string().contains("cannot list"));
    fs::create_dir(site.profiles()).unwrap();
    assert!(site.pass().problems[0].contains("what is published stays until `rookery remove`"));
    assert_eq!(site.published(), (vec![id(1, &one)], 1));
}

#[test]
fn a_role_has_one_source() {
    let site = Site::new();
    let (one, two) = (site.test.system("one"), site.test.system("two"));
    site.nix_env(&["--set", one.as_str()]);
    let followed = site.clean_pass().published.remove(0);
    let date = Timestamp::from_unix_millis(0);
    let mut request = Request { role: "lab".parse().unwrap(), toplevel: two, number: None, date };
    let refused = site.publisher().publish(&request).unwrap_err().to_string();
    assert!(refused.contains("published by follow") && refused.contains("nix-env --profile"), "{refused}");
    let roles = Roles { layout: &site.layout, report: &|_| {} };
    assert!(roles.set_default(&followed).unwrap_err().to_string().contains("--rollback"));
    assert!(roles.remove(&followed).unwrap_err().to_string().contains("nix-env --delete-generations"));

    request.role = "pool".parse().unwrap();
    site.publisher().publish(&request).unwrap();
    symlink(one.as_str(), site.profiles().join("pool-1-link")).unwrap();
    let problems = site.pass().problems;
    assert!(problems[0].contains("pool is published by manual"), "{problems:?}");
}

#[test]
fn changes_are_seen_as_they_happen() {
    let site = Site::new();
    let (one, two) = (site.test.system("one"), site.test.system("two"));
    let (wake, wakes) = mpsc::channel();
    let (passed, passes) = mpsc::channel();
    thread::scope(|scope| {
        let (site, hints) = (&site, &wake);
        scope.spawn(move || {
            let publisher = site.publisher();
            let follower = Follower { publisher: &publisher, profiles: site.profiles(), bundles: true };
            follower.run(hints, &wakes, |pass| passed.send(pass.unwrap()).unwrap());
        });
        // Well below the minute after which everything is looked at again anyway.
        let next = || passes.recv_timeout(Duration::from_secs(40)).expect("the change was seen");
        assert_eq!(next(), Pass::default());
        let published = |wanted: &StorePath| {
            loop {
                let pass = next();
                if pass.published.iter().any(|g| g.id.short_hash() == wanted.hash().short()) {
                    return;
                }
            }
        };
        site.nix_env(&["--set", one.as_str()]);
        published(&one);
        // The directory is replaced by another of the same name.
        fs::rename(site.profiles(), site.test.file("old")).unwrap();
        fs::create_dir(site.test.file("new")).unwrap();
        symlink(two.as_str(), site.test.file("new/lab-2-link")).unwrap();
        fs::rename(site.test.file("new"), site.profiles()).unwrap();
        published(&two);
        // Made beside, and told by a later pass.
        while !next().bundles.iter().any(|bundle| bundle.new.id.to_string() == id(2, &two)) {}
        wake.send(Wake::Stop).unwrap();
    });
}
