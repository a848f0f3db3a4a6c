//! Clients that others wrote: tftp-hpa, atftp, curl and busybox fetch through the service.
//!
//! A client that is not installed is skipped, unless ROOKERY_REQUIRE_PEERS is set: then the test fails.

#![allow(clippy::unwrap_used, reason = "allow-unwrap-in-tests does not reach the helpers of an integration test")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Server, peer};

/// More than 65,535 blocks of 512 bytes.
const MANY_BLOCKS: usize = 512 * 65_540 + 100;

/// Runs `program` with `arguments`, in which HOST, PORT and TO stand for what they say and `_` for a space.
fn fetch(server: &Server, program: &Path, arguments: &str) -> Vec<u8> {
    let to = server.path("fetched");
    // Also makes busybox and tftp-hpa agree on whether the file may exist.
    let _ = std::fs::remove_file(&to);
    let arguments = arguments.split(' ').map(|word| {
        word.replace('_', " ")
            .replace("HOST", &server.address.ip().to_string())
            .replace("PORT", &server.address.port().to_string())
            .replace("TO", to.to_str().unwrap())
    });
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", program.display());
    std::fs::read(&to).unwrap_or_default()
}

fn fetches(program: &str, runs: &[(usize, &str, &str)]) {
    let Some(program) = peer(program) else { return };
    let server = Server::start();
    let mut expected = Vec::new();
    for (size, arguments, options) in runs {
        let bytes = server.put("file", *size);
        assert!(fetch(&server, &program, arguments) == bytes, "{size} bytes by {arguments}");
        expected.push(format!("file {size} Some(Complete){options}"));
    }
    assert_eq!(server.stop(), expected);
}

#[test]
fn tftp_hpa() {
    fetches(
        "tftp",
        &[
            (0, "-m binary HOST PORT -c get file TO", ""),
            (512, "-m binary HOST PORT -c get file TO", ""),
            (100_000, "-m binary HOST PORT -c get file TO", ""),
            (MANY_BLOCKS, "-m binary HOST PORT -c get file TO", ""),
        ],
    );
}

#[test]
fn tftp_hpa_in_its_default_mode_gets_the_text_back() {
    let Some(program) = peer("tftp") else { return };
    let server = Server::start();
    let text = "DEFAULT nixos\nLABEL nixos\n".repeat(100);
    std::fs::write(server.path("file"), &text).unwrap();
    assert_eq!(fetch(&server, &program, "HOST PORT -c get file TO"), text.as_bytes());
}

#[test]
fn atftp() {
    fetches(
        "atftp",
        &[
            (0, "-g -r file -l TO HOST PORT", ""),
            (1_000_000, "--option blksize_1468 -g -r file -l TO HOST PORT", " blksize=1468"),
            (
                1_000_000,
                "--option blksize_1468 --option windowsize_16 -g -r file -l TO HOST PORT",
                " blksize=1468 windowsize=16",
            ),
            (
                1_000_000,
                "--option tsize_0 --option windowsize_64 -g -r file -l TO HOST PORT",
                " tsize=1000000 windowsize=64",
            ),
        ],
    );
}

#[test]
fn curl() {
    fetches(
        "curl",
        &[
            // curl takes "tsize 0" in an OACK for an error, so an empty file only works without options.
            (0, "-sS --tftp-no-options -o TO tftp://HOST:PORT/file", ""),
            (1_000_000, "-sS --tftp-blksize 1468 -o TO tftp://HOST:PORT/file", " tsize=1000000 blksize=1468 timeout=6"),
            (MANY_BLOCKS, "-sS --tftp-no-options -o TO tftp://HOST:PORT/file", ""),
        ],
    );
}

#[test]
fn busybox() {
    fetches(
        "busybox",
        &[
            (0, "tftp -g -r file -l TO HOST PORT", " tsize=0"),
            (1_000_000, "tftp -g -b 1468 -r file -l TO HOST PORT", " blksize=1468 tsize=1000000"),
            (MANY_BLOCKS, "tftp -g -r file -l TO HOST PORT", " tsize=33556580"),
        ],
    );
}
