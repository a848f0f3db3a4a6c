//! What is collected, and above all what is not.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boot_model::{GenerationRef, StorePath, Timestamp};
use generations::{CacheIndex, Layout, Snapshot, scan};
use nix_format::signature::{PublicKeys, SecretKey};
use publish::{
    Collected, Collection, Collector, DEFAULT_LEVEL, Publisher, Request, Roles, Store, Tally, all_generations, verify,
};
use support::TestStore;

const DAY: Duration = Duration::from_hours(24);

struct Site {
    test: TestStore,
    layout: Layout,
}

impl Site {
    fn new() -> Self {
        let test = TestStore::new();
        Self { layout: Layout::new(test.state()), test }
    }

    fn publish(&self, toplevel: StorePath) -> GenerationRef {
        let store = Store::at(self.test.root());
        let keys = [key()];
        let publisher =
            Publisher { layout: &self.layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &|_| {} };
        let date = Timestamp::from_unix_millis(0);
        let request = Request { role: "lab".parse().unwrap(), toplevel, number: None, date };
        publisher.publish(&request).unwrap().generation
    }

    fn remove(&self, generation: &GenerationRef) {
        Roles { layout: &self.layout, report: &|_| {} }.remove(generation).unwrap();
    }

    /// Collects with a day of grace, so long after now.
    fn collect(&self, later: Duration, dry_run: bool) -> Collected {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + later;
        let now = Timestamp::from_unix_millis(now.as_millis().try_into().unwrap());
        self.collector().collect(&Collection { grace: DAY, now, dry_run }).unwrap()
    }

    fn collector(&self) -> Collector<'_> {
        Collector { layout: &self.layout, report: &|_| {} }
    }

    fn has(&self, path: &StorePath) -> bool {
        self.layout.cache().join(Layout::narinfo_name(path.hash())).exists()
    }

    fn packs(&self) -> usize {
        fs::read_dir(self.layout.cache().join(Layout::NAR_NAME)).unwrap().count()
    }

    fn assert_complete(&self) {
        let keys = PublicKeys::new(vec![key().public_key()]);
        let findings = verify(&self.layout, &all_generations(&self.layout, None).unwrap(), &keys, |_| {});
        assert_eq!(findings, []);
    }

    /// Whether a client in mid-fetch still gets this path.
    fn serves(&self, path: &StorePath) -> bool {
        let snapshot = Arc::new(scan(&self.layout, &Snapshot::default()).unwrap());
        let (index, problems) = CacheIndex::build(&self.layout, &snapshot, &CacheIndex::default());
        assert_eq!(problems, []);
        index.has_path(path.hash()) && self.has(path)
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])
}

#[test]
fn what_was_removed_stays_for_the_grace_time_and_what_is_shared_for_ever() {
    let site = Site::new();
    let (one, two) = (site.test.system("one"), site.test.system("two"));
    let first = site.publish(one.clone());
    site.publish(two.clone());
    let nothing = Collected::default();
    assert_eq!(site.collect(2 * DAY, false), nothing, "all of it is published");

    site.remove(&first);
    let early = site.collect(DAY / 2, false);
    // Two paths of its own: pack, narinfo, listing of each.
    assert_eq!((early.waiting.files, early.packs.files, early.narinfos.files), (6, 0, 0));
    assert!(site.serves(&one));

    let foretold = site.collect(2 * DAY, true);
    assert!(site.serves(&one), "nothing is removed by way of trial");
    let late = site.collect(2 * DAY, false);
    assert_eq!(late, foretold);
    assert_eq!((late.waiting, late.packs.files, late.narinfos.files), (Tally::default(), 2, 4));
    assert!(late.packs.bytes > 0);
    assert!(!site.has(&one) && site.has(&two));
    assert_eq!(site.packs(), 4);
    assert_eq!(fs::read_dir(site.layout.removed()).unwrap().count(), 0);
    site.assert_complete();
    assert_eq!(site.collect(2 * DAY, false), nothing);

    site.publish(one);
    site.assert_complete();
}

