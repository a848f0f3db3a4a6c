//! The program itself: it follows what is published, and what it leaves behind when it is killed can be read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boot_model::Timestamp;
use boot_model::intent::{Intent, Next};

use common::pxelinux::Configuration;
use common::{Draft, HOSTS, SITE, Site};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// More than any machine needs; a test that gets this far has failed.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery-menu-generator");

struct Running {
    child: Child,
    systemd: UnixDatagram,
}

impl Running {
    /// Starts the service and waits until it says that it is ready.
    fn start(site: &Site) -> Self {
        let path = site.directory.path().join("notify");
        let _ = fs::remove_file(&path);
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(site.file()).env("NOTIFY_SOCKET", &path).stderr(Stdio::null());
        let running = Self { child: command.spawn().unwrap(), systemd };
        running.receive("READY=1");
        running
    }

    fn receive(&self, expected: &str) {
        let mut buffer = [0; 512];
        loop {
            let length = self.systemd.recv(&mut buffer).expect("the service must notify");
            if buffer[..length].starts_with(expected.as_bytes()) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn menu_file(site: &Site, name: &str) -> PathBuf {
    site.layout.current_menus().join("10.77.0.1/pxelinux.cfg").join(name)
}

fn ids(site: &Site, name: &str) -> Vec<String> {
    let read = Configuration::parse(&fs::read_to_string(menu_file(site, name)).unwrap());
    assert_eq!(read.astray, [""; 0]);
    read.entries.into_iter().map(|entry| entry.id).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn verb(site: &Site, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("--config").arg(site.file()).args(arguments).output().unwrap()
}

#[test]
fn menus_follow_what_is_published_and_the_hosts() {
    let site = Site::new(SITE, HOSTS);
    let mut running = Running::start(&site);
    assert!(ids(&site, "default").contains(&"lab-again".to_owned()));

    site.publish(&Draft::new(1, 'a', "2026-11-20T14:03:00Z"));
    wait_until("the first generation", || ids(&site, "default") == ["lab-1-aaaaaaaa", "lab-disk"]);
    site.publish(&Draft::new(2, 'b', "2026-11-21T14:03:00Z"));
    wait_until("the second generation", || {
        ids(&site, "01-52-54-00-77-00-01") == ["lab-2-bbbbbbbb", "lab-1-aaaaaaaa", "lab-disk"]
    });

    let printer = "52:54:00:77:00:03\"\nname = \"printer\"";
    assert!(!menu_file(&site, "01-52-54-00-77-00-03").exists());
    let hosts = HOSTS.replace(printer, &format!("{printer}\nrole = \"lab\""));
    fs::write(site.directory.path().join("hosts.d/hosts.toml"), hosts).unwrap();
    running.signal(Signal::SIGHUP);
    wait_until("the printer's menu", || menu_file(&site, "01-52-54-00-77-00-03").exists());
    // A broken file changes nothing; the service goes on.
    fs::write(site.directory.path().join("hosts.d/hosts.toml"), "host = 1").unwrap();
    running.signal(Signal::SIGHUP);
    site.publish(&Draft::new(3, 'c', "2026-11-22T14:03:00Z"));
    wait_until("the third generation", || ids(&site, "01-52-54-00-77-00-03").len() == 4);

    running.signal(Signal::SIGTERM);
    running.receive("STOPPING=1");
    assert!(running.child.wait().unwrap().success());
}

/// From the wish to the menu that boots it unasked, to the report that ends it.
#[test]
fn a_wish_for_the_next_boot_is_fulfilled_once() {
    let site = Site::new(SITE, HOSTS);
    site.publish(&Draft::new(1, 'a', "2026-11-20T14:03:00Z"));
    site.publish(&Draft::new(2, 'b', "2026-11-21T14:03:00Z"));
    let _running = Running::start(&site);
    let unasked = || {
        let text = fs::read_to_string(menu_file(&site, "01-52-54-00-77-00-01")).unwrap();
        let entries = Configuration::parse(&text).entries;
        entries.into_iter().find(|entry| entry.default).unwrap().id
    };
    assert_eq!(unasked(), "lab-2-bbbbbbbb");
    let mac = "52:54:00:77:00:01".parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let at = Timestamp::from_unix_millis;
    let next = Next::Generation { generation: "lab/1-aaaaaaaa".parse().unwrap() };
    fs::create_dir_all(site.layout.intents()).unwrap();
    fs::write(site.layout.intent(mac), Intent::new(mac, at(now), at(now + 86_400_000), next).to_json()).unwrap();
    wait_until("the wish", || unasked() == "lab-1-aaaaaaaa");

    let event = |generation: &str| {
        format!(
            "{{\"time\":\"{}\",\"mac\":\"{mac}\",\"event\":\"report\",\"report\":{{\"mac\":\"{mac}\",\"boot-id\":1,\
             \"generation\":\"lab/{generation}\",\"step\":\"network\",\"status\":\"ok\",\"uptime-ms\":1000}}}}\n",
            at(now + 60_000)
        )
    };
    let events = site.layout.events("nar-cache");
    fs::create_dir_all(&events).unwrap();
    fs::write(events.join("events.jsonl"), event("2-bbbbbbbb")).unwrap();
    // Somebody chose another entry: the wish stays. Only the answer to it ends it.
    let mut file = fs::OpenOptions::new().append(true).open(events.join("events.jsonl")).unwrap();
    let answer = event("1-aaaaaaaa");
    file.write_all(&answer.as_bytes()[..20]).unwrap();
    assert!(site.layout.intent(mac).exists());
    file.write_all(&answer.as_bytes()[20..]).unwrap();
    wait_until("the end of the wish", || unasked() == "lab-2-bbbbbbbb" && !site.layout.intent(mac).exists());
}

#[test]
fn killed_while_it_writes_it_leaves_a_whole_set() {
    let site = Site::new(SITE, HOSTS);
    for (round, letter) in "abcdfghi".chars().enumerate() {
        let running = Running::start(&site);
        site.publish(&Draft::new(round as u32 + 1, letter, "2026-11-20T14:03:00Z"));
        // Wherever it is by now, a little later each round.
        std::thread::sleep(Duration::from_millis(round as u64 * 3));
        running.signal(Signal::SIGKILL);
        drop(running);
        // It was ready, so what was published before it started is in the menus; the newest is there or not.
        let entries =
            ids(&site, "default").into_iter().filter(|id| !id.ends_with("-disk") && !id.contains("note")).count();
        assert!(entries == round.max(1) || entries == round + 1, "round {round}: {entries} entries");
        let set = fs::canonicalize(site.layout.current_menus()).unwrap();
        let count = |folder: &str| fs::read_dir(set.join("10.77.0.1").join(folder)).unwrap().count();
        assert_eq!((count("pxelinux.cfg"), count("ipxe")), (3, 3));
    }
}

#[test]
fn render_prints_one_menu_and_check_says_what_is_left_out() {
    let site = Site::new(SITE, HOSTS);
    let mut draft = Draft::new(1, 'a', "2026-11-20T14:03:00Z");
    draft.specialisations.push(("odd".to_owned(), "NixOS".to_owned(), vec!["#".to_owned()]));
    site.publish(&draft);
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let own = verb(&site, &["render", "--host", "52:54:00:77:00:01", "--loader", "pxelinux"]);
    assert!(own.status.success());
    assert!(text(&own).contains("MENU TITLE Physics lab - Zurich\n"), "{}", text(&own));
    let stranger = verb(&site, &["render", "--host", "52:54:00:00:00:09", "--loader", "ipxe", "--server", "10.77.0.1"]);
    assert!(text(&stranger).starts_with("#!ipxe\n") && text(&stranger).contains("\nmenu Physics lab - Zurich\n"));

    let check = verb(&site, &["check"]);
    assert_eq!(check.status.code(), Some(1), "an entry that ipxe cannot start is not served");
    let check = text(&check);
    assert!(check.contains("19 menus for 1 server addresses, 2 hosts with a role"), "{check}");
    assert!(check.contains("role lab: 1 generations, boots 1-aaaaaaaa unasked"), "{check}");
    assert!(check.contains("cannot serve lab/1-aaaaaaaa [odd] is not in the menus for ipxe"), "{check}");
    // Looking changes nothing.
    assert!(!site.layout.menus().exists());
}

#[test]
fn what_makes_no_sense_is_said_with_the_right_exit_code() {
    let site = Site::new(SITE, HOSTS);
    let said = |arguments: &[&str]| {
        let output = verb(&site, arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = said(&["render", "--loader", "lilo"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("is no loader; write one of pxelinux, syslinux-efi, ipxe"), "{text}");
    let (code, text) = said(&["render", "--loader", "ipxe", "--server", "10.0.0.9"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("no [[subnet]] has the server address 10.0.0.9; there is 10.77.0.1"), "{text}");
    fs::write(site.file(), "stat = 1").unwrap();
    assert_eq!(said(&["check"]).0, Some(78));
}
