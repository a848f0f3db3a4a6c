//! What is served, to the byte of its framing, and what is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;

use common::state::{INITRD, KERNEL, PACK_LEN, digest, narinfo, toplevel};
use common::{Client, Server, eventually};
use nix::sys::socket::sockopt::TcpNoDelay;
use nix::sys::socket::{SockaddrIn, getpeername, getsockopt};

#[test]
fn each_kind_of_name_with_its_type_and_caching() {
    let server = Server::start();
    let (kernel, initrd, hash) = (digest(KERNEL), digest(INITRD), toplevel('a').hash());
    let forever = "public, max-age=31536000, immutable";
    for (path, body, content_type, caching) in [
        ("/nix-cache-info", &b"StoreDir: /nix/store\n"[..], "text/x-nix-cache-info", "no-cache"),
        (&format!("/{hash}.narinfo"), narinfo('a').as_bytes(), "text/x-nix-narinfo", "no-cache"),
        (&format!("/{hash}.ls"), b"{}", "application/json", "no-cache"),
        (&format!("/boot/lab/1-aaaaaaaa/{kernel}"), KERNEL, "application/octet-stream", forever),
        (&format!("/boot/lab/1-aaaaaaaa/{initrd}"), INITRD, "application/octet-stream", forever),
        ("/generations/lab/1-aaaaaaaa/generation.json.sig", b"site-1:AAAA\n", "text/plain; charset=utf-8", "no-cache"),
        ("/lpxelinux.0", b"lpxelinux", "application/octet-stream", "no-cache"),
        ("//lpxelinux.0", b"lpxelinux", "application/octet-stream", "no-cache"),
        ("/x86_64/snponly.efi", b"MZ", "application/efi", "no-cache"),
        ("/%6cpxelinux.0?x=1", b"lpxelinux", "application/octet-stream", "no-cache"),
        ("/pxelinux.cfg/default", b"DEFAULT linux\n", "text/plain; charset=utf-8", "no-cache"),
        ("/boot.ipxe", b"#!ipxe\nmenu one\n", "text/plain; charset=utf-8", "no-cache"),
    ] {
        let response = server.get(path);
        assert_eq!((response.status(), &response.body[..]), (200, body), "{path}");
        assert_eq!(response.header("Content-Type"), Some(content_type), "{path}");
        assert_eq!(response.header("Cache-Control"), Some(caching), "{path}");
        assert_eq!(response.header("Accept-Ranges"), Some("bytes"), "{path}");
        assert!(response.head.iter().map(|line| line.len() + 2).sum::<usize>() < 1024, "{path}");
    }
}

/// The publisher adds the signature of a new key by rename.
#[test]
fn a_narinfo_that_was_signed_again_is_another_one() {
    let server = Server::start();
    let path = format!("/{}.narinfo", toplevel('a').hash());
    let mut client = server.client();
    let tag = client.get(&path).header("Etag").unwrap().to_owned();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n");
    client.send(&ask);
    assert_eq!(client.response_to("GET").status(), 304);
    let signed = format!("{}Sig: site-2:AAAA\n", narinfo('a'));
    server.state.write("cache/.staged", signed.as_bytes());
    let cache = server.state.layout.cache();
    fs::rename(cache.join(".staged"), cache.join(&path[1..])).unwrap();
    client.send(&ask);
    assert_eq!(client.response_to("GET").text(), signed);
}

#[test]
fn a_client_without_a_lease_gets_the_menu_of_everybody() {
    let server = Server::start();
    server.state.lease("10.77.0.100".parse().unwrap(), common::state::MAC);
    assert_eq!(server.get("/boot.ipxe").text(), "#!ipxe\nmenu everybody\n");
}

