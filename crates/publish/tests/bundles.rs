//! Update bundles of little closures: what they weigh, and that a client gets the very paths from them.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use boot_model::{GenerationRef, StorePath, Timestamp};
use generations::Layout;
use nix_format::bundle::{Base, BundledPath, Head, Index, Limits, Record, Records, Source};
use nix_format::closure::Closure;
use nix_format::signature::SecretKey;
use publish::{Bundle, Bundler, BundlingError, DEFAULT_LEVEL, Event, Publisher, Request, Roles, Store};
use sha2::{Digest as _, Sha256};
use support::{TestStore, rebuilt_path};

struct Site {
    test: TestStore,
    layout: Layout,
}

impl Site {
    fn new() -> Self {
        let test = TestStore::new();
        Self { layout: Layout::new(test.state()), test }
    }

    fn publish(&self, toplevel: &StorePath) -> GenerationRef {
        let store = Store::at(self.test.root());
        let keys = [SecretKey::from_seed("site-1".parse().unwrap(), &[1; 32])];
        let publisher =
            Publisher { layout: &self.layout, store: &store, keys: &keys, level: DEFAULT_LEVEL, report: &|_| {} };
        let date = Timestamp::from_unix_millis(0);
        let request = Request { role: "lab".parse().unwrap(), toplevel: toplevel.clone(), number: None, date };
        publisher.publish(&request).unwrap().generation
    }

    fn results(&self) -> Vec<Result<Bundle, BundlingError>> {
        let stop = AtomicBool::new(false);
        let bundler = Bundler { layout: &self.layout, report: &|_| {}, stop: &stop };
        bundler.make_missing(&"lab".parse().unwrap()).unwrap()
    }

    fn bundles(&self) -> Vec<Bundle> {
        self.results().into_iter().map(Result::unwrap).collect()
    }

    /// What lies in the role's folder of bundles.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.layout.bundles().join("lab")).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// A system whose paths get their hashes from `build`: a library, a program that names the library and itself, kernel modules
    /// of `version`, and the toplevel.
    fn build(&self, build: &str, version: &str) -> StorePath {
        let noise = noise(300_000);
        let library = self.path(build, "libmath-2.1", &[], |path| {
            fs::create_dir_all(path.join("lib")).unwrap();
            fs::write(path.join("lib/libmath.so.2.1"), &noise).unwrap();
            symlink("libmath.so.2.1", path.join("lib/libmath.so")).unwrap();
        });
        let own = rebuilt_path(build, "program-1.0");
        let program = self.path(build, "program-1.0", &[&library, &own], |path| {
            fs::create_dir_all(path.join("bin")).unwrap();
            let mut binary = noise[..100_000].to_vec();
            binary.extend_from_slice(format!("{library}/lib\0{own}/share\0").as_bytes());
            binary.extend_from_slice(&noise[100_000..]);
            fs::write(path.join("bin/program"), binary).unwrap();
            fs::set_permissions(path.join("bin/program"), Permissions::from_mode(0o755)).unwrap();
            fs::write(path.join("empty"), "").unwrap();
        });
        let modules = self.path(build, &format!("linux-{version}-modules"), &[], |path| {
            let folder = path.join("lib/modules").join(version);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("card.ko"), [&noise[..], version.as_bytes()].concat()).unwrap();
            fs::write(path.join("version"), version).unwrap();
        });
        let (kernel, initrd, _) = self.test.parts("shared");
        self.path(build, "nixos-system-lab-26.05", &[&library, &program, &modules, &kernel, &initrd], |path| {
            self.test.fill_toplevel(path, &kernel, &initrd);
            symlink(format!("{program}/bin"), path.join("sw")).unwrap();
        })
    }

    fn path(&self, build: &str, name: &str, references: &[&StorePath], fill: impl FnOnce(&Path)) -> StorePath {
        let path = rebuilt_path(build, name);
        fill(&self.test.on_disk(&path));
        self.test.register(&path, references);
        path
    }

    /// Applies a bundle as a client that has the old generation on its disk; returns what each path became.
    fn apply(&self, bundle: &Bundle) -> Vec<(StorePath, PathBuf)> {
        let bytes = fs::read(self.layout.bundle(&bundle.new.role, bundle.old.id, bundle.new.id)).unwrap();
        assert_eq!(bytes.len() as u64, bundle.bytes);
        let index = index(&bytes);
        assert_eq!((index.bundle_size(), index.paths().len() as u64), (bundle.bytes, bundle.paths));
        index
            .paths()
            .map(|path| {
                let target = self.test.file("applied").join(path.store_path().base_name());
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                let mut client =
                    Client { site: self, index: &index, path, bytes: &bytes, at: path.frames().start as usize };
                client.node(&mut path.records(), &target, Path::new(""));
                (path.store_path().clone(), target)
            })
            .collect()
    }
}

