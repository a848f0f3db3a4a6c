//! Mirroring a directory of Nix profiles, so that stock Nix tools drive the room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use boot_model::{GenerationId, GenerationRef, RoleName};
use generations::Layout;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::bundle::{Bundle, Bundler, BundlingError};
use crate::profile::{self, Profile};
use crate::publisher::{PublishError, Publisher, Request};
use crate::role::{self, RoleError};
use crate::source::Source;
use crate::verify;

/// Nix changes a profile in several renames; this long after the last of them it is at rest.
const QUIET: Duration = Duration::from_millis(200);
/// However busy the directory is, no change waits longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Events get lost (a network file system sends none at all), so everything is looked at again after this time.
const RESCAN: Duration = Duration::from_secs(60);

/// Publishes what a directory of profiles holds.
pub struct Follower<'a> {
    /// How to publish.
    pub publisher: &'a Publisher<'a>,
    /// The directory of profiles, absolute: it is remembered as the source of its roles.
    pub profiles: PathBuf,
    /// Whether to make update bundles.
    pub bundles: bool,
}

/// Why a follower that waits wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something happened in the directory.
    Hint,
    /// It shall end.
    Stop,
}

/// What one look at the profiles came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// Newly published.
    pub published: Vec<GenerationRef>,
    /// No longer in their profiles and removed.
    pub removed: Vec<GenerationRef>,
    /// Roles' defaults that moved, and whereto.
    pub defaults: Vec<GenerationRef>,
    /// Bundles that were made since the pass before.
    pub bundles: Vec<Bundle>,
    /// What could not be mirrored, and which bundles could not be made, each with its reason.
    pub problems: Vec<String>,
}

/// Whether a generation need not be published (again).
type IsThere = fn(&Layout, &GenerationRef) -> bool;

/// What came of making a role's bundles.
type Bundled = Vec<Result<Bundle, BundlingError>>;

