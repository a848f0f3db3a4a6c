//! The service over real sockets on loopback, with a client driven packet by packet.

#![allow(clippy::unwrap_used, reason = "allow-unwrap-in-tests does not reach the helpers of an integration test")]

mod common;

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{BOUNDS, Client, STRANGER, Server, pattern, until};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tftp_engine::Wishes;
use tftpd::Bounds;
use tftpd::get::{GetError, Url, get};

const NOT_FOUND: &[u8] = b"\0\x05\0\x01file not found\0";
const ACCESS: &[u8] = b"\0\x05\0\x02access violation\0";

fn url(server: &Server, file: &str) -> Url {
    format!("tftp://{}/{file}", server.address).parse().unwrap()
}

#[test]
fn get_fetches_with_every_shape_of_window() {
    let server = Server::start();
    let to = server.path("fetched");
    let wishes = |block_size, window| Wishes { block_size, window, timeout: None };
    for (size, wishes) in [
        (0, wishes(None, None)),
        (512, wishes(None, None)),
        (100_000, wishes(Some(1468), None)),
        (1_000_000, wishes(Some(1468), Some(16))),
        (1_000_000, wishes(Some(1468), Some(64))),
        (1468 * 44, wishes(Some(1468), Some(44))),
        (1_000_000, wishes(Some(65464), Some(4))),
        (70_000 * 8, wishes(Some(8), Some(64))),
        (10_000, wishes(Some(1400), Some(3))),
    ] {
        let bytes = server.put("file", size);
        let got = get(&url(&server, "file"), wishes, &to).unwrap();
        assert_eq!(got.bytes, size as u64);
        assert!(std::fs::read(&to).unwrap() == bytes, "{size} bytes with {wishes:?}");
    }
    let ended = server.stop();
    assert_eq!(ended.len(), 9);
    assert_eq!(ended[3], "file 1000000 Some(Complete) tsize=1000000 blksize=1468 windowsize=16");
    assert_eq!(ended[4], "file 1000000 Some(Complete) tsize=1000000 blksize=1468 windowsize=44");
}

#[test]
fn get_reports_what_the_server_says() {
    let server = Server::start();
    let to = server.path("fetched");
    let error = get(&url(&server, "none"), Wishes::default(), &to).unwrap_err();
    assert!(matches!(error, GetError::Fetch(..)));
    assert!(error.to_string().ends_with("the server answered ERROR 1: file not found"), "{error}");
}

#[test]
fn only_regular_files_beneath_the_root_are_served() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let server = Server::start();
    mkfifo(&server.path("fifo"), Mode::S_IRWXU).unwrap();
    std::fs::create_dir(server.path("directory")).unwrap();
    symlink(outside.path().join("secret"), server.path("out")).unwrap();
    symlink("/dev/zero", server.path("device")).unwrap();
    symlink("/proc/self/environ", server.path("magic")).unwrap();
    let mut client = Client::new(&server);
    for (name, answer) in [
        ("fifo", ACCESS),
        ("directory", ACCESS),
        ("out", ACCESS),
        ("device", ACCESS),
        ("magic", ACCESS),
        ("none", NOT_FOUND),
        ("fifo/x", NOT_FOUND),
        ("../secret", NOT_FOUND),
        ("\u{fffd}\u{fffd}", NOT_FOUND),
    ] {
        client.request(format!("\0\u{1}{name}\0octet\0tsize\x000\0").as_bytes());
        assert_eq!(client.receive(), answer, "{name}");
    }
    client.request(b"\0\x01loader/\xffOnboard\0octet\0");
    assert_eq!(client.receive(), NOT_FOUND, "rhboot/shim#649");
    client.request(b"\0\x02upload\0octet\0");
    assert_eq!(client.receive(), b"\0\x05\0\x02read only\0");
    client.request(b"\0\x01f\0mail\0");
    assert_eq!(client.receive(), b"\0\x05\0\x04use octet mode\0");
    assert_eq!(server.desk.counts().refused.load(Ordering::Relaxed), 12);
    let told = server.stop();
    assert_eq!(told.len(), 5, "a name that is served but can't be opened is worth a line: {told:?}");
}

