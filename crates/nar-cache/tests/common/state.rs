//! A state directory as publisher, menu-generator and dhcpd leave it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;

use boot_model::generation::{Closure, Entry, FileDigest, Generation, boot_file};
use boot_model::{Architecture, GenerationId, GenerationRef, MacAddr, Sha256Digest, StorePath};
use dhcp_engine::{ClientKey, Lease, LeaseState, journal};
use generations::Layout;
use sha2::{Digest, Sha256};

pub const KERNEL: &[u8] = b"a kernel";
pub const INITRD: &[u8] = b"an initrd";
/// The card that has 127.0.0.1 by its lease.
pub const MAC: MacAddr = MacAddr::new([0x52, 0x54, 0x00, 0x77, 0x00, 0x01]);
/// Bytes of a pack: more than both ends' socket buffers take on loopback.
pub const PACK_LEN: u64 = 64 * 1024 * 1024;

/// Removed when dropped.
pub struct State {
    pub layout: Layout,
    directory: tempfile::TempDir,
}

impl State {
    /// Generation 1 of role `lab`, its menus, two loaders, its cache, and the lease of 127.0.0.1.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("state"));
        let state = Self { layout, directory };
        state.publish(1, 'a');
        state.write("menus/current/127.0.0.1/ipxe/default.ipxe", b"#!ipxe\nmenu everybody\n");
        state.write("menus/current/127.0.0.1/ipxe/52-54-00-77-00-01.ipxe", b"#!ipxe\nmenu one\n");
        state.write("menus/current/127.0.0.1/pxelinux.cfg/default", b"DEFAULT linux\n");
        state.write("loaders/lpxelinux.0", b"lpxelinux");
        state.write("loaders/x86_64/snponly.efi", b"MZ");
        state.write("loaders/loaders.json", b"{}");
        state.write("cache/nix-cache-info", b"StoreDir: /nix/store\n");
        state.lease(Ipv4Addr::LOCALHOST, MAC);
        state
    }

    /// A state directory that somebody else made.
    pub fn of(layout: Layout) -> Self {
        Self { layout, directory: tempfile::tempdir().unwrap() }
    }

    /// A folder beside the state directory: nothing in it may ever be served.
    pub fn outside(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.layout.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Publishes generation `number` whose hash is all `letter`, with one pack.
    pub fn publish(&self, number: u32, letter: char) -> GenerationRef {
        self.publish_with(number, letter, INITRD)
    }

    /// The same with an initrd of its own.
    pub fn publish_with(&self, number: u32, letter: char, initrd: &[u8]) -> GenerationRef {
        let toplevel = toplevel(letter);
        let reference = GenerationRef { role: "lab".parse().unwrap(), id: GenerationId::new(number, &toplevel) };
        self.write(&format!("cache/{}.narinfo", toplevel.hash()), narinfo(letter).as_bytes());
        self.write(&format!("cache/{}.ls", toplevel.hash()), b"{}");
        self.write(&format!("cache/nar/{letter}.nar.zst"), b"");
        let pack = File::create(self.layout.cache().join(format!("nar/{letter}.nar.zst"))).unwrap();
        pack.set_len(PACK_LEN).unwrap();
        let closure = format!("rookery-closure: 1\n\n{}", narinfo(letter));
        let staged = self.layout.role(&reference.role).join(".staging");
        fs::create_dir_all(staged.join("boot")).unwrap();
        let mut files = BTreeMap::new();
        for (name, bytes) in [
            (boot_file(digest(KERNEL)), KERNEL),
            (boot_file(digest(initrd)), initrd),
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
            initrd: digest(initrd),
        };
        let totals = Closure { paths: 1, nar_size: 1, file_size: PACK_LEN };
        let date = "2026-11-20T14:03:00Z".parse().unwrap();
        let generation =
            Generation::new(reference.clone(), date, Architecture::X86_64, vec![entry], totals, files).unwrap();
        fs::write(staged.join(Layout::GENERATION_NAME), generation.to_json()).unwrap();
        fs::write(staged.join(Layout::SIGNATURE_NAME), "site-1:AAAA\n").unwrap();
        fs::rename(staged, self.layout.generation(&reference)).unwrap();
        reference
    }

    /// Writes dhcpd's journal with this one lease, which does not end.
    pub fn lease(&self, address: Ipv4Addr, mac: MacAddr) {
        let lease = Lease {
            address,
            client: ClientKey::Mac(mac),
            mac: Some(mac),
            host_name: None,
            state: LeaseState::Bound,
            written: 1,
            expires: u64::MAX,
        };
        let mut bytes = journal::header(0).to_vec();
        journal::append(&mut bytes, 1, &lease);
        self.write("leases/journal", &bytes);
    }
}

pub fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(bytes).into())
}

pub fn toplevel(letter: char) -> StorePath {
    let hash: String = std::iter::repeat_n(letter, 32).collect();
    format!("/nix/store/{hash}-nixos-system-lab").parse().unwrap()
}

pub fn narinfo(letter: char) -> String {
    format!(
        "StorePath: {}\nURL: nar/{letter}.nar.zst\nCompression: zstd\n\
         FileHash: sha256:{zeros}\nFileSize: {PACK_LEN}\nNarHash: sha256:{zeros}\nNarSize: 1\nReferences: \n",
        toplevel(letter),
        zeros = "0".repeat(52)
    )
}