impl Follower<'_> {
    /// Brings what is published into line with the profiles, once. What fails with one generation is a problem of that
    /// generation alone. What is published and missing or damaged is made again.
    ///
    /// # Errors
    /// If the directory can't be listed or there is no lock.
    pub fn pass(&self) -> Result<Pass, PublishError> {
        let mut pass = self.look(verify::is_servable)?;
        let stop = AtomicBool::new(false);
        for role in self.roles_to_bundle(None) {
            pass.take(self.make_bundles(&role, &stop));
        }
        Ok(pass)
    }

    fn look(&self, is_there: IsThere) -> Result<Pass, PublishError> {
        let listed = |source| RoleError::List { path: self.profiles.clone(), source };
        let (profiles, problems) = profile::read(&self.profiles).map_err(listed)?;
        let mut pass = Pass { problems, ..Pass::default() };
        let _lock = self.publisher.lock()?;
        for (role, profile) in &profiles {
            if let Err(error) = self.mirror(role, profile, is_there, &mut pass) {
                pass.problems.push(format!("{role}: {error}"));
            }
        }
        for role in role::roles(self.publisher.layout)? {
            self.note_orphan(&role, &profiles, &mut pass);
        }
        Ok(pass)
    }

    /// Follows until [`Wake::Stop`] comes (or `wakes` has no sender any more); `on_pass` gets the result of every look.
    ///
    /// The watch is armed before each look, so that nothing falls between them. The directory may not exist yet. Bundles are made
    /// beside it, so that the next generation does not wait for those to the last one.
    pub fn run(
        &self,
        hints: &Sender<Wake>,
        wakes: &Receiver<Wake>,
        mut on_pass: impl FnMut(Result<Pass, PublishError>),
    ) {
        let (work, jobs) = mpsc::channel();
        let (done, made) = mpsc::channel();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                for role in jobs {
                    // Nobody listens any more: then it was told to stop.
                    let _ = done.send(self.make_bundles(&role, stop));
                    let _ = hints.send(Wake::Hint);
                }
            });
            let mut watched = None;
            let mut is_there: IsThere = verify::is_servable;
            let mut first = true;
            loop {
                // The old watch goes only when the new one stands.
                let fresh = watch(&self.profiles, hints).ok();
                drop(std::mem::replace(&mut watched, fresh));
                let mut looked = self.look(is_there);
                if let Ok(pass) = &mut looked {
                    made.try_iter().for_each(|results| pass.take(results));
                    // The thread lives as long as there is work to send.
                    let changed = (!first).then_some(&*pass);
                    self.roles_to_bundle(changed).into_iter().for_each(|role| drop(work.send(role)));
                    first = false;
                }
                on_pass(looked);
                // Every minute from now on, so only their names and descriptions are looked at.
                is_there = |layout, generation| role::read_generation(layout, generation).is_ok();
                if !rest(wakes) {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            drop(work);
        });
    }

    /// Those of its roles that changed in this pass; all of them without one, for an earlier run may have left something to do.
    fn roles_to_bundle(&self, pass: Option<&Pass>) -> BTreeSet<RoleName> {
        if !self.bundles {
            return BTreeSet::new();
        }
        match pass {
            Some(pass) => {
                pass.published.iter().chain(&pass.defaults).map(|generation| generation.role.clone()).collect()
            }
            None => {
                let roles = role::roles(self.publisher.layout).unwrap_or_default();
                roles.into_iter().filter(|role| self.is_source_of(role)).collect()
            }
        }
    }

    fn make_bundles(&self, role: &RoleName, stop: &AtomicBool) -> Bundled {
        let bundler = Bundler { layout: self.publisher.layout, report: self.publisher.report, stop };
        bundler.make_missing(role).unwrap_or_else(|error| vec![Err(error)])
    }

    fn is_source_of(&self, role: &RoleName) -> bool {
        Source::of(self.publisher.layout, role).ok().flatten() == Some(Source::Follow(self.profiles.clone()))
    }

    fn mirror(
        &self,
        role: &RoleName,
        profile: &Profile,
        is_there: IsThere,
        pass: &mut Pass,
    ) -> Result<(), PublishError> {
        let source = Source::Follow(self.profiles.clone());
        source.check(self.publisher.layout, role)?;
        // What the room boots first, then the newest: those are waited for.
        let mut numbers: Vec<u32> = profile.links.keys().copied().rev().collect();
        numbers.sort_by_key(|number| Some(*number) != profile.current);
        for number in numbers {
            match self.mirror_one(role, number, profile, is_there, &source) {
                Ok(Some(generation)) => pass.published.push(generation),
                Ok(None) => {}
                Err(error) => pass.problems.push(format!("{role}-{number}-link: {error}")),
            }
            if Some(number) == profile.current {
                self.mirror_default(role, profile, pass)?;
            }
        }
        self.mirror_default(role, profile, pass)?;
        self.remove_deleted(role, profile, pass)
    }

    /// Publishes one generation of a profile, unless it is or its system is gone.
    fn mirror_one(
        &self,
        role: &RoleName,
        number: u32,
        profile: &Profile,
        is_there: IsThere,
        source: &Source,
    ) -> Result<Option<GenerationRef>, PublishError> {
        let link = &profile.links[&number];
        let generation = GenerationRef { role: role.clone(), id: GenerationId::new(number, &link.toplevel) };
        if is_there(self.publisher.layout, &generation) {
            return Ok(None);
        }
        if !self.publisher.store.on_disk(Path::new(link.toplevel.as_str())).exists() {
            return Err(PublishError::Gone(link.toplevel.clone()));
        }
        let request =
            Request { role: role.clone(), toplevel: link.toplevel.clone(), number: Some(number), date: link.date };
        let outcome = self.publisher.publish_locked(&request, source)?;
        Ok(outcome.new.then_some(outcome.generation))
    }

    fn mirror_default(&self, role: &RoleName, profile: &Profile, pass: &mut Pass) -> Result<(), PublishError> {
        let layout = self.publisher.layout;
        let Some(number) = profile.current else { return Ok(()) };
        let Some(link) = profile.links.get(&number) else { return Ok(()) };
        let generation = GenerationRef { role: role.clone(), id: GenerationId::new(number, &link.toplevel) };
        let published = role::read_generation(layout, &generation).is_ok();
        if published && role::default_of(layout, role) != Some(generation.id) {
            role::point_default(layout, &generation, self.publisher.report)?;
            pass.defaults.push(generation);
        }
        Ok(())
    }

    fn remove_deleted(&self, role: &RoleName, profile: &Profile, pass: &mut Pass) -> Result<(), PublishError> {
        let layout = self.publisher.layout;
        for id in role::published_ids(layout, role)? {
            let wanted = profile.links.get(&id.number()).map(|link| GenerationId::new(id.number(), &link.toplevel));
            if wanted == Some(id) {
                continue;
            }
            let generation = GenerationRef { role: role.clone(), id };
            if role::default_of(layout, role) == Some(id) {
                // The profile's own generation could not be published: better this one than none.
                pass.problems
                    .push(format!("{generation} is kept, though deleted, for the default cannot be moved from it"));
                continue;
            }
            role::remove_generation(layout, &generation, self.publisher.report)?;
            pass.removed.push(generation);
        }
        Ok(())
    }

    /// A profile without a single link is more likely a disk that isn't mounted than a wish: nothing is removed.
    fn note_orphan(&self, role: &RoleName, profiles: &BTreeMap<RoleName, Profile>, pass: &mut Pass) {
        if self.is_source_of(role) && !profiles.contains_key(role) {
            pass.problems.push(format!(
                "{role}: {} has no link of this role any more; what is published stays until `rookery remove`",
                self.profiles.display()
            ));
        }
    }
}

impl Pass {
    fn take(&mut self, results: Bundled) {
        for result in results {
            match result {
                Ok(bundle) => self.bundles.push(bundle),
                Err(problem) => self.problems.push(problem.to_string()),
            }
        }
    }
}

/// Watches the directory that has the name now, and its parent, in which it may appear or be replaced. What can't be watched is
/// found by the next rescan.
fn watch(directory: &Path, hints: &Sender<Wake>) -> notify::Result<RecommendedWatcher> {
    let hints = hints.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the directory is an event too; taking that for a change would never end.
        if !matches!(&event, Ok(event) if event.kind.is_access() && !event.need_rescan()) {
            // Nobody listens any more: then it is about to be dropped.
            let _ = hints.send(Wake::Hint);
        }
    })?;
    for path in [Some(directory), directory.parent()].into_iter().flatten().filter(|path| path.is_dir()) {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Waits for a hint that is followed by quiet, or for the time of the rescan. False: stop.
fn rest(wakes: &Receiver<Wake>) -> bool {
    match wakes.recv_timeout(RESCAN) {
        Ok(Wake::Hint) => {}
        Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        Err(RecvTimeoutError::Timeout) => return true,
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match wakes.recv_timeout(QUIET) {
            Ok(Wake::Hint) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
    true
}
