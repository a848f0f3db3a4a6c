//! Programs that the lab starts: output into the log, ended by process id, never left behind.

use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::console::Console;
use crate::log::Log;
use crate::{Error, Result, interrupt};

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

/// How often an exit is looked for: there is no portable wait with a deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a server gets to end by itself after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

impl Process {
    /// Starts a program. What it writes goes to the log line by line, under `name`; its input stays open for
    /// [`Process::type_text`].
    pub fn start(log: &Log, name: &str, command: &mut Command) -> Result<Self> {
        let doing = format!("starting {name} ({})", command.get_program().display());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        log.note_start(name);
        let mut child = command.spawn().map_err(Error::io(doing))?;
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(read_into(log.clone(), name.to_owned(), stdout, true));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(read_into(log.clone(), name.to_owned(), stderr, false));
        }
        Ok(Self { name: name.to_owned(), child, readers })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the program's standard input: for a machine, the keyboard of its serial console.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let Some(stdin) = self.child.stdin.as_mut() else { return Ok(()) };
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .map_err(Error::io(format!("writing to {}", self.name)))
    }

    /// Sends a signal, unless the program has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        // Not reaped yet (we are the only one who does), so the id is still this program's.
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).map_err(Error::errno(format!("sending {signal} to {}", self.name)))
    }

    /// How the program ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(Error::io(format!("looking after {}", self.name)))
    }

    /// Waits for the program to end by itself.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exited()? {
                self.drain();
                return Ok(status);
            }
            interrupt::check()?;
            if Instant::now() >= deadline {
                return Err(Error::Deadline {
                    what: "its end".into(),
                    origin: self.name.clone(),
                    seconds: within.as_secs_f64(),
                });
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// SIGTERM, and patience; a program that does not end is killed, and that is an error.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let ended = self.wait(PATIENCE);
        if ended.is_err() {
            self.kill();
        }
        ended
    }

    /// SIGKILL: the power cut of programs.
    pub fn kill(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.drain();
    }

    /// Lets the last lines reach the log. A grandchild that keeps the pipe open would block this for ever; the lab's
    /// programs have none that outlive them.
    fn drain(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a helper program to its end and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("running {line}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Command { command: line, status: output.status, output: said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Puts all that comes from somewhere into the log, line by line; of a console, what has begun of the next line too.
pub(crate) fn read_into(
    log: Log,
    name: String,
    mut from: impl Read + Send + 'static,
    is_console: bool,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut console = Console::default();
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            for line in console.feed(&buffer[..count]) {
                log.note(&name, line);
            }
            if is_console {
                log.note_partial(&name, console.partial());
            }
        }
        let rest = console.partial();
        if !rest.is_empty() {
            log.note(&name, rest);
        }
        if is_console {
            log.note_end(&name);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Awaited;

    #[test]
    fn output_reaches_the_log_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(&dir.path().join("log")).unwrap();
        let place = log.place();
        let mut process = Process::start(&log, "echo", Command::new("sh").args(["-c", "read x; echo got $x"])).unwrap();
        process.type_text("this\n").unwrap();
        assert!(process.wait(Duration::from_secs(60)).unwrap().success());
        let awaited = Awaited { what: "echo", source: "echo", since: place, within: Duration::ZERO, fatal: &[] };
        assert_eq!(log.wait(&awaited, |_| true).unwrap().text, "got this");
    }

    #[test]
    fn dropping_kills() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(&dir.path().join("log")).unwrap();
        let process = Process::start(&log, "cat", &mut Command::new("cat")).unwrap();
        let proc = format!("/proc/{}", process.id());
        drop(process);
        assert!(!std::path::Path::new(&proc).exists());
    }
}