#[test]
fn framing_of_http_1_1_with_keep_alive() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..2 {
        let response = client.get("/nix-cache-info");
        assert_eq!(
            response.framing(),
            "HTTP/1.1 200 OK\nEtag: ...\nCache-Control: no-cache\nContent-Type: text/x-nix-cache-info\n\
             Content-Length: 21\nAccept-Ranges: bytes\nDate: ..."
        );
        assert_eq!(response.text(), "StoreDir: /nix/store\n");
    }
    let response = client.get("/nothing");
    assert_eq!(
        response.framing(),
        "HTTP/1.1 404 Not Found\nContent-Type: text/plain; charset=utf-8\nContent-Length: 104\n\
         Cache-Control: no-store\nDate: ..."
    );
    assert_eq!(client.get("/nix-cache-info").status(), 200, "an error leaves the connection open");
    client.send("GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response_to("GET").header("Connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

/// lpxelinux asks so, with its cookies.
#[test]
fn framing_of_http_1_0() {
    let server = Server::start();
    let mut client = server.client();
    client.send(
        "GET /boot.ipxe HTTP/1.0\r\nHost: 10.77.0.1\r\nUser-Agent: Syslinux/6.04\r\nConnection: close\r\n\
         Cookie: _Syslinux_BOOTIF=01-52-54-00-77-00-01\r\n\r\n",
    );
    let response = client.response_to("GET");
    assert_eq!(
        response.framing(),
        "HTTP/1.0 200 OK\nEtag: ...\nCache-Control: no-cache\nContent-Type: text/plain; charset=utf-8\n\
         Content-Length: 16\nAccept-Ranges: bytes\nDate: ..."
    );
    assert_eq!(response.text(), "#!ipxe\nmenu one\n");
    assert_eq!(client.rest(), b"", "the connection is closed after it");

    let mut client = server.client();
    for _ in 0..2 {
        client.send("GET /boot.ipxe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let kept = client.response_to("GET");
        assert_eq!((&*kept.head[0], kept.header("Connection")), ("HTTP/1.0 200 OK", Some("keep-alive")));
    }
}

#[test]
fn head_says_what_get_would() {
    let server = Server::start();
    let boot = format!("/boot/lab/1-aaaaaaaa/{}", digest(KERNEL));
    for path in ["/nix-cache-info", "/nar/a.nar.zst", &boot, "/nothing", "/a%2fb"] {
        let mut client = server.client();
        client.send(&format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let head = client.response_to("HEAD");
        assert_eq!(client.rest(), b"", "{path}");
        assert_eq!(head.framing(), server.get(path).framing(), "{path}");
    }
    assert_eq!(server.request("HEAD", "/nar/a.nar.zst", "").header("Content-Length"), Some("67108864"));
    // UEFI firmware asks HEAD and GET on one connection.
    let mut client = server.client();
    client.send("HEAD /x86_64/snponly.efi HTTP/1.1\r\nHost: 10.77.0.1\r\n\r\n");
    assert_eq!(client.response_to("HEAD").header("Content-Length"), Some("2"));
    assert_eq!(client.get("/x86_64/snponly.efi").body, b"MZ");
}

#[test]
fn ranges() {
    let server = Server::start();
    let path = format!("/boot/lab/1-aaaaaaaa/{}", digest(KERNEL));
    let tag = format!("\"{}\"", digest(KERNEL));
    for (headers, status, range, body) in [
        ("Range: bytes=0-0\r\n".to_owned(), 206, Some("bytes 0-0/8"), "a"),
        ("Range: bytes=2-\r\n".to_owned(), 206, Some("bytes 2-7/8"), "kernel"),
        ("Range: bytes=-3\r\n".to_owned(), 206, Some("bytes 5-7/8"), "nel"),
        ("Range: bytes=2-999\r\n".to_owned(), 206, Some("bytes 2-7/8"), "kernel"),
        ("Range: bytes=0-0,2-3\r\n".to_owned(), 200, None, "a kernel"),
        ("Range: nonsense\r\n".to_owned(), 200, None, "a kernel"),
        (format!("If-Range: {tag}\r\nRange: bytes=2-\r\n"), 206, Some("bytes 2-7/8"), "kernel"),
        ("If-Range: \"other\"\r\nRange: bytes=2-\r\n".to_owned(), 200, None, "a kernel"),
        (format!("If-None-Match: {tag}\r\nRange: bytes=2-\r\n"), 304, None, ""),
    ] {
        let response = server.request("GET", &path, &headers);
        assert_eq!((response.status(), response.text()), (status, body), "{headers}");
        assert_eq!(response.header("Content-Range"), range, "{headers}");
        assert_eq!(response.header("Etag"), Some(&*tag), "{headers}");
    }
    let beyond = server.request("GET", &path, "Range: bytes=8-\r\n");
    assert_eq!((beyond.status(), beyond.header("Content-Range")), (416, Some("bytes */8")));
    let head = server.request("HEAD", &path, "Range: bytes=8-\r\n");
    assert_eq!((head.status(), head.header("Content-Length")), (200, Some("8")), "ranges are for GET alone");
}

#[test]
fn ranges_deep_in_a_pack() {
    let server = Server::start();
    // A pack is a hole in these tests; something to recognise lies across the boundary of two chunks.
    let pack = server.state.layout.cache().join("nar/a.nar.zst");
    let at = 5 * 256 * 1024 - 3;
    std::os::unix::fs::FileExt::write_all_at(&fs::File::options().write(true).open(pack).unwrap(), b"needle", at)
        .unwrap();
    let needle = server.request("GET", "/nar/a.nar.zst", &format!("Range: bytes={at}-{}\r\n", at + 5));
    assert_eq!(needle.text(), "needle");
    let tail = server.request("GET", "/nar/a.nar.zst", &format!("Range: bytes={at}-\r\n"));
    assert_eq!(tail.body.len() as u64, PACK_LEN - at);
    assert!(tail.body.starts_with(b"needle\0"));
}

#[test]
fn a_tag_changes_with_the_file_and_only_then() {
    let server = Server::start();
    for (path, file) in [
        ("/boot.ipxe", "menus/current/127.0.0.1/ipxe/52-54-00-77-00-01.ipxe"),
        ("/lpxelinux.0", "loaders/lpxelinux.0"),
        ("/nix-cache-info", "cache/nix-cache-info"),
    ] {
        let tag = server.get(path).header("Etag").unwrap().to_owned();
        let again = server.request("GET", path, &format!("If-None-Match: \"x\", {tag}\r\n"));
        assert_eq!((again.status(), again.header("Etag"), again.header("Content-Length")), (304, Some(&*tag), None));
        // As all writers do: a new file of the same length, moved over the old.
        let old = fs::read(server.state.layout.root().join(file)).unwrap();
        server.state.write("staged", &vec![b'x'; old.len()]);
        fs::rename(server.state.layout.root().join("staged"), server.state.layout.root().join(file)).unwrap();
        let changed = server.request("GET", path, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((changed.status(), changed.body), (200, vec![b'x'; old.len()]), "{path}");
        assert_ne!(changed.head, again.head);
    }
}

#[test]
fn nothing_else_of_the_disk() {
    let server = Server::start();
    let state = &server.state;
    fs::write(state.outside().join("secret"), "a secret").unwrap();
    state.write("intents/secret", b"a secret");
    state.write("cache/nar/unpublished.nar.zst", b"a secret");
    state.write(&format!("cache/{}.narinfo", toplevel('b').hash()), b"a secret");
    symlink(state.outside().join("secret"), state.layout.loaders().join("absolute")).unwrap();
    symlink("../../secret", state.layout.loaders().join("relative")).unwrap();
    symlink("/proc/self/environ", state.layout.loaders().join("magic")).unwrap();
    let unpublished = format!("/{}.narinfo", toplevel('b').hash());
    for path in [
        "/",
        "/../secret",
        "/x86_64/../../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/loaders/%2e%2e/%2e%2e/secret",
        "/..\\secret",
        "/absolute",
        "/relative",
        "/magic",
        "/x86_64",
        "/loaders.json",
        "/.hidden",
        "/intents/secret",
        "/leases/journal",
        "/events/nar-cache/events.jsonl",
        "/generations/lab/1-aaaaaaaa",
        "/generations/lab/1-aaaaaaaa/boot",
        "/generations/lab/1-aaaaaaaa/../1-aaaaaaaa/generation.json",
        "/generations/lab/2-bbbbbbbb/generation.json",
        "/nar/unpublished.nar.zst",
        "/nar/../nix-cache-info",
        "/cache/nix-cache-info",
        "/nix-cache-info%00",
        "/etc/passwd",
        "//etc/passwd",
        "/boot/lab/1-aaaaaaaa/generation.json",
        &unpublished,
    ] {
        let response = server.get(path);
        assert!(matches!(response.status(), 400 | 404), "{path}: {}", response.status());
        let text = response.text();
        assert!(!text.contains("secret") && !text.contains(state.outside().to_str().unwrap()), "{path}: {text}");
        assert_eq!(text.lines().count(), 2, "{path}: the phrase and what to do, and no word of the request: {text}");
        assert_eq!(response.header("Cache-Control"), Some("no-store"), "{path}");
    }
}

#[test]
fn a_file_that_cannot_be_served_tells_nothing_of_itself() {
    let server = Server::start();
    // Shorter than its listing says is found out by the client; gone is found out here.
    fs::remove_file(server.state.layout.cache().join("nar/a.nar.zst")).unwrap();
    fs::create_dir(server.state.layout.cache().join("nar/a.nar.zst")).unwrap();
    let response = server.get("/nar/a.nar.zst");
    assert_eq!(response.status(), 404);
    assert!(!response.text().contains("nar/"));
}

#[test]
fn other_methods_are_named_those_that_work() {
    let server = Server::start();
    for (method, path, allow) in [
        ("PUT", "/nar/a.nar.zst", "GET, HEAD"),
        ("DELETE", "/nix-cache-info", "GET, HEAD"),
        ("OPTIONS", "/", "GET, HEAD"),
        ("POST", "/boot.ipxe", "GET, HEAD"),
        ("GET", "/report", "POST"),
        ("PUT", "/report", "POST"),
    ] {
        let response = server.request(method, path, "");
        assert_eq!((response.status(), response.header("Allow")), (405, Some(allow)), "{method} {path}");
    }
}

#[test]
fn a_generation_is_served_once_published_and_no_more_once_removed() {
    let server = Server::start();
    assert_eq!(server.get("/nar/b.nar.zst").status(), 404);
    let second = server.state.publish(2, 'b');
    eventually(|| server.get("/nar/b.nar.zst").status() == 200);
    let mut client = Client::connect(server.address);
    client.send("GET /nar/b.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.head()[0], "HTTP/1.1 200 OK");
    // While that response is on its way, the generation and its pack go.
    fs::remove_dir_all(server.state.layout.generation(&second)).unwrap();
    fs::remove_file(server.state.layout.cache().join("nar/b.nar.zst")).unwrap();
    eventually(|| server.get("/generations/lab/2-bbbbbbbb/closure").status() == 404);
    assert_eq!(client.exactly(PACK_LEN as usize).len() as u64, PACK_LEN);
    assert_eq!(client.get("/nar/b.nar.zst").status(), 404);
}

#[test]
fn a_bundle_is_served_by_its_two_generations() {
    let server = Server::start();
    let path = "/bundle/lab/7-bbbbbbbb..1-aaaaaaaa";
    assert_eq!(server.get(path).status(), 404, "none was made yet");
    server.state.write("bundles/lab/7-bbbbbbbb..1-aaaaaaaa", b"a bundle");
    let bundle = server.request("GET", path, "Range: bytes=2-\r\n");
    assert_eq!((bundle.status(), bundle.text()), (206, "bundle"));
    assert_eq!(bundle.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!(bundle.header("Cache-Control"), Some("no-cache"));
    for other in ["/bundle/lab/1-aaaaaaaa..2-bbbbbbbb", "/bundle/lab/1-aaaaaaaa", "/bundles/lab/7-bbbbbbbb..1-aaaaaaaa"]
    {
        assert_eq!(server.get(other).status(), 404, "{other}");
    }
}

/// With Nagle's algorithm the end of each response would wait for the client's delayed acknowledgement, 40 ms a path.
#[test]
fn responses_do_not_wait_for_acknowledgements() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.get("/nix-cache-info").status(), 200);
    let ours = client.stream.local_addr().unwrap();
    // The server's end of the connection is a descriptor of this process too.
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = descriptors.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_its_end =
        |number: &i32| getpeername::<SockaddrIn>(*number).is_ok_and(|peer| SocketAddr::V4(peer.into()) == ours);
    let number = numbers.into_iter().find(is_its_end).unwrap();
    // SAFETY: the connection is open as long as `client` is, and the server with it; nothing else closes this descriptor.
    #[allow(unsafe_code)]
    let end = unsafe { BorrowedFd::borrow_raw(number) };
    assert!(getsockopt(&end, TcpNoDelay).unwrap());
}
