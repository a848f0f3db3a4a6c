use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::{Layout, Snapshot, scan};

/// How long the directory may be silent before it is scanned all the same: events can be lost (a network file system sends none).
const SILENCE: Duration = Duration::from_secs(60);

/// Follows the generations directory until it is dropped.
#[derive(Debug)]
pub struct Watch {
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Hint,
    Stop,
}

/// Scans the directory, then follows it: `on_change` gets every later snapshot that differs from the one before.
///
/// The directory may not exist yet, vanish, or be replaced. Each round arms fresh watches, then scans, then waits for any event, an
/// overflow or a minute of silence; so nothing that happens after the scan began can be missed, whatever the event said.
///
/// # Errors
/// If no watch can be made (the user's inotify limits) or the directory cannot be listed now; it names the directory.
pub fn watch(
    layout: Layout,
    mut on_change: impl FnMut(&Arc<Snapshot>) + Send + 'static,
) -> io::Result<(Arc<Snapshot>, Watch)> {
    let (sender, receiver) = mpsc::channel();
    let mut armed = arm(&layout, &sender)?;
    let first = Arc::new(scan(&layout, &Snapshot::default())?);
    let mut current = Arc::clone(&first);
    let hints = sender.clone();
    let follow = move || {
        // A role's folder that appeared between arming and scanning has no watch yet: the first round makes up for it at once.
        let mut patience = Duration::ZERO;
        while wait(&receiver, patience) {
            // The old watches go only after the new ones stand.
            let fresh = arm(&layout, &hints);
            let scanned = scan(&layout, &current);
            let complete = fresh.is_ok() && scanned.is_ok();
            if let Ok(watcher) = fresh {
                armed = watcher;
            }
            if let Ok(snapshot) = scanned
                && snapshot != *current
            {
                current = Arc::new(snapshot);
                on_change(&current);
            }
            // Out of descriptors or unreadable for a moment: look again soon, the last good snapshot stays.
            patience = if complete { SILENCE } else { Duration::from_secs(2) };
        }
        drop(armed);
    };
    let thread = thread::Builder::new().name("watch".to_owned()).spawn(follow)?;
    Ok((first, Watch { sender, thread: Some(thread) }))
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread is gone only if a callback panicked; then there is nobody to stop.
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a hint and takes all that have gathered. False: stop.
fn wait(receiver: &Receiver<Message>, patience: Duration) -> bool {
    let mut message = receiver.recv_timeout(patience);
    loop {
        match message {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Message::Hint) => message = receiver.try_recv().map_err(|_| RecvTimeoutError::Timeout),
        }
    }
}

/// Watches the state directory (so that the generations directory may appear or be replaced), the generations directory and
/// each folder in it.
///
/// From the top down, and listed only after the parent is watched: what appears behind our back then leaves an event there.
fn arm(layout: &Layout, hints: &Sender<Message>) -> io::Result<RecommendedWatcher> {
    let hints = hints.clone();
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading the directory makes access events; taking those for changes would scan for ever. An error (an overflow) is a hint.
        let read_only =
            matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)) && !event.need_rescan());
        if !read_only {
            let _ = hints.send(Message::Hint);
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).map_err(|error| {
        io::Error::other(format!(
            "cannot watch {}: {error}; the sysctl fs.inotify.max_user_instances bounds it",
            layout.root().display()
        ))
    })?;
    let generations = layout.generations();
    add(&mut watcher, layout.root())?;
    add(&mut watcher, &generations)?;
    for entry in std::fs::read_dir(&generations).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add(&mut watcher, &entry.path())?;
        }
    }
    Ok(watcher)
}

fn add(watcher: &mut RecommendedWatcher, path: &Path) -> io::Result<()> {
    match watcher.watch(path, RecursiveMode::NonRecursive) {
        Err(error) if !vanished(&error) => Err(io::Error::other(format!(
            "cannot watch {}: {error}; the sysctls fs.inotify.max_user_instances and max_user_watches bound it",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn vanished(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
