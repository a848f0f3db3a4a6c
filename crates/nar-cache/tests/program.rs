//! The program as a process: verbs, exit codes, signals, inherited sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::state::{KERNEL, PACK_LEN, digest, toplevel};
use common::{Client, LONG, State};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery-nar-cache");

/// Writes a configuration that serves `state` at a port of 127.0.0.1, 0 for any.
fn configure(state: &State, port: u16) -> PathBuf {
    let file = state.outside().join("rookery.toml");
    let text = format!(
        "state-directory = {:?}\n[nar-cache]\nport = {port}\n[[subnet]]\ninterface = \"lo\"\naddress = \"127.0.0.1/8\"\n",
        state.layout.root()
    );
    fs::write(&file, text).unwrap();
    file
}

fn program(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--config").arg(config).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command
}

fn output(config: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program(config, arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A running service; ended with the test.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            if let Some((_, address)) = line.trim_end().rsplit_once(" at ") {
                break address.parse().unwrap();
            }
            said += &line;
        };
        Self { child, stderr, address }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Its exit code, and what it said on the way.
    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serves_when_it_says_ready_and_drains_when_told_to_stop() {
    let state = State::new();
    let config = configure(&state, 0);
    let socket = state.outside().join("notify");
    let notify = UnixDatagram::bind(&socket).unwrap();
    notify.set_read_timeout(Some(LONG)).unwrap();
    let mut command = program(&config, &[]);
    command.env("NOTIFY_SOCKET", &socket);
    let running = Running::start(command);
    let mut message = [0; 512];
    let length = notify.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1\n"));
    let mut client = Client::connect(running.address);
    assert_eq!(client.get("/nix-cache-info").status(), 200);
    running.signal(Signal::SIGHUP);
    assert_eq!(client.get("/boot.ipxe").text(), "#!ipxe\nmenu one\n", "a reload changes nothing here");
    client.send("GET /nar/a.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head();
    running.signal(Signal::SIGTERM);
    assert_eq!(client.exactly(PACK_LEN as usize).len() as u64, PACK_LEN);
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("SIGTERM"), "{said}");
}

/// The program as systemd starts it, with this socket.
fn activated(config: &Path, listener: &TcpListener) -> Command {
    fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    // bash, because dash knows no descriptor above 9.
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" --config \"$1\" 3<&{}", listener.as_raw_fd()))
        .arg(PROGRAM)
        .arg(config);
    command
}

#[test]
fn takes_sockets_that_systemd_opened() {
    let state = State::new();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let config = configure(&state, listener.local_addr().unwrap().port());
    let running = Running::start(activated(&config, &listener));
    assert_eq!(running.address, listener.local_addr().unwrap());
    let port = running.address.port();
    assert_eq!(Client::connect((Ipv4Addr::LOCALHOST, port).into()).get("/nix-cache-info").status(), 200);
    // The socket listens at every address of this machine, the service at those of its subnets.
    let mut elsewhere = TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    elsewhere.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(elsewhere.read(&mut [0; 16]).unwrap(), 0);
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().0, 0);
}

#[test]
fn refuses_a_socket_at_another_port_than_menus_name() {
    let state = State::new();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let opened = listener.local_addr().unwrap().port();
    let Output { status, stderr, .. } = activated(&configure(&state, 1), &listener).output().unwrap();
    assert_eq!(status.code(), Some(78));
    assert_eq!(
        String::from_utf8(stderr).unwrap(),
        format!(
            "rookery-nar-cache: systemd opened port {opened} and nar-cache.port is 1: `systemctl edit rookery-nar-cache.socket`, \
             in [Socket] ListenStream= and then ListenStream=0.0.0.0:1, and `systemctl restart rookery-nar-cache.socket`\n"
        )
    );
}

