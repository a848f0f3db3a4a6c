//! What is served at each moment: the table of names, made anew whenever something is published or removed.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use generations::{CacheIndex, Layout, Problem, ServedNames, Snapshot, Watch};
use tokio::sync::watch;
use tracing::{info, warn};

/// Follows the generations directory; requests look at [`Publication::names`].
#[derive(Debug)]
pub struct Publication {
    names: watch::Receiver<Arc<ServedNames>>,
    _watch: Watch,
    /// Its end ends the thread that looks again.
    _again: mpsc::Sender<()>,
}

/// The last state, from which the next one is made without reading everything again.
#[derive(Debug)]
struct Latest {
    layout: Layout,
    snapshot: Arc<Snapshot>,
    index: Arc<CacheIndex>,
    problems: Vec<Problem>,
    names: watch::Sender<Arc<ServedNames>>,
}

impl Publication {
    /// Reads what is published and follows it from now on. It blocks: each boot file that is seen for the first time is hashed.
    ///
    /// # Errors
    /// See [`generations::watch`].
    pub fn follow(layout: &Layout) -> io::Result<Self> {
        let (snapshot, index) = (Arc::new(Snapshot::default()), Arc::new(CacheIndex::default()));
        let nothing = ServedNames::new(Arc::clone(&snapshot), Some(Arc::clone(&index)));
        let (sender, names) = watch::channel(Arc::new(nothing));
        let latest = Latest { layout: layout.clone(), snapshot, index, problems: Vec::new(), names: sender };
        let latest = Arc::new(Mutex::new(latest));
        let follower = Arc::clone(&latest);
        // Held until the first snapshot is in force, so that a later one waits and is not undone by it.
        let mut first = latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (snapshot, watch) = generations::watch(layout.clone(), move |snapshot| {
            follower.lock().unwrap_or_else(PoisonError::into_inner).replace(snapshot);
        })?;
        first.replace(&snapshot);
        drop(first);
        let (again, ended) = mpsc::channel();
        let look_again = move || {
            while ended.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
                latest.lock().unwrap_or_else(PoisonError::into_inner).retry();
            }
        };
        thread::Builder::new().name("look-again".to_owned()).spawn(look_again)?;
        Ok(Self { names, _watch: watch, _again: again })
    }

    /// The table of served names, which changes when something is published or removed.
    pub fn names(&self) -> watch::Receiver<Arc<ServedNames>> {
        self.names.clone()
    }
}

impl Latest {
    /// Reads again what could not be read: no event tells that a disk answers again, or that there are descriptors.
    fn retry(&mut self) {
        if !self.problems.is_empty() {
            self.replace(&Arc::clone(&self.snapshot));
        }
    }

    fn replace(&mut self, snapshot: &Arc<Snapshot>) {
        let (index, problems) = CacheIndex::build(&self.layout, snapshot, &self.index);
        let index = Arc::new(index);
        let unreadable = problems.iter().filter(|problem| !self.problems.contains(problem));
        for problem in snapshot.new_problems(&self.snapshot).chain(unreadable) {
            warn!(path = %problem.path.display(), reason = problem.reason, "left out");
        }
        let generations: usize = snapshot.roles.values().map(|role| role.generations.len()).sum();
        if !Arc::ptr_eq(snapshot, &self.snapshot) || problems != self.problems {
            info!(roles = snapshot.roles.len(), generations, paths = index.len(), "serving what is published");
        }
        self.names.send_replace(Arc::new(ServedNames::new(Arc::clone(snapshot), Some(Arc::clone(&index)))));
        (self.snapshot, self.index, self.problems) = (Arc::clone(snapshot), index, problems);
    }
}

/// How often manifests that could not be read are tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "../tests/common/state.rs"]
#[allow(dead_code, unreachable_pub, reason = "helpers of the other tests, too")]
mod state;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use super::state::State;
    use super::*;

    #[test]
    fn a_manifest_that_could_not_be_read_is_tried_again() {
        let state = State::new();
        let manifest = state.layout.generation(&"lab/1-aaaaaaaa".parse().unwrap()).join(Layout::CLOSURE_NAME);
        let snapshot = Arc::new(generations::scan(&state.layout, &Snapshot::default()).unwrap());
        // Between scan and reading something fails, once.
        fs::rename(&manifest, state.outside().join("aside")).unwrap();
        let nothing = Arc::new(ServedNames::new(Arc::default(), None));
        let (sender, names) = watch::channel(nothing);
        let layout = state.layout.clone();
        let mut latest =
            Latest { layout, snapshot: Arc::default(), index: Arc::default(), problems: Vec::new(), names: sender };
        latest.replace(&snapshot);
        let is_served = || names.borrow().resolve("nar/a.nar.zst", Ipv4Addr::LOCALHOST, None).is_ok();
        assert!(!is_served());
        latest.retry();
        assert!(!is_served() && latest.problems.len() == 1);
        fs::rename(state.outside().join("aside"), &manifest).unwrap();
        latest.retry();
        assert!(is_served() && latest.problems.is_empty());
    }
}
