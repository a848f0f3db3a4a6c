//! What a person in front of the machine sees. A console that can't be written to never stops a boot, so errors are let go.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;

/// The consoles that the kernel writes to; the last one is `/dev/console` (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "/sys/class/tty/console/active";
const DEVICES: &str = "/dev";
/// More than anybody gives with `console=`.
const MOST_CONSOLES: usize = 8;
/// For one console: a serial line that nobody reads from may hold its writer up for ever.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One line, or several.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    // On a terminal a status line may stand where this begins; blanks cover what is left of it.
    let _ = if out.is_terminal() { writeln!(out, "\r{text:<79}") } else { writeln!(out, "{text}") };
}

/// The sentence with which something ends badly.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "rookery: {text}");
}

/// What stops a boot, once more on those of the kernel's consoles that are not this program's output: nobody knows in front of which one
/// somebody stands.
pub(crate) fn on_the_others(text: &str) {
    let own = nix::sys::stat::fstat(io::stdout()).map_or(0, |stat| stat.st_rdev);
    say_on_others(text, Path::new(ACTIVE), Path::new(DEVICES), own, PATIENCE);
}

/// `own` is the device number of the console that has the text already; a terminal has one, a pipe or a file has not.
fn say_on_others(text: &str, active: &Path, devices: &Path, own: u64, patience: Duration) {
    let names = fs::read_to_string(active).unwrap_or_default();
    let names: Vec<&str> = names.split_whitespace().take(MOST_CONSOLES).collect();
    let number = |name: &str| fs::metadata(devices.join(name)).map_or(0, |metadata| metadata.rdev());
    let is_own = |name: &str| own != 0 && number(name) == own;
    for (index, name) in names.iter().enumerate() {
        let has_it = is_own(name) || index + 1 == names.len() && is_own("console");
        if !has_it {
            let _ = put(text, &devices.join(name), patience);
        }
    }
}

/// Without ever waiting for a carrier, for a reader, or for a line whose other end says stop.
fn put(text: &str, device: &Path, patience: Duration) -> io::Result<()> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let mut console = OpenOptions::new().append(true).custom_flags(flags).open(device)?;
    let begun = Instant::now();
    let text = format!("{text}\n");
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match console.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < patience => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A line that changes: rewritten in place on a terminal, repeated now and then on everything else.
pub(crate) struct StatusLine {
    rewritten: bool,
    interval: Duration,
    shown: Option<Instant>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        let rewritten = io::stdout().is_terminal();
        let interval = if rewritten { Duration::from_millis(500) } else { Duration::from_secs(5) };
        Self { rewritten, interval, shown: None }
    }

    /// Shows the text if it is time to.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.shown.is_some_and(|shown| shown.elapsed() < self.interval) {
            return;
        }
        self.shown = Some(Instant::now());
        let mut out = io::stdout().lock();
        let text = text();
        // Blanks to the end of an 80 column line cover a longer text from before.
        let _ = if self.rewritten { write!(out, "\r{text:<79}") } else { writeln!(out, "{text}") };
        let _ = out.flush();
    }

    /// Ends the line, so that what is said next stands on its own.
    pub(crate) fn finish(&mut self) {
        if self.rewritten && self.shown.take().is_some() {
            let _ = writeln!(io::stdout().lock());
        }
    }
}

/// Bytes as people read them: `12 kB`, `3.4 MB`. Powers of ten, as network rates and disk sizes are given in.
pub(crate) fn bytes(count: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) if count < 10 * unit => format!("{:.1} {name}", count as f64 / *unit as f64),
        Some((unit, name)) => format!("{} {name}", count / unit),
        None => format!("{count} B"),
    }
}

/// A span as people read it: `8 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of devices: `ttyS0` and `ttyS1` are files, `tty0` is the null device.
    fn devices() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ttyS0", "ttyS1"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", dir.path().join("tty0")).unwrap();
        dir
    }

    fn said(dir: &Path, active: &str, own: u64) -> [String; 2] {
        fs::write(dir.join("active"), active).unwrap();
        say_on_others("no disk", &dir.join("active"), dir, own, Duration::ZERO);
        ["ttyS0", "ttyS1"].map(|name| fs::read_to_string(dir.join(name)).unwrap())
    }

    #[test]
    fn each_console_has_it_once() {
        let null = fs::metadata("/dev/null").unwrap().rdev();
        let no = String::new;
        let once = || "no disk\n".to_owned();
        assert_eq!(said(devices().path(), "tty0 ttyS0 ttyS1\n", 0), [once(), once()], "a pipe is no console");
        assert_eq!(said(devices().path(), "ttyS0 tty0 ttyS1\n", null), [once(), once()], "the null device has it");
        assert_eq!(said(devices().path(), "ttyS0 missing\n", 0), [once(), no()], "one that can't be opened");
        assert_eq!(said(devices().path(), "", 0), [no(), no()], "no console at all");
        let dir = devices();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("console")).unwrap();
        assert_eq!(said(dir.path(), "ttyS0 ttyS1\n", null), [once(), no()], "/dev/console is the last one");
    }

    #[test]
    fn a_console_that_takes_nothing_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let line = dir.path().join("ttyS0");
        nix::unistd::mkfifo(&line, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(put("no carrier", &line, PATIENCE).is_err());
        let _end = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&line).unwrap();
        put("it fits", &line, PATIENCE).unwrap();
        let error = put(&"x".repeat(1 << 20), &line, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn numbers_for_people() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (45_009_815, "45 MB"), (1_250_000_000, "1.2 GB")];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
        for (seconds, expected) in [(0, "0 s"), (59, "59 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
