//! What is on disk after a system was published, and what publishing again does.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use boot_model::{GenerationRef, Timestamp};
use generations::{Layout, Snapshot, scan};
use nix_format::closure::Closure;
use nix_format::signature::{PublicKeys, SecretKey};
use publish::{DEFAULT_LEVEL, Event, Outcome, PublishError, Publisher, Request, Roles, Store, verify};
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
        let key = SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32]);
        Self { layout: Layout::new(test.state()), store: Store::at(test.root()), keys: vec![key], test }
    }

    fn publish(&self, system: &str) -> Result<Outcome, PublishError> {
        self.publish_as(system, None)
    }

    fn publish_as(&self, system: &str, number: Option<u32>) -> Result<Outcome, PublishError> {
        let toplevel = support::store_path(&format!("nixos-system-{system}"));
        self.publish_heard(toplevel, number, &|_| {})
    }

    fn publish_heard(
        &self,
        toplevel: boot_model::StorePath,
        number: Option<u32>,
        report: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Outcome, PublishError> {
        let publisher =
            Publisher { layout: &self.layout, store: &self.store, keys: &self.keys, level: DEFAULT_LEVEL, report };
        let date = Timestamp::from_unix_millis(1_795_000_000_000);
        publisher.publish(&Request { role: "lab".parse().unwrap(), toplevel, number, date })
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = scan(&self.layout, &Snapshot::default()).unwrap();
        assert_eq!(snapshot.problems, []);
        snapshot
    }

    /// Ids, highest first, and the default.
    fn published(&self) -> (Vec<String>, String) {
        let snapshot = self.snapshot();
        let role = &snapshot.roles[&"lab".parse().unwrap()];
        let ids = role.generations.iter().map(|p| p.generation.id.to_string()).collect();
        (ids, role.default_generation().unwrap().generation.id.to_string())
    }

    fn public_keys(&self) -> PublicKeys {
        self.keys.iter().map(SecretKey::public_key).collect()
    }

    fn assert_sound(&self, generation: &GenerationRef) {
        assert_eq!(verify(&self.layout, std::slice::from_ref(generation), &self.public_keys(), |_| {}), []);
    }
}

#[test]
fn a_published_system_is_whole() {
    let site = Site::new();
    let toplevel = site.test.system("one");
    let Outcome { generation, new } = site.publish("one").unwrap();
    assert!(new);
    assert_eq!(generation.to_string(), format!("lab/1-{}", toplevel.hash().short()));
    site.assert_sound(&generation);

    let snapshot = site.snapshot();
    let published = &snapshot.find(&generation).unwrap().generation;
    let entry = published.system();
    assert_eq!(entry.label.as_str(), "NixOS one");
    assert_eq!(entry.kernel_version.as_ref().unwrap().as_str(), "6.12.58");
    let kernel = site.layout.generation(&generation).join(boot_model::generation::boot_file(entry.kernel));
    assert_eq!(fs::read_to_string(kernel).unwrap(), "a kernel");

    let closure: Closure =
        fs::read_to_string(site.layout.generation(&generation).join(Layout::CLOSURE_NAME)).unwrap().parse().unwrap();
    assert_eq!(closure.paths().len(), 4);
    assert_eq!(closure.paths().last().unwrap().store_path, toplevel, "references come first");
    assert!(closure.paths().iter().all(|info| info.verify(&site.public_keys()).is_some()));
    assert_eq!(fs::read_to_string(site.layout.source(&generation.role)).unwrap(), "manual\n");
}

#[test]
fn specialisations_are_entries_with_their_own_closure() {
    let site = Site::new();
    let dark = site.test.system_with("dark", |spec| {
        spec["org.nixos.bootspec.v1"]["kernelParams"] = serde_json::json!(["dark"]);
    });
    let boot_json = fs::read_to_string(site.test.on_disk(&dark).join("boot.json")).unwrap();
    let toplevel = site.test.system_with("one", |spec| {
        spec["org.nixos.specialisation.v1"]["dark"] = serde_json::from_str(&boot_json).unwrap();
    });
    let generation = site.publish("one").unwrap().generation;
    site.assert_sound(&generation);
    let snapshot = site.snapshot();
    let published = &snapshot.find(&generation).unwrap().generation;
    let names: Vec<_> = published.entries.iter().map(|e| e.specialisation.as_ref().map(ToString::to_string)).collect();
    assert_eq!(names, [None, Some("dark".to_owned())]);
    assert_eq!(published.entries[1].toplevel, dark);
    assert_eq!(published.entries[1].kernel_parameters[0].as_str(), "dark");
    // Each toplevel and library, and the kernel and initrd that both share.
    assert_eq!(published.closure.paths, 6);
    assert_eq!(published.system().toplevel, toplevel);
}

