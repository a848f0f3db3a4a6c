//! What is served at each moment: the table of names, made anew whenever something is published or removed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use generations::{CacheIndex, Layout, Problem, ServedNames, Snapshot, Watch};
use tokio::sync::watch;
use tracing::{info, warn};

/// Follows the generations directory; requests look at [`Publication::names`].
#[derive(Debug)]
pub struct Publication {
    names: watch::Receiver<Arc<ServedNames>>,
    _watch: Watch,
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
        Ok(Self { names, _watch: watch })
    }

    /// The table of served names, which changes when something is published or removed.
    pub fn names(&self) -> watch::Receiver<Arc<ServedNames>> {
        self.names.clone()
    }
}

impl Latest {
    fn replace(&mut self, snapshot: &Arc<Snapshot>) {
        let (index, problems) = CacheIndex::build(&self.layout, snapshot, &self.index);
        let index = Arc::new(index);
        let unreadable = problems.iter().filter(|problem| !self.problems.contains(problem));
        for problem in snapshot.new_problems(&self.snapshot).chain(unreadable) {
            warn!(path = %problem.path.display(), reason = problem.reason, "left out");
        }
        let generations: usize = snapshot.roles.values().map(|role| role.generations.len()).sum();
        info!(roles = snapshot.roles.len(), generations, paths = index.len(), "serving what is published");
        self.names.send_replace(Arc::new(ServedNames::new(Arc::clone(snapshot), Some(Arc::clone(&index)))));
        (self.snapshot, self.index, self.problems) = (Arc::clone(snapshot), index, problems);
    }
}