/// UEFI asks for the size, says "aborted" and asks for the file, all from one port; async-tftp never answers the second.
#[test]
fn a_probe_and_then_the_file_from_the_same_port() {
    let server = Server::start();
    let bytes = server.put("bootx64.efi", 700);
    let mut client = Client::new(&server);
    // The second round asks with the very bytes of the probe.
    for options in ["blksize\x001468\0windowsize\x004\0", "tsize\x000\0blksize\x001468\0"] {
        client.request(b"\0\x01bootx64.efi\0octet\0tsize\x000\0blksize\x001468\0");
        assert_eq!(client.receive(), b"\0\x06tsize\x00700\0blksize\x001468\0");
        client.reply(b"\0\x05\0\x08User aborted the transfer\0");
        let probe = client.from;
        client.request(format!("\0\u{1}bootx64.efi\0octet\0{options}").as_bytes());
        let oack = client.receive();
        assert_eq!(oack[..2], [0, 6]);
        assert_ne!(client.from, probe, "a transfer of its own");
        client.reply(b"\0\x04\0\0");
        assert_eq!(client.receive(), [b"\0\x03\0\x01", bytes.as_slice()].concat());
        client.reply(b"\0\x04\0\x01");
    }
    // Each transfer has a socket of its own; which of them is read first is chance.
    let mut told = server.stop();
    told.sort();
    assert_eq!(
        told,
        [
            "bootx64.efi 0 Some(SizeProbe) tsize=700 blksize=1468",
            "bootx64.efi 0 Some(SizeProbe) tsize=700 blksize=1468",
            "bootx64.efi 700 Some(Complete) blksize=1468 windowsize=4",
            "bootx64.efi 700 Some(Complete) tsize=700 blksize=1468",
        ]
    );
}

#[test]
fn a_new_request_from_the_same_port_replaces_the_transfer() {
    let server = Server::start();
    server.put("first", 5000);
    server.put("second", 10);
    let mut client = Client::new(&server);
    client.request(b"\0\x01first\0octet\0");
    assert_eq!(client.receive()[..4], *b"\0\x03\0\x01");
    client.request(b"\0\x01second\0octet\0");
    assert_eq!(client.receive(), [b"\0\x03\0\x01", pattern(10).as_slice()].concat());
    client.reply(b"\0\x04\0\x01");
    assert_eq!(server.stop(), ["first 0 Some(Replaced)", "second 10 Some(Complete)"]);
}

/// The published file is replaced while it is on its way: the transfer keeps the one it opened.
#[test]
fn a_transfer_keeps_the_file_it_opened() {
    let server = Server::start();
    let bytes = server.put("menu", 1000);
    let mut client = Client::new(&server);
    client.request(b"\0\x01menu\0octet\0");
    assert_eq!(client.receive()[4..], bytes[..512]);
    std::fs::write(server.path("next"), "another").unwrap();
    std::fs::rename(server.path("next"), server.path("menu")).unwrap();
    client.reply(b"\0\x04\0\x01");
    assert_eq!(client.receive()[4..], bytes[512..]);
    client.reply(b"\0\x04\0\x02");
}

#[test]
fn text_is_translated() {
    let server = Server::start();
    std::fs::write(server.path("menu"), "a\nb\n").unwrap();
    let mut client = Client::new(&server);
    client.request(b"\0\x01menu\0netascii\0tsize\x000\0");
    assert_eq!(client.receive(), b"\0\x03\0\x01a\r\nb\r\n", "no OACK: tsize is not known");
    client.reply(b"\0\x04\0\x01");
}

/// Nobody listens any more at the client's port: the transfer ends at once and leaves its place to others.
#[test]
fn a_client_that_is_gone_gives_its_place_back() {
    let server = Server::with(Bounds { max_transfers: 1, ..BOUNDS });
    server.put("file", 100_000);
    let mut gone = Client::new(&server);
    gone.request(b"\0\x01file\0octet\0tsize\x000\0");
    gone.receive();
    gone.reply(b"\0\x04\0\0");
    gone.receive();
    drop(gone);
    // `get` asks again until there is a place.
    get(&url(&server, "file"), Wishes::default(), &server.path("fetched")).unwrap();
    assert_eq!(server.stop(), ["file 0 Some(Gone) tsize=100000", "file 100000 Some(Complete) tsize=100000"]);
}