#[test]
fn the_newest_again_only_moves_the_default() {
    let site = Site::new();
    site.test.system("one");
    site.test.system("two");
    let one = site.publish("one").unwrap().generation;
    let two = site.publish("two").unwrap().generation;
    Roles { layout: &site.layout, report: &|_| {} }.rollback(&"lab".parse().unwrap()).unwrap();
    assert_eq!(site.published(), (vec![two.id.to_string(), one.id.to_string()], one.id.to_string()));

    assert_eq!(site.publish("two").unwrap(), Outcome { generation: two.clone(), new: false });
    assert_eq!(site.published(), (vec![two.id.to_string(), one.id.to_string()], two.id.to_string()));

    // An older system is a new generation, as in a Nix profile.
    let three = site.publish("one").unwrap();
    assert!(three.new);
    assert_eq!(three.generation.id.number(), 3);
}

#[test]
fn each_path_is_packed_once() {
    let site = Site::new();
    let (one, two) = (site.test.system("one"), site.test.system("two"));
    let packing = Mutex::new(Vec::new());
    let report = |event: Event<'_>| {
        if let Event::Packing { paths, reused, .. } = event {
            packing.lock().unwrap().push((paths, reused));
        }
    };
    site.publish_heard(one, None, &report).unwrap();
    site.publish_heard(two, None, &report).unwrap();
    assert_eq!(packing.into_inner().unwrap(), [(4, 0), (2, 2)]);
}

/// What another server shows is whole at every moment, if the cache comes before what needs it.
#[test]
fn a_copy_in_the_order_cache_generation_default_serves() {
    let site = Site::new();
    site.test.system("one");
    site.test.system("two");
    let [one, two] = ["one", "two"].map(|system| site.publish(system).unwrap().generation);
    Roles { layout: &site.layout, report: &|_| {} }.set_default(&one).unwrap();
    let place = tempfile::tempdir().unwrap();
    let other = Site { layout: Layout::new(place.path()), ..Site::new() };
    let copy = |from: PathBuf| {
        let to = place.path().join(from.strip_prefix(site.layout.root()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").args(["-a".as_ref(), from.as_os_str(), to.as_os_str()]).status().unwrap().success());
    };
    copy(site.layout.cache());
    assert!(other.snapshot().roles.is_empty(), "a cache alone is no generation");
    for generation in [&one, &two] {
        copy(site.layout.generation(generation));
        other.assert_sound(generation);
        assert_eq!(other.published().1, generation.id.to_string(), "the newest, as long as nothing else is named");
    }
    copy(site.layout.default_link(&one.role));
    assert_eq!(other.published(), site.published());
}

#[test]
fn numbers_are_given_or_counted() {
    let site = Site::new();
    site.test.system("one");
    site.test.system("two");
    assert_eq!(site.publish_as("one", Some(42)).unwrap().generation.id.number(), 42);
    let taken = site.publish_as("two", Some(42)).unwrap_err().to_string();
    assert!(taken.starts_with("the number 42 of role lab is already 42-"), "{taken}");
    assert_eq!(site.publish("two").unwrap().generation.id.number(), 43);
}

#[test]
fn a_damaged_generation_is_replaced_and_a_damaged_pack_made_again() {
    let site = Site::new();
    site.test.system("one");
    let generation = site.publish("one").unwrap().generation;
    let directory = site.layout.generation(&generation);
    let closure: Closure = fs::read_to_string(directory.join(Layout::CLOSURE_NAME)).unwrap().parse().unwrap();
    let pack = site.layout.cache().join(&closure.paths()[0].url);
    fs::write(directory.join(Layout::CLOSURE_NAME), "torn").unwrap();
    fs::write(&pack, "torn").unwrap();
    let findings = verify(&site.layout, std::slice::from_ref(&generation), &site.public_keys(), |_| {});
    assert_eq!(findings[0].path, directory.join(Layout::CLOSURE_NAME));

    assert!(site.publish("one").unwrap().new);
    site.assert_sound(&generation);
}

#[test]
fn a_pack_that_is_gone_is_made_again_for_a_generation_that_is_published() {
    let site = Site::new();
    site.test.system("one");
    let generation = site.publish("one").unwrap().generation;
    for pack in fs::read_dir(site.layout.cache().join(Layout::NAR_NAME)).unwrap().flatten() {
        fs::remove_file(pack.path()).unwrap();
    }
    assert!(site.publish("one").unwrap().new);
    site.assert_sound(&generation);
    assert!(!site.publish("one").unwrap().new);
}

#[test]
fn verify_reads_the_pack_that_clients_are_told_of() {
    let site = Site::new();
    site.test.system("one");
    let generation = site.publish("one").unwrap().generation;
    let kernel = support::store_path("linux-6.12.58");
    let narinfo = site.layout.cache().join(Layout::narinfo_name(kernel.hash()));
    let text = fs::read_to_string(&narinfo).unwrap();
    fs::write(&narinfo, text.replace("URL: nar/", "URL: nar/0")).unwrap();
    let findings = verify(&site.layout, std::slice::from_ref(&generation), &site.public_keys(), |_| {});
    assert!(matches!(&findings[..], [only] if only.problem.contains("No such file")), "{findings:?}");
    assert!(site.publish("one").unwrap().new);
    site.assert_sound(&generation);
}

#[test]
fn verify_names_each_file_that_changed() {
    let site = Site::new();
    site.test.system("one");
    let generation = site.publish("one").unwrap().generation;
    let directory = site.layout.generation(&generation);
    let closure: Closure = fs::read_to_string(directory.join(Layout::CLOSURE_NAME)).unwrap().parse().unwrap();
    let pack = site.layout.cache().join(&closure.paths()[0].url);
    let mut bytes = fs::read(&pack).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&pack, bytes).unwrap();
    let findings = verify(&site.layout, std::slice::from_ref(&generation), &site.public_keys(), |_| {});
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].path, pack);

    let stranger = SecretKey::from_seed("other".parse().unwrap(), &[9; 32]).public_key();
    let findings = verify(&site.layout, &[generation], &[stranger].into_iter().collect(), |_| {});
    assert!(findings.iter().any(|f| f.problem.contains("signed by: site-1; trusted: other")), "{findings:?}");
}

