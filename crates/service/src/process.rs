use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{Failure, Options, logging, notify};

/// How long requests under way may take to finish after the service was told to stop. Below systemd's 90 s.
const DRAIN: Duration = Duration::from_secs(20);

/// What a running service can ask of its surroundings.
#[derive(Debug, Clone)]
pub struct Process {
    stop: watch::Receiver<bool>,
    reload: watch::Receiver<u64>,
}

/// Runs `service` until it ends by itself or has drained after SIGTERM or SIGINT.
///
/// Logging is started first, then the runtime; signals are caught before `service` begins, so none is lost while it binds. The
/// watchdog is fed from the same runtime: it proves that tasks are scheduled, not that each of them makes progress.
///
/// # Errors
/// What `service` returned, or that it did not finish within 20 seconds after it was told to stop.
pub fn run<F>(options: &Options, service: impl FnOnce(Process) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    logging::start(options.log_format)?;
    on(Runtime::new()?, service)
}

/// As [`run`], with one thread for all tasks: what packets one after the other go through gains nothing by more, and loses by each
/// that has to be woken.
///
/// # Errors
/// As of [`run`].
pub fn run_in_one_thread<F>(options: &Options, service: impl FnOnce(Process) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    logging::start(options.log_format)?;
    on(Builder::new_current_thread().enable_all().build()?, service)
}

fn on<F>(runtime: Runtime, service: impl FnOnce(Process) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let ended = runtime.block_on(async {
        let (process, signals) = Process::start()?;
        let watchdog = tokio::spawn(feed_watchdog());
        let mut stop = process.stop.clone();
        let service = service(process);
        tokio::pin!(service);
        let ended = tokio::select! {
            ended = &mut service => ended,
            () = stopped(&mut stop) => drain(service).await,
        };
        signals.abort();
        watchdog.abort();
        ended
    });
    // What still blocks in a file operation must not keep a stopped service alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

impl Process {
    /// Says that everything is bound; `status` is a line for `systemctl status` and the log.
    pub fn ready(&self, status: &str) {
        info!("{status}");
        if let Err(error) = notify::ready(status) {
            warn!(%error, "cannot tell systemd that the service is ready");
        }
    }

    /// Resolves once the service has been told to stop. Take one for each task that waits.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move { stopped(&mut stop).await }
    }

    /// Changes each time the service is told to read its hosts again (SIGHUP).
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reload.clone()
    }

    fn start() -> Result<(Self, JoinHandle<()>), Failure> {
        let (stop, stop_receiver) = watch::channel(false);
        let (reload, reload_receiver) = watch::channel(0);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let signals = tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => {
                        // What it reads again, if anything, the service says.
                        info!("SIGHUP");
                        reload.send_modify(|count| *count += 1);
                        continue;
                    }
                };
                info!("{name}: finishing what is under way");
                // systemd is told out of courtesy; it sees the process end in any case.
                let _ = notify::stopping();
                stop.send_replace(true);
            }
        });
        Ok((Self { stop: stop_receiver, reload: reload_receiver }, signals))
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the runtime; if it is gone, everything is.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn drain(service: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match tokio::time::timeout(DRAIN, service).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::runtime(format!(
            "gave up on requests that were not finished {} s after the signal",
            DRAIN.as_secs()
        ))),
    }
}

async fn feed_watchdog() {
    let Some(interval) = notify::watchdog_interval() else {
        return;
    };
    let mut tick = tokio::time::interval(interval / 2);
    loop {
        tick.tick().await;
        if let Err(error) = notify::watchdog() {
            warn!(%error, "cannot feed the watchdog");
        }
    }
}