/// It was needed, not needed, and needed again: the time counts from the last.
#[test]
fn the_time_begins_when_the_last_generation_is_removed() {
    let site = Site::new();
    let (one, two) = (site.test.system("one"), site.test.system("two"));
    let first = site.publish(one.clone());
    site.publish(two);
    site.remove(&first);
    let again = site.publish(one.clone());
    // The first removal's time is over, the generation stands.
    assert_eq!(site.collect(2 * DAY, false).packs.files, 0);
    site.publish(site.test.system("three"));
    site.remove(&again);
    assert_eq!(site.collect(DAY / 2, false).packs.files, 0);
    assert!(site.serves(&one));
}

#[test]
fn a_role_that_goes_leaves_its_manifests_too() {
    let site = Site::new();
    let one = site.test.system("one");
    let only = site.publish(one.clone());
    site.remove(&only);
    assert!(scan(&site.layout, &Snapshot::default()).unwrap().roles.is_empty());
    assert!(site.serves(&one));
    assert_eq!(site.collect(DAY / 2, false).waiting.files, 12);
    assert_eq!(site.collect(2 * DAY, false).packs.files, 4);
    assert_eq!(site.packs(), 0);
}

/// A copy from another server brings the cache first; and what is none of ours is none of our business.
#[test]
fn what_nothing_names_yet_and_what_others_put_there() {
    let site = Site::new();
    let one = site.test.system("one");
    let only = site.publish(one.clone());
    fs::write(site.layout.cache().join("nar/another.nar.xz"), "x").unwrap();
    fs::create_dir(site.layout.cache().join("log")).unwrap();
    fs::remove_dir_all(site.layout.generation(&only)).unwrap();
    assert_eq!(site.collect(DAY / 2, false).waiting.files, 12);
    assert!(site.has(&one));
    assert_eq!(site.collect(2 * DAY, false).packs.files, 4);
    assert_eq!(site.packs(), 1, "the other's");
    assert!(site.layout.cache().join("log").exists());
}

#[test]
fn nothing_is_collected_while_a_manifest_cannot_be_read() {
    let site = Site::new();
    let first = site.publish(site.test.system("one"));
    fs::write(site.layout.generation(&first).join(Layout::CLOSURE_NAME), "torn").unwrap();
    let collection = Collection { grace: Duration::ZERO, now: Timestamp::from_unix_millis(0), dry_run: false };
    let refused = site.collector().collect(&collection).unwrap_err().to_string();
    assert!(refused.contains("nothing is collected") && refused.contains("publish it again"), "{refused}");
    assert_eq!(site.packs(), 4);
}

/// The pack that a damaged generation's manifest named may be being fetched.
#[test]
fn a_generation_that_is_replaced_is_remembered() {
    let site = Site::new();
    let one = site.test.system("one");
    let first = site.publish(one.clone());
    let manifest = site.layout.generation(&first).join(Layout::CLOSURE_NAME);
    let before = fs::read_to_string(&manifest).unwrap();
    let last = before.rfind("\n\n").unwrap();
    fs::write(&manifest, &before[..=last]).unwrap();
    assert_eq!(site.publish(one), first);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), before);
    let remembered: Vec<_> = fs::read_dir(site.layout.removed()).unwrap().flatten().collect();
    assert_eq!(fs::read_to_string(remembered[0].path().join("closure")).unwrap(), before[..=last]);
    site.collect(2 * DAY, false);
    site.assert_complete();
}

#[test]
fn bundles_go_with_the_generation_that_they_lead_to() {
    let site = Site::new();
    let [first, second] = ["one", "two"].map(|name| site.publish(site.test.system(name)));
    let folder = site.layout.bundles().join("lab");
    fs::create_dir_all(site.layout.bundles().join("gone")).unwrap();
    fs::create_dir(&folder).unwrap();
    let kept =
        [Layout::bundle_name(first.id, second.id), Layout::bundle_name("7-99999999".parse().unwrap(), second.id)];
    let gone = Layout::bundle_name(first.id, "7-99999999".parse().unwrap());
    for name in kept.iter().chain([&gone, &".staging-bundle".to_owned()]) {
        fs::write(folder.join(name), "bundle").unwrap();
    }
    fs::write(site.layout.bundles().join("gone").join(&gone), "bundle").unwrap();
    let collected = site.collect(Duration::ZERO, false);
    assert_eq!((collected.bundles, collected.leftovers.files), (Tally { files: 2, bytes: 12 }, 1));
    let mut left: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, kept);
}