#[test]
fn says_what_is_wrong_and_ends_with_its_code() {
    let state = State::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let (code, _, said) = output(&configure(&state, port), &[]);
    assert_eq!(code, 1);
    assert!(said.contains(&format!("binding TCP 127.0.0.1:{port}: Address already in use")), "{said}");

    assert!(said.contains("change nar-cache.port"), "{said}");

    let config = configure(&state, 0);
    fs::write(&config, "[nar-cache]\nprot = 1\n").unwrap();
    let (code, _, said) = output(&config, &["check"]);
    assert_eq!(code, 78);
    assert!(said.contains("rookery.toml:2") && said.contains("prot"), "{said}");

    fs::write(&config, "").unwrap();
    let (code, _, said) = output(&config, &[]);
    assert_eq!(code, 78);
    assert!(said.contains("[[subnet]]"), "{said}");

    assert_eq!(output(&config, &["serve"]).0, 64);
}

#[test]
fn check_says_what_would_be_served_and_what_is_missing() {
    let state = State::new();
    let config = configure(&state, 8080);
    let (code, said, _) = output(&config, &["check"]);
    assert_eq!(
        said,
        "listens at 127.0.0.1:8080 (lo)\n\
         serves lab/1-aaaaaaaa: 1 paths, 67108864 bytes packed, 1 unpacked, the default\n\
         store paths in all: 1\n"
    );
    assert_eq!(code, 0);

    fs::remove_file(state.layout.cache().join("nar/a.nar.zst")).unwrap();
    fs::create_dir_all(state.layout.generations().join("lab/nonsense")).unwrap();
    let (code, said, _) = output(&config, &["check"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("nar/a.nar.zst: No such file or directory (os error 2); publish lab/1-aaaaaaaa again"),
        "{said}"
    );
    assert!(said.contains("lab/nonsense"), "{said}");
}

#[test]
fn print_config_fills_in_the_defaults() {
    let state = State::new();
    let (code, said, _) = output(&configure(&state, 81), &["print-config"]);
    assert_eq!(code, 0);
    assert!(said.contains("port = 81\n") && said.contains("max-connections = 1024\n"), "{said}");
}

#[test]
fn explain_names_the_file_or_the_reason() {
    let state = State::new();
    let config = configure(&state, 8080);
    let root = state.layout.root().display().to_string();
    let menu = format!("file        {root}/menus/current/127.0.0.1/ipxe");
    let boot = format!("/boot/lab/1-aaaaaaaa/{}", digest(KERNEL));
    let unpublished = format!("/{}.narinfo", toplevel('b').hash());
    for (arguments, code, expected) in [
        (&["explain", "/boot.ipxe"][..], 0, format!("{menu}/default.ipxe\n")),
        (
            &["explain", "http://127.0.0.1:8080/boot.ipxe", "--mac", "52:54:00:77:00:01"],
            0,
            format!("{menu}/52-54-00-77-00-01.ipxe\n"),
        ),
        (
            &["explain", "/boot.ipxe", "--mac", "52:54:00:77:00:02"],
            0,
            format!("not there   {root}/menus/current/127.0.0.1/ipxe/52-54-00-77-00-02.ipxe\n"),
        ),
        (&["explain", "/boot.ipxe", "--server", "10.0.0.1"], 1, "menus/current/10.0.0.1/ipxe/default.ipxe".to_owned()),
        (&["explain", &boot], 0, "length      8 bytes\ntype        application/octet-stream\n".to_owned()),
        (
            &["explain", &unpublished],
            1,
            "404 Not Found: it belongs to the closure of no published generation".to_owned(),
        ),
        (
            &["explain", "/boot/lab/2-bbbbbbbb/x"],
            1,
            "404 Not Found: the generation lab/2-bbbbbbbb is not published".to_owned(),
        ),
        (&["explain", "/a%2fb"], 1, "400 Bad Request: the URL's path is not percent-encoded UTF-8".to_owned()),
        (&["explain", "/../etc/passwd"], 1, "404 Not Found: no served name has this form".to_owned()),
        (&["explain", "not a url"], 64, "invalid uri character".to_owned()),
    ] {
        let (found, stdout, stderr) = output(&config, arguments);
        assert_eq!(found, code, "{arguments:?}: {stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(&expected), "{arguments:?}: {stdout}{stderr}");
    }
}