#[test]
fn requests_beyond_the_bounds_are_dropped_and_counted() {
    let server = Server::with(Bounds { max_transfers_per_client: 2, ..BOUNDS });
    server.put("file", 10);
    let mut clients: Vec<Client> = (0..2).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        client.request(b"\0\x01file\0octet\0tsize\x000\0");
        assert_eq!(client.receive(), b"\0\x06tsize\x0010\0");
        // Only who has answered keeps a place.
        client.reply(b"\0\x04\0\0");
        client.receive();
    }
    let third = Client::new(&server);
    third.request(b"\0\x01file\0octet\0");
    third.request(b"noise");
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    until(|| count(&server.desk.counts().dropped_busy) == 1 && count(&server.desk.counts().dropped_noise) == 1);
    clients[0].reply(b"\0\x05\0\0enough\0");
    // The place is free a moment after the transfer has ended; `get` asks until it is.
    get(&url(&server, "file"), Wishes::default(), &server.path("fetched")).unwrap();
    assert_eq!(server.stop()[..2], ["file 0 Some(Aborted(ErrorCode(0))) tsize=10", "file 10 Some(Complete) tsize=10"]);
}

/// A room's worth of requests in other people's names does not keep the machines out that answer.
#[test]
fn forged_requests_make_room() {
    let server = Server::with(Bounds { max_transfers: 3, ..BOUNDS });
    let bytes = server.put("file", 2000);
    let forged: Vec<Client> = (0..3).map(|_| Client::new(&server)).collect();
    for client in &forged {
        client.request(b"\0\x01file\0octet\0tsize\x000\0");
    }
    let mut client = Client::new(&server);
    client.request(b"\0\x01file\0octet\0");
    assert_eq!(client.receive()[4..], bytes[..512]);
    until(|| server.desk.counts().evicted.load(Ordering::Relaxed) == 1);
    client.reply(b"\0\x04\0\x01");
    assert_eq!(client.receive()[4..], bytes[512..1024]);
}

#[test]
fn a_stranger_hears_nothing() {
    let server = Server::start();
    server.put("file", 10);
    let stranger = Client::at(&server, STRANGER);
    stranger.request(b"\0\x01file\0octet\0");
    stranger.request(b"\0\x02file\0octet\0");
    until(|| server.desk.counts().dropped_noise.load(Ordering::Relaxed) == 2);
    assert!(stranger.hears_nothing());
}

#[test]
fn get_leaves_its_file_alone_until_there_is_another() {
    let server = Server::start();
    let to = server.path("fetched");
    std::fs::write(&to, "what was there").unwrap();
    get(&url(&server, "none"), Wishes::default(), &to).unwrap_err();
    assert_eq!(std::fs::read(&to).unwrap(), b"what was there");
    server.put("empty", 0);
    get(&url(&server, "empty"), Wishes::default(), &to).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"");
}

#[test]
fn an_address_that_is_not_configured_is_not_answered_at_and_ends_nothing() {
    let server = Server::start();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // The socket hears on every address, as one of systemd's may; 127.0.0.2 is ours too, as every address of that network.
    socket.send_to(b"\0\x01file\0octet\0", ("127.0.0.2", server.address.port())).unwrap();
    until(|| server.desk.counts().dropped_noise.load(Ordering::Relaxed) == 1);
    server.put("file", 3);
    let to = server.path("fetched");
    get(&url(&server, "file"), Wishes::default(), &to).unwrap();
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// A network card with two buffers, whatever the window.
#[test]
fn a_client_that_loses_a_part_of_each_window_gets_smaller_ones() {
    const REQUEST: &[u8] = b"\0\x01kernel\0octet\0windowsize\x004\0";
    let server = Server::start();
    server.put("kernel", 512 * 40);
    let mut client = Client::new(&server);
    client.request(REQUEST);
    assert_eq!(client.receive(), b"\0\x06windowsize\x004\0");
    client.reply(b"\0\x04\0\0");
    let mut arrived: u16 = 0;
    // The 41st, empty, ends it.
    while arrived < 41 {
        let (before, last) = (arrived, (arrived + 4).min(41));
        loop {
            let data = client.receive();
            let block = u16::from_be_bytes([data[2], data[3]]);
            if block == arrived + 1 && block <= before + 2 {
                arrived = block;
            }
            if block == last {
                break;
            }
        }
        // An answer that is faster than any before is none to this window.
        std::thread::sleep(std::time::Duration::from_millis(20));
        client.reply(&[&[0, 4][..], &arrived.to_be_bytes()].concat());
    }
    until(|| server.desk.counts().complete.load(Ordering::Relaxed) == 1);
    let granted = |mut client: Client| {
        client.request(REQUEST);
        let oack = client.receive();
        client.reply(b"\0\x05\0\0enough\0");
        oack
    };
    assert_eq!(granted(Client::new(&server)), b"\0\x06windowsize\x002\0");
    assert_eq!(granted(Client::at(&server, [127, 0, 0, 2].into())), b"\0\x06windowsize\x004\0", "another client");
}