struct Client<'a> {
    site: &'a Site,
    index: &'a Index,
    path: BundledPath<'a>,
    bytes: &'a [u8],
    at: usize,
}

impl Client<'_> {
    fn node(&mut self, records: &mut Records<'_>, target: &Path, name: &Path) {
        match records.next().unwrap() {
            Record::Directory => {
                fs::create_dir(target).unwrap();
                while let Some(Record::Entry(entry)) = records.next() {
                    let entry = std::ffi::OsStr::from_bytes(entry);
                    self.node(records, &target.join(entry), &name.join(entry));
                }
            }
            Record::Symlink(to) => symlink(std::ffi::OsStr::from_bytes(to), target).unwrap(),
            Record::File { executable, source } => {
                fs::write(target, self.contents(source, name)).unwrap();
                fs::set_permissions(target, Permissions::from_mode(if executable { 0o555 } else { 0o444 })).unwrap();
            }
            record => panic!("{record:?}"),
        }
    }

    fn contents(&mut self, source: Source<'_>, name: &Path) -> Vec<u8> {
        match source {
            Source::Copy { base } => self.base(base, name),
            Source::Patch { base, size, frame } => {
                let base = self.base(base, name);
                let mut decoder = zstd::Decoder::with_ref_prefix(self.frame(frame), &base).unwrap();
                decoder.window_log_max(27).unwrap();
                let contents = read(decoder);
                assert_eq!(contents.len() as u64, size);
                contents
            }
            Source::Data { frame, .. } => zstd::decode_all(self.frame(frame)).unwrap(),
        }
    }

    fn frame(&mut self, size: u64) -> &[u8] {
        self.at += size as usize;
        &self.bytes[self.at - size as usize..self.at]
    }

    fn base(&self, base: Base<'_>, name: &Path) -> Vec<u8> {
        let (path, name) = match base {
            Base::Same => (self.path.base().unwrap(), name),
            Base::Other { path, name } => (path, Path::new(std::ffi::OsStr::from_bytes(name))),
        };
        let mut contents = fs::read(self.site.test.on_disk(path).join(name)).unwrap();
        self.index.renames().apply(&mut contents);
        contents
    }
}

