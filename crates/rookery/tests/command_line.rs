//! The program as an admin runs it: exit code and text, both.
#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

#[path = "../../publish/tests/support/mod.rs"]
mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::TestStore;

struct Site {
    test: TestStore,
}

impl Site {
    /// A site with a key.
    fn new() -> Self {
        let site = Self::without_key();
        site.succeeds(&["keys", "generate", "site-1"]);
        site
    }

    fn without_key() -> Self {
        let test = TestStore::new();
        let config = format!(
            "state-directory = {:?}\n[publish]\nsecret-key-file = {:?}\n",
            test.state(),
            test.file("secret-key")
        );
        fs::write(test.file("rookery.toml"), config).unwrap();
        Self { test }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.arg("--config").arg(self.test.file("rookery.toml")).args(arguments);
        command
    }

    /// The lock of all writers, as another publisher holds it.
    fn lock(&self) -> File {
        let generations = self.test.state().join("generations");
        fs::create_dir_all(&generations).unwrap();
        let lock = File::create(generations.join(".lock")).unwrap();
        lock.lock().unwrap();
        lock
    }

    fn publish(&self, system: &str) -> Command {
        let mut command = self.command(&["publish", "lab"]);
        let toplevel = support::store_path(&format!("nixos-system-{system}"));
        command.arg(toplevel.as_str()).arg("--store").arg(self.test.root());
        command
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        succeeds(&mut self.command(arguments))
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[arguments, &["--json"]].concat())).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, message: &str) {
        fails(&mut self.command(arguments), code, message);
    }
}

/// Runs it, expects exit code 0 and nothing on standard error; returns standard output.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    String::from_utf8(stdout).unwrap()
}

/// Runs it and expects this exit code and this in the message.
#[track_caller]
fn fails(command: &mut Command, code: i32, message: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(message), "{said}");
}

