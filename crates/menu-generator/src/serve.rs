use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot_model::Timestamp;
use config::{Config, Hosts};
use generations::{Layout, Snapshot};
use service::{Failure, Process};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{Intents, LeftOut, Rendered, SetError, Sources, Stored, render, store};

/// How long after a set that could not be stored it is tried again, if nothing happens before.
const RETRY: Duration = Duration::from_secs(10);

/// How often it is looked whether something is wished for a machine, or fulfilled: in the time that firmware takes to ask for its menu.
const INTENTS: Duration = Duration::from_secs(1);

/// Keeps the menus in step with what is published and with the hosts, until told to stop.
///
/// Ready once the first set stands. A later set that cannot be stored leaves the last one in force, is logged once and tried again.
///
/// # Errors
/// If the generations cannot be watched or the first set cannot be stored.
pub async fn serve(config: Config, file: PathBuf, process: Process) -> Result<(), Failure> {
    let layout = Layout::new(&config.state_directory);
    let (snapshots, mut changed) = watch::channel(Arc::new(Snapshot::default()));
    let (first, _watch) = generations::watch(layout.clone(), move |snapshot| {
        snapshots.send_replace(Arc::clone(snapshot));
    })?;
    let hosts = config.hosts.clone();
    let intents = Intents::new(&layout, &config.subnets);
    let mut generator = Generator {
        config,
        file,
        layout,
        hosts,
        intents,
        memtest: false,
        snapshot: Arc::default(),
        left_out: BTreeSet::new(),
        failing: false,
        retry: tokio::time::Instant::now(),
    };
    generator.take(first);
    generator.look_around();
    let files = generator.publish()?;
    process.ready(&format!("{files} menus stand"));

    let stopped = process.stopped();
    tokio::pin!(stopped);
    let mut reloads = process.reloads();
    let mut looks = tokio::time::interval(INTENTS);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let failing = generator.failing;
        tokio::select! {
            () = &mut stopped => return Ok(()),
            Ok(()) = changed.changed() => generator.take(Arc::clone(&changed.borrow_and_update())),
            Ok(()) = reloads.changed() => generator.reload_hosts(),
            () = tokio::time::sleep_until(generator.retry), if failing => {}
            _ = looks.tick() => {
                if !tokio::task::block_in_place(|| generator.look_around()) {
                    continue;
                }
            }
        }
        // Tens of milliseconds of files and one sync, and nobody else has business on this thread.
        tokio::task::block_in_place(|| generator.publish_or_keep());
    }
}

struct Generator {
    config: Config,
    file: PathBuf,
    layout: Layout,
    hosts: Hosts,
    intents: Intents,
    /// Whether the memory test is there to be served.
    memtest: bool,
    snapshot: Arc<Snapshot>,
    /// What has been logged as left out and still is.
    left_out: BTreeSet<LeftOut>,
    /// Whether the last set could not be stored, and when it is tried again.
    failing: bool,
    retry: tokio::time::Instant,
}

impl Generator {
    fn take(&mut self, snapshot: Arc<Snapshot>) {
        for problem in snapshot.new_problems(&self.snapshot) {
            warn!(path = %problem.path.display(), reason = problem.reason, "left out of the menus");
        }
        self.snapshot = snapshot;
    }

    /// Looks at what nothing gives a hint about; true if it changes the menus.
    fn look_around(&mut self) -> bool {
        let wished = self.intents.refresh(now());
        let memtest = memtest_installed(&self.layout);
        wished | (std::mem::replace(&mut self.memtest, memtest) != memtest)
    }

    fn reload_hosts(&mut self) {
        match self.config.reload_hosts(&self.file) {
            Ok(hosts) => self.hosts = hosts,
            Err(error) => error!(%error, "the hosts could not be read again; the old ones stay"),
        }
    }

    /// Renders and stores a set; the number of its files.
    fn publish(&mut self) -> Result<usize, SetError> {
        let began = Instant::now();
        let Rendered { files, left_out, erasing } = render(&Sources {
            config: &self.config,
            hosts: &self.hosts,
            snapshot: &self.snapshot,
            intents: self.intents.active(),
            memtest: self.memtest,
        });
        for left_out in left_out.difference(&self.left_out) {
            warn!(reason = %left_out, "an entry is left out of the menus");
        }
        self.left_out = left_out;
        let stored = store(&self.layout, &files)?;
        let files = files.len();
        self.intents.carried(erasing);
        if let Stored::New(set) = stored {
            let milliseconds = began.elapsed().as_millis() as u64;
            info!(set, files, milliseconds, "new menus are in force");
        }
        Ok(files)
    }

    fn publish_or_keep(&mut self) {
        match self.publish() {
            Ok(_) => self.failing = false,
            Err(error) => {
                self.retry = tokio::time::Instant::now() + RETRY;
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, "the last good menus stay");
                }
            }
        }
    }
}

/// The system's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_millis(service::unix_millis())
}

/// A menu offers the memory test only where both programs can be served.
pub(crate) fn memtest_installed(layout: &Layout) -> bool {
    [Layout::MEMTEST_BIOS_NAME, Layout::MEMTEST_EFI_NAME].iter().all(|name| layout.loaders().join(name).is_file())
}