fn read(mut from: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

fn index(bytes: &[u8]) -> Index {
    let head = Head::parse(bytes[..Head::SIZE].try_into().unwrap()).unwrap();
    let frame = &bytes[Head::SIZE..head.frames_begin() as usize];
    Index::parse(&head, zstd::decode_all(frame).unwrap(), Limits::NONE).unwrap()
}

/// Bytes that don't compress.
fn noise(size: usize) -> Vec<u8> {
    (0_u64..).flat_map(|block| Sha256::digest(block.to_le_bytes())).take(size).collect()
}

#[test]
fn a_rebuild_that_changed_hashes_alone_weighs_next_to_nothing() {
    let site = Site::new();
    let first = site.publish(&site.build("one", "6.12.58"));
    assert_eq!(site.bundles(), [], "there is nothing before it");
    let second = site.publish(&site.build("two", "6.12.58"));
    let bundles = site.bundles();
    let [bundle] = &bundles[..] else { panic!("{bundles:?}") };
    assert_eq!((&bundle.old, &bundle.new, bundle.paths, bundle.plain), (&first, &second, 4, 0));
    assert!(bundle.replaces > 600_000 && bundle.bytes < bundle.replaces / 100, "{bundle:?}");
    assert_eq!(site.bundles(), [], "it is there");
    assert_eq!(site.names(), [Layout::bundle_name(first.id, second.id)]);
}

#[test]
fn a_client_gets_the_very_paths_by_nixs_own_account() {
    let site = Site::new();
    site.publish(&site.build("one", "6.12.58"));
    let second = site.publish(&site.build("two", "6.12.63"));
    let bundle = site.bundles().remove(0);
    assert!(bundle.bytes < bundle.replaces / 50, "the modules are found under their new names: {bundle:?}");
    let manifest = fs::read_to_string(site.layout.generation(&second).join(Layout::CLOSURE_NAME)).unwrap();
    let manifest: Closure = manifest.parse().unwrap();
    let applied = site.apply(&bundle);
    assert_eq!(applied.len(), 4);
    for (path, target) in applied {
        let dump = site.test.nix("nix-store", &["--dump", target.to_str().unwrap()]).stdout;
        let info = manifest.paths().iter().find(|info| info.store_path == path).unwrap();
        assert_eq!(&Sha256::digest(dump)[..], info.nar_hash.bytes(), "{path}");
    }
}

#[test]
fn what_resembles_nothing_comes_as_its_pack() {
    let site = Site::new();
    site.publish(&site.test.system("one"));
    site.publish(&site.test.system("two"));
    let bundle = site.bundles().remove(0);
    assert_eq!((bundle.paths, bundle.plain, bundle.replaces), (0, 2, 0));
    assert!(bundle.bytes < 100, "it says so, and need not be made again: {bundle:?}");
    assert_eq!(site.bundles(), []);
}

#[test]
fn from_the_last_two_to_the_newest_and_to_the_default() {
    let site = Site::new();
    let builds = ["one", "two", "three", "four"].map(|build| site.build(build, "6.12.58"));
    let [first, second, third, fourth] = builds.each_ref().map(|build| site.publish(build));
    let made = |site: &Site| site.bundles().iter().map(|b| (b.old.clone(), b.new.clone())).collect::<Vec<_>>();
    assert_eq!(made(&site), [(third.clone(), fourth.clone()), (second.clone(), fourth.clone())]);
    let roles = Roles { layout: &site.layout, report: &|_| {} };
    roles.set_default(&third).unwrap();
    assert_eq!(made(&site), [(second.clone(), third.clone()), (first.clone(), third.clone())]);

    // A generation that is published again under its id may have other paths: what led from it and to it is made anew.
    roles.remove(&fourth).unwrap();
    assert_eq!(site.publish(&builds[3]), fourth);
    assert_eq!(site.names().len(), 2);
    assert_eq!(made(&site), [(third, fourth.clone()), (second, fourth)]);
}

#[test]
fn a_wrong_bundle_is_not_kept() {
    let site = Site::new();
    site.publish(&site.build("one", "6.12.58"));
    let second = site.publish(&site.build("two", "6.12.58"));
    // The pack of one path has another's contents: well-formed, and not what the manifest says.
    let manifest = fs::read_to_string(site.layout.generation(&second).join(Layout::CLOSURE_NAME)).unwrap();
    let manifest: Closure = manifest.parse().unwrap();
    let pack = |name: &str| {
        let info = manifest.paths().iter().find(|info| info.store_path.name().starts_with(name)).unwrap();
        site.layout.cache().join(&info.url)
    };
    let (wrong, right) = (fs::read(pack("program")).unwrap(), fs::read(pack("libmath")).unwrap());
    fs::write(pack("libmath"), wrong).unwrap();
    let problem = site.results().remove(0).unwrap_err().to_string();
    assert!(problem.contains("is not kept, for it is wrong") && problem.contains("libmath-2.1"), "{problem}");
    fs::write(pack("libmath"), "torn").unwrap();
    let problem = site.results().remove(0).unwrap_err().to_string();
    assert!(problem.contains("libmath-2.1 cannot be read from the cache"), "{problem}");
    assert_eq!(site.names(), [] as [&str; 0]);
    fs::write(pack("libmath"), right).unwrap();
    assert_eq!(site.bundles().len(), 1);
}

#[test]
fn what_is_interrupted_leaves_nothing_and_is_made_later() {
    let site = Site::new();
    site.publish(&site.build("one", "6.12.58"));
    site.publish(&site.build("two", "6.12.58"));
    let stop = AtomicBool::new(false);
    // In the middle of making it, and in the middle of trying it.
    for count in [1, 5] {
        let seen = std::sync::atomic::AtomicUsize::new(0);
        stop.store(false, std::sync::atomic::Ordering::SeqCst);
        let report = |event: Event<'_>| {
            let bundled = matches!(event, Event::Bundled { .. });
            if bundled && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == count {
                stop.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        };
        let results = Bundler { layout: &site.layout, report: &report, stop: &stop };
        let results = results.make_missing(&"lab".parse().unwrap()).unwrap();
        assert!(matches!(results[..], [Err(BundlingError::Stopped)]), "{count}: {results:?}");
        assert_eq!(site.names(), [] as [&str; 0], "{count}");
    }
    fs::write(site.layout.bundles().join("lab/.staging-bundle"), "half of it").unwrap();
    assert_eq!(site.bundles().len(), 1);
    assert_eq!(site.names().len(), 1);
}
