//! A real process, a faked systemd: readiness, watchdog, inherited sockets, signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Cargo builds examples before tests and puts them beside the folder of the test's own binary.
fn echo() -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/echo");
    let mut command = Command::new(path);
    command.stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

fn wait_for_line(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) {
    let found = lines.map(Result::unwrap).find(|line| line.contains(text));
    assert!(found.is_some(), "no line with {text:?}");
}

#[test]
fn readiness_watchdog_reload_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let receive = || {
        let mut buffer = [0; 512];
        let length = systemd.recv(&mut buffer).expect("the service must notify");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    // The shell becomes the service by exec, so the number it knows as its own is the service's.
    let script = format!("WATCHDOG_PID=$$ WATCHDOG_USEC=100000 exec {}", echo().get_program().display());
    let mut child =
        Command::new("sh").args(["-c", &script]).env("NOTIFY_SOCKET", &path).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();

    let mut seen = Vec::new();
    while !(seen.iter().any(|m: &String| m.starts_with("READY=1\nSTATUS=0 tcp, 0 udp"))
        && seen.iter().any(|m| m == "WATCHDOG=1"))
    {
        seen.push(receive());
    }
    signal(&child, Signal::SIGHUP);
    wait_for_line(&mut lines, "reloaded");
    signal(&child, Signal::SIGTERM);
    wait_for_line(&mut lines, "SIGTERM: finishing what is under way");
    while receive() != "STOPPING=1" {}
    assert!(child.wait().unwrap().success());
}

#[test]
fn sockets_are_inherited() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [tcp.as_fd(), udp.as_fd()] {
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    // bash, because dash knows no descriptor above 9.
    let (tcp, udp) = (tcp.as_raw_fd(), udp.as_raw_fd());
    let program = echo().get_program().display().to_string();
    let script = format!("LISTEN_PID=$$ LISTEN_FDS=2 exec {program} 3<&{tcp} 4<&{udp}");
    let mut child = Command::new("bash").args(["-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut BufReader::new(child.stderr.take().unwrap()).lines(), "1 tcp, 1 udp");
    signal(&child, Signal::SIGTERM);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_bad_flag_is_usage_and_says_so() {
    let output = echo().arg("--colour").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("unexpected argument '--colour'"));
}

#[test]
fn a_bad_filter_is_usage_and_names_the_variable() {
    let output = echo().env("RUST_LOG", "a=b=c").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("RUST_LOG=a=b=c"));
}

#[test]
fn a_service_that_does_not_drain_is_given_up_with_a_message() {
    let mut child = echo().arg("--stuck").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    signal(&child, Signal::SIGINT);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("gave up on requests that were not finished 20 s after the signal"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
