//! The program as an operator runs it: exit codes, texts, events, and its end.

#![allow(clippy::unwrap_used, reason = "allow-unwrap-in-tests does not reach the helpers of an integration test")]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery-tftpd");

/// A site whose only file is a loader, on a port that the kernel chooses.
fn site(directory: &Path) -> String {
    site_at(directory, 0)
}

fn site_at(directory: &Path, port: u16) -> String {
    let state = directory.join("state");
    for folder in ["loaders", "generations"] {
        std::fs::create_dir_all(state.join(folder)).unwrap();
    }
    std::fs::write(state.join("loaders/lpxelinux.0"), [7; 3000]).unwrap();
    let text = format!(
        "state-directory = \"{}\"\n[tftpd]\nport = {port}\n[[subnet]]\ninterface = \"lo\"\naddress = \"127.0.0.1/8\"\n",
        state.display()
    );
    let file = directory.join("rookery.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// Starts the service and returns it with its address, which it says once it is ready.
fn start(config: &str) -> (Child, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["--config", config]);
    ready(command)
}

/// The program as systemd starts it, with this socket.
fn activated(config: &str, socket: &UdpSocket) -> Command {
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    // bash, because dash knows no descriptor above 9.
    let script = format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" --config \"$1\" 3<&{}", socket.as_raw_fd());
    let mut command = Command::new("bash");
    command.args(["-c", &script, PROGRAM, config]);
    command
}

fn ready(mut command: Command) -> (Child, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let ready = lines.find_map(|line| line.unwrap().split_once(" at 127.0.0.1:").map(|(_, port)| port.to_owned()));
    (child, format!("127.0.0.1:{}", ready.unwrap().trim()))
}

#[test]
fn a_file_is_served_an_event_is_written_and_sigterm_ends_it_well() {
    let directory = tempfile::tempdir().unwrap();
    let config = site(directory.path());
    let (mut child, address) = start(&config);
    let to = directory.path().join("got");
    let got = run(&["get", "--windowsize", "4", "-o", to.to_str().unwrap(), &format!("tftp://{address}/lpxelinux.0")]);
    assert!(got.status.success(), "{got:?}");
    let said = String::from_utf8(got.stdout).unwrap();
    assert!(said.starts_with("options: tsize=3000 blksize=1468 windowsize=4\n"), "{said}");
    assert_eq!(std::fs::read(&to).unwrap(), [7; 3000]);

    let missing = run(&["get", "-o", to.to_str().unwrap(), &format!("tftp://{address}/state/rookery.toml")]);
    assert_eq!(missing.status.code(), Some(1));
    let said = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(said, format!("rookery-tftpd: {address}: the server answered ERROR 1: file not found\n"));

    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let events = std::fs::read_to_string(directory.path().join("state/events/tftpd/events.jsonl")).unwrap();
    assert_eq!(events.lines().count(), 1, "a name that is not served leaves no event: {events}");
    for part in ["\"file\":\"lpxelinux.0\"", "\"bytes\":3000", "\"outcome\":\"done\"", "\"window\":4", "\"127.0.0.1\""]
    {
        assert!(events.contains(part), "{part} in {events}");
    }
}

#[test]
fn a_socket_of_systemds_is_taken_if_its_port_is_the_configured_one() {
    let directory = tempfile::tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let opened = socket.local_addr().unwrap().port();
    let (mut child, address) = ready(activated(&site_at(directory.path(), opened), &socket));
    assert_eq!(address, format!("127.0.0.1:{opened}"));
    let to = directory.path().join("got");
    let got = run(&["get", "-o", to.to_str().unwrap(), &format!("tftp://{address}/lpxelinux.0")]);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!((got.status.code(), child.wait().unwrap().code()), (Some(0), Some(0)), "{got:?}");

    let Output { status, stderr, .. } = activated(&site_at(directory.path(), 69), &socket).output().unwrap();
    assert_eq!(status.code(), Some(78));
    assert_eq!(
        String::from_utf8(stderr).unwrap(),
        format!(
            "rookery-tftpd: systemd opened port {opened} and tftpd.port is 69: `systemctl edit rookery-tftpd.socket`, in \
             [Socket] ListenDatagram= and then ListenDatagram=0.0.0.0:69, and `systemctl restart rookery-tftpd.socket`\n"
        )
    );
}

#[test]
fn check_says_what_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let checked = run(&["check", "--config", &site(directory.path())]);
    assert!(checked.status.success(), "{checked:?}");
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.starts_with("listens at 127.0.0.1:0 (lo)\nserves 1 entries of "), "{said}");

    std::fs::create_dir_all(directory.path().join("state/generations/lab/nonsense")).unwrap();
    let checked = run(&["check", "--config", &site(directory.path())]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("cannot serve ") && said.contains("lab/nonsense: its name is neither"), "{said}");
}

#[test]
fn usage_and_configuration_have_exit_codes_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.toml");
    std::fs::write(&wrong, "[tftpd]\nblocksize = 9\n").unwrap();
    let refused = run(&["check", "--config", wrong.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("wrong.toml:2: "), "file and line");
    assert_eq!(run(&["get", "http://host/file"]).status.code(), Some(64));
    assert_eq!(run(&["get", "--blksize", "7", "tftp://host/file"]).status.code(), Some(64));
}
