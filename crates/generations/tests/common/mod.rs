//! Publishes small generations by hand, as the publisher would leave them.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests, of which each uses some")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use boot_model::generation::{Closure, Entry, FileDigest, Generation, boot_file};
use boot_model::{Architecture, GenerationId, GenerationRef, Sha256Digest, StorePath};
use generations::Layout;
use sha2::{Digest, Sha256};

pub(crate) const KERNEL: &[u8] = b"a kernel";
pub(crate) const INITRD: &[u8] = b"an initrd";

pub(crate) fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(bytes).into())
}

pub(crate) fn toplevel(letter: char) -> StorePath {
    let hash: String = std::iter::repeat_n(letter, 32).collect();
    format!("/nix/store/{hash}-nixos-system-lab").parse().unwrap()
}

/// Publishes generation `number` of role `lab` whose hash is all `letter`.
pub(crate) fn publish(layout: &Layout, number: u32, letter: char) -> GenerationRef {
    let toplevel = toplevel(letter);
    let reference = GenerationRef { role: "lab".parse().unwrap(), id: GenerationId::new(number, &toplevel) };
    let closure = format!(
        "rookery-closure: 1\n\nStorePath: {toplevel}\nURL: nar/{letter}.nar.zst\nCompression: zstd\n\
         FileHash: sha256:{zeros}\nFileSize: 1\nNarHash: sha256:{zeros}\nNarSize: 1\nReferences: \n",
        zeros = "0".repeat(52)
    );
    let mut files = BTreeMap::new();
    let staged = layout.role(&reference.role).join(".staging");
    fs::create_dir_all(staged.join("boot")).unwrap();
    for (name, bytes) in [
        (boot_file(digest(KERNEL)), KERNEL),
        (boot_file(digest(INITRD)), INITRD),
        ("closure".to_owned(), closure.as_bytes()),
    ] {
        fs::write(staged.join(&name), bytes).unwrap();
        files.insert(name, FileDigest { sha256: digest(bytes), size: bytes.len() as u64 });
    }
    let entry = Entry {
        specialisation: None,
        label: format!("NixOS {number}").parse().unwrap(),
        init: format!("{toplevel}/init").parse().unwrap(),
        toplevel,
        kernel_parameters: vec!["quiet".parse().unwrap()],
        kernel_version: None,
        kernel: digest(KERNEL),
        initrd: digest(INITRD),
    };
    let totals = Closure { paths: 1, nar_size: 1, file_size: 1 };
    let date = "2026-11-20T14:03:00Z".parse().unwrap();
    let generation =
        Generation::new(reference.clone(), date, Architecture::X86_64, vec![entry], totals, files).unwrap();
    fs::write(staged.join(Layout::GENERATION_NAME), generation.to_json()).unwrap();
    fs::write(staged.join(Layout::SIGNATURE_NAME), "site-1:AAAA\n").unwrap();
    fs::rename(staged, layout.generation(&reference)).unwrap();
    reference
}

pub(crate) fn set_default(layout: &Layout, generation: &GenerationRef) {
    let link = layout.default_link(&generation.role);
    let staged = link.with_file_name(".default");
    symlink(generation.id.to_string(), &staged).unwrap();
    fs::rename(staged, link).unwrap();
}