#[test]
fn what_was_packed_under_the_old_key_is_signed_by_the_new_one() {
    signs_anew_with("site-2");
}

#[test]
fn a_new_key_of_the_old_name_signs_too() {
    signs_anew_with("site-1");
}

/// Two systems share paths; between their publications the site's key (`site-1`) becomes another one of this name.
fn signs_anew_with(name: &str) {
    let mut site = Site::new();
    site.test.system("one");
    site.test.system("two");
    site.publish("one").unwrap();
    site.keys = vec![SecretKey::from_seed(name.parse().unwrap(), &[2; 32])];
    let generation = site.publish("two").unwrap().generation;
    site.assert_sound(&generation);
}

#[test]
fn a_damaged_narinfo_is_never_signed_but_made_again() {
    let mut site = Site::new();
    site.test.system("one");
    site.test.system("two");
    site.publish("one").unwrap();
    let kernel = support::store_path("linux-6.12.58");
    let narinfo = site.layout.cache().join(Layout::narinfo_name(kernel.hash()));
    let good = fs::read_to_string(&narinfo).unwrap();
    fs::write(&narinfo, good.replace("NarSize: ", "NarSize: 1")).unwrap();
    // The new key must not vouch for it either.
    site.keys.push(SecretKey::from_seed("site-2".parse().unwrap(), &[2; 32]));
    let generation = site.publish("two").unwrap().generation;
    site.assert_sound(&generation);
    assert!(fs::read_to_string(&narinfo).unwrap().starts_with(good.split("Sig:").next().unwrap()));
}

#[test]
fn without_a_key_nothing_is_published() {
    let mut site = Site::new();
    site.test.system("one");
    site.keys.clear();
    assert!(matches!(site.publish("one"), Err(PublishError::NoKey)));
    assert_eq!(site.snapshot().roles.len(), 0);
}

#[test]
fn the_default_is_kept_and_the_last_generation_takes_the_role_along() {
    let site = Site::new();
    site.test.system("one");
    site.test.system("two");
    let roles = Roles { layout: &site.layout, report: &|_| {} };
    let one = site.publish("one").unwrap().generation;
    let two = site.publish("two").unwrap().generation;
    assert!(roles.remove(&two).unwrap_err().to_string().contains("is what the room boots unasked"));
    roles.remove(&one).unwrap();
    assert!(roles.remove(&one).unwrap_err().to_string().contains("is not published"));
    assert!(roles.rollback(&one.role).unwrap_err().to_string().contains("nothing older"));
    roles.remove(&two).unwrap();
    assert_eq!(site.snapshot().roles.len(), 0);
}