#[test]
fn from_an_empty_state_directory_to_two_generations() {
    let site = Site::new();
    let (one, two) = (site.test.system("one"), site.test.system("two"));
    assert!(site.succeeds(&["list"]).contains("nothing is published yet"));

    let (first, second) = (format!("lab/1-{}", one.hash().short()), format!("lab/2-{}", two.hash().short()));
    assert_eq!(succeeds(&mut site.publish("one")), format!("published {first}, which lab boots from now on\n"));
    let published: Value = serde_json::from_str(&succeeds(site.publish("two").arg("--json"))).unwrap();
    assert_eq!((&published["generation"], &published["new"]), (&json!(second), &json!(true)));
    assert!(succeeds(&mut site.publish("two")).contains("is published already"));

    let list = site.succeeds(&["list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines[0], "lab (manual)");
    assert!(lines[1].starts_with(&format!("  * {}", &second[4..])) && lines[1].ends_with("NixOS two"), "{list}");
    assert!(lines[2].starts_with(&format!("    {}", &first[4..])), "{list}");

    assert_eq!(site.succeeds(&["rollback", "lab"]), format!("lab boots {first} from now on\n"));
    assert_eq!(site.json(&["list"])["roles"][0]["default"], first[4..]);
    assert_eq!(site.json(&["default", "lab", "2"])["default"], second);
    assert!(site.succeeds(&["show", "lab/1"]).contains("label    NixOS one"));
    assert_eq!(site.json(&["show", &second])["default"], true);
    assert_eq!(site.succeeds(&["verify"]), "2 generations are as they were published\n");
    assert_eq!(site.json(&["verify", "lab/1"])["checked"], json!([first]));
    assert_eq!(site.json(&["remove", "lab/1"])["removed"], first);
    site.fails(&["show", "lab/1"], 1, "lab has no generation 1");
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    let site = Site::new();
    site.fails(&["publsh"], 64, "unrecognized subcommand 'publsh'");
    site.fails(&["show", "lab"], 64, "\"lab\" is no generation: write <role>/<id>");
    site.fails(&["rollback", "../lab"], 64, "is no role name");
    site.fails(&["default", "lab", "newest"], 64, "\"newest\" is no generation");
    site.fails(&["publish", "lab", "/etc", "--number", "0"], 64, "0 is not in");
    site.fails(&["publish", "lab", "/etc", "--date", "today"], 64, "\"today\" is no date");
    site.fails(&["keys", "generate", "a:b"], 64, "must be printable ASCII");
    site.fails(&["publish", "lab", "/etc"], 1, "/etc is no path in the Nix store");
    site.fails(&["verify", "lab"], 1, "nothing is published as lab");
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let site = Site::without_key();
    site.fails(&["keys", "show"], 78, "there is no key");
    site.test.system("one");
    fails(&mut site.publish("one"), 78, "make one with `rookery keys generate <name>`");
    fs::write(site.test.file("secret-key"), "site-1:AAAA").unwrap();
    fails(&mut site.publish("one"), 78, "secret-key: secret key \"site-1\" has 3 bytes where 64 are needed");

    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_rookery"));
    fails(nowhere.args(["list", "--config", "/nowhere/rookery.toml"]), 78, "/nowhere/rookery.toml");
    fs::write(site.test.file("rookery.toml"), "stat-directory = \"/x\"\n").unwrap();
    site.fails(&["list"], 78, "stat-directory");
}

#[test]
fn the_secret_key_is_private_and_never_overwritten() {
    let site = Site::without_key();
    let made = site.json(&["keys", "generate", "site-1"]);
    let file = site.test.file("secret-key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(site.json(&["keys", "show"])["public-keys"], json!([made["public-key"]]));
    let secret = fs::read_to_string(&file).unwrap();
    site.fails(&["keys", "generate", "site-2"], 1, "is there already, and clients trust it");
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);

    // Nix derives the same public key from it.
    let mut convert = site.test.command("nix");
    convert.args(["key", "convert-secret-to-public"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut convert = convert.spawn().unwrap();
    convert.stdin.take().unwrap().write_all(secret.trim_end().as_bytes()).unwrap();
    let public = String::from_utf8(convert.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(public.trim_end(), made["public-key"]);
}

#[test]
fn verify_tells_what_changed_by_its_exit_code_and_its_text() {
    let site = Site::new();
    site.test.system("one");
    succeeds(&mut site.publish("one"));
    let pack = fs::read_dir(site.test.state().join("cache/nar")).unwrap().next().unwrap().unwrap().path();
    fs::write(&pack, "torn").unwrap();
    let output = site.command(&["verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(&format!("{}: it has 4 bytes", pack.display())));
    assert!(String::from_utf8(output.stderr).unwrap().contains("1 files are not as they were published"));
}

#[test]
fn follow_mirrors_once_or_until_it_is_told_to_end() {
    let site = Site::new();
    let one = site.test.system("one");
    let profiles = site.test.file("profiles");
    fs::create_dir(&profiles).unwrap();
    let profile = profiles.join("lab");
    site.test.nix("nix-env", &["--profile", profile.to_str().unwrap(), "--set", one.as_str()]);
    let (profiles, root) = (profiles.to_str().unwrap(), site.test.root());
    let follow = ["follow", profiles, "--store", root.to_str().unwrap()];
    let generation = format!("lab/1-{}", one.hash().short());
    let once = site.succeeds(&[&follow[..], &["--once"]].concat());
    assert_eq!(once, format!("published {generation}\ndefault {generation}\n"));
    fails(site.publish("one").args(["--number", "9"]), 1, "the role lab is published by follow");

    symlink("/etc", Path::new(profiles).join("lab-2-link")).unwrap();
    site.fails(&[&follow[..], &["--once"]].concat(), 1, "lab-2-link: it leads elsewhere");

    // It has looked once when it has said so; then it waits, and a signal ends it.
    let mut following = site.command(&follow).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(following.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("lab-2-link"), "{line}");
    kill(Pid::from_raw(following.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(following.wait().unwrap().code(), Some(0));
}

#[test]
fn who_waits_for_the_lock_says_so_and_goes_on() {
    let site = Site::new();
    site.test.system("one");
    let lock = site.lock();
    let mut waiting = site.publish("one").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "rookery: another process is publishing; waiting for it to finish\n");
    assert!(!site.test.state().join("generations/lab").exists());
    drop(lock);
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert!(site.test.state().join("generations/lab/default").exists());
}

/// The first look may take longer than systemd waits for a service to start, and longer than an admin wants to.
#[test]
fn a_follower_is_ready_before_its_first_look_and_a_second_signal_ends_it_at_once() {
    let site = Site::new();
    let _lock = site.lock();
    let profiles = site.test.file("profiles");
    fs::create_dir(&profiles).unwrap();
    let notified = UnixDatagram::bind(site.test.file("notify")).unwrap();
    let mut follow = site.command(&["follow", profiles.to_str().unwrap()]);
    let mut follow = follow.env("NOTIFY_SOCKET", site.test.file("notify")).stderr(Stdio::null()).spawn().unwrap();
    let message = || {
        let mut buffer = [0; 64];
        let length = notified.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(message(), "READY=1\nSTATUS=following");
    let pid = Pid::from_raw(follow.id().cast_signed());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(message(), "STOPPING=1");
    assert_eq!(follow.try_wait().unwrap(), None, "what it does is finished first");
    // Pending until the thread that took the first one lets it through.
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(follow.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_terminal_sees_how_far_packing_is_and_a_file_does_not() {
    let site = Site::new();
    site.test.system("one");
    let publish = site.publish("one");
    let words: Vec<String> = [publish.get_program()].into_iter().chain(publish.get_args()).map(quoted).collect();
    let seen =
        succeeds(Command::new("script").args(["--quiet", "--return", "/dev/null", "--command", &words.join(" ")]));
    assert!(seen.contains("packing [") && seen.contains("published lab/1-"), "{seen}");
}

fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_str().unwrap())
}

#[test]
fn loaders_are_copied_with_their_table() {
    let site = Site::new();
    let from = site.test.file("loaders");
    fs::create_dir(&from).unwrap();
    let install = ["loaders", "install", "--from", from.to_str().unwrap()];
    site.fails(&install, 1, "lpxelinux.0, ldlinux.c32");
    assert!(!site.test.state().join("loaders").exists());
    for name in ["lpxelinux.0", "ldlinux.c32", "menu.c32", "vesamenu.c32", "libutil.c32", "libcom32.c32"] {
        fs::write(from.join(name), name).unwrap();
    }
    let mut careful = Command::new("sh");
    careful.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_rookery"));
    careful.args(site.command(&install).get_args());
    assert!(succeeds(&mut careful).contains("without iPXE for UEFI: snponly.efi not found"));
    for (name, mode) in [("", 0o755), ("menu.c32", 0o644), ("loaders.json", 0o644)] {
        let metadata = fs::metadata(site.test.state().join("loaders").join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "services of other users read {name:?}");
    }
    fs::write(from.join("snponly.efi"), efi_program(0xaa64)).unwrap();
    site.fails(&install, 1, "snponly.efi is an EFI program for 64-bit Arm, but uefi-x64 starts");
    fs::write(from.join("snponly.efi"), efi_program(0x8664)).unwrap();
    let installed = site.json(&install);
    let target = site.test.state().join("loaders");
    let table: Value = serde_json::from_slice(&fs::read(target.join("loaders.json")).unwrap()).unwrap();
    assert_eq!(installed["table"], table);
    assert_eq!(table, json!({"bios": "lpxelinux.0", "uefi-x64": "snponly.efi", "http-x64": "snponly.efi"}));
    assert_eq!(fs::read_to_string(target.join("menu.c32")).unwrap(), "menu.c32");
    assert_eq!(fs::read_dir(target).unwrap().count(), 8, "no unfinished file is left");
}

#[test]
fn a_firmware_gets_the_loader_that_was_wished() {
    let site = Site::new();
    let root = site.test.file("root");
    for name in ["PXELINUX/lpxelinux.0", "shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubnetx64.efi.signed"] {
        let file = root.join("usr/lib").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, if name.ends_with('0') { Vec::new() } else { efi_program(0x8664) }).unwrap();
    }
    let modules = root.join("usr/lib/syslinux/modules/bios");
    fs::create_dir_all(&modules).unwrap();
    for name in ["ldlinux.c32", "menu.c32", "vesamenu.c32", "libutil.c32", "libcom32.c32"] {
        fs::write(modules.join(name), name).unwrap();
    }
    let install = ["loaders", "install", "--from", root.to_str().unwrap()];
    assert_eq!(site.json(&install)["table"], json!({"bios": "lpxelinux.0", "uefi-x64": "shimx64.efi"}));
    site.fails(&[&install[..], &["--loader", "uefi-x64=ipxe"]].concat(), 1, "snponly.efi for uefi-x64 was not found");
    let unknown = [&install[..], &["--loader", "uefi-x64=lilo"]].concat();
    site.fails(&unknown, 64, "there is ipxe, ipxe-drivers, grub, syslinux");
    site.fails(&[&install[..], &["--loader", "coreboot=ipxe"]].concat(), 64, "no loader is known for such a firmware");
    let grub = [&install[..], &["--loader", "uefi-x64=grub"]].concat();
    assert_eq!(site.json(&grub)["table"]["uefi-x64"], "shimx64.efi");
}

/// The headers of an EFI program for this machine type.
fn efi_program(machine: u16) -> Vec<u8> {
    let mut program = vec![0; 0x80];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x40;
    program[0x40..0x44].copy_from_slice(b"PE\0\0");
    program[0x44..0x46].copy_from_slice(&machine.to_le_bytes());
    program
}

/// In a mount namespace of its own, the state directory is a tmpfs of one megabyte.
#[test]
fn a_full_disk_publishes_nothing() {
    let site = Site::new();
    let noise: Vec<u8> = (0_u32..1 << 19).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let (kernel, initrd, library) = site.test.parts("large");
    let large = site.test.add("noise", &[], |path| fs::write(path, noise).unwrap());
    site.test.add("nixos-system-large", &[&kernel, &initrd, &library, &large], |path| {
        site.test.fill_toplevel(path, &kernel, &initrd);
    });
    fs::create_dir(site.test.state()).unwrap();
    let script = r#"state=$1; shift; mount -t tmpfs -o size=1m none "$state" || exit 99
        "$@"; code=$?
        find "$state" -name '.staging-*'
        test -e "$state/generations/lab" && echo "half published"
        exit $code"#;
    let publish = site.publish("large");
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(site.test.state())
        .arg(publish.get_program())
        .args(publish.get_args())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was published: free space there"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
}

#[test]
fn half_a_key_is_not_left_behind() {
    let site = Site::without_key();
    // Not one byte may be written to any file.
    let generate = site.command(&["keys", "generate", "site-1"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]);
    limited.arg(generate.get_program()).args(generate.get_args());
    fails(&mut limited, 1, "cannot write the secret key");
    assert!(!site.test.file("secret-key").exists());
    site.succeeds(&["keys", "generate", "site-1"]);
}

#[test]
fn the_state_directory_and_the_store_may_be_relative() {
    let site = Site::new();
    let one = site.test.system("one");
    let mut publish = site.command(&["publish", "lab", one.as_str(), "--state", "other", "--store", "root"]);
    succeeds(publish.current_dir(site.test.file(".")));
    assert!(site.test.file("other/generations/lab/default").exists());
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let site = Site::new();
    let mut child = site.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn a_wish_for_the_next_boot_is_written_and_taken_back() {
    let site = Site::new();
    site.test.system("one");
    succeeds(&mut site.publish("one"));
    let config = site.test.file("rookery.toml");
    let text = fs::read_to_string(&config).unwrap() + "[[role]]\nname = \"lab\"\n";
    fs::write(&config, text).unwrap();
    fs::create_dir(site.test.file("hosts.d")).unwrap();
    let hosts = "[[host]]\nmac = \"52:54:00:77:00:01\"\nname = \"pc01\"\nrole = \"lab\"\n\
                 [[host]]\nmac = \"52:54:00:77:00:02\"\nname = \"printer\"\n";
    fs::write(site.test.file("hosts.d/room.toml"), hosts).unwrap();
    let file = site.test.state().join("intents/52-54-00-77-00-01.json");
    let next = || serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap()["next"].clone();

    assert!(
        site.succeeds(&["boot-once", "pc01", "memtest"]).contains("at its next boot pc01 tests its memory; void after")
    );
    assert_eq!(next(), json!({"boot": "memtest"}));
    site.succeeds(&["boot-once", "52-54-00-77-00-01", "reinstall", "--disk-serial", "S 1"]);
    let first = next();
    assert_eq!((&first["boot"], &first["serial"]), (&json!("reinstall"), &json!("S 1")));
    site.succeeds(&["boot-once", "pc01", "reinstall", "--disk-serial", "S 1"]);
    assert_ne!(next()["nonce"], first["nonce"], "each consent is one of its own");
    site.succeeds(&["boot-once", "pc01", "nothing"]);
    assert!(!file.exists());
    site.succeeds(&["boot-once", "pc01", "nothing"]);

    site.fails(&["boot-once", "pc01", "reinstall"], 64, "--disk-serial");
    site.fails(&["boot-once", "pc01", "memtest", "--disk-serial", "S"], 64, "for reinstall alone");
    site.fails(&["boot-once", "pc01", "7"], 1, "lab has no generation 7");
    site.fails(&["boot-once", "printer", "memtest"], 64, "printer has no role");
    site.fails(&["boot-once", "pc09", "memtest"], 64, "no host in hosts.d is called \"pc09\"");
    assert!(!file.exists());
}
