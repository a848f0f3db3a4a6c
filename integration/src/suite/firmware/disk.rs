//! Disks with just enough on them for a firmware to start, and to be told from all else on its console.

use std::path::Path;

use crate::Result;
use crate::client::Firmware;
use crate::nbd::Disk;

/// What is printed by such a disk's program.
pub(super) const WORD: &str = "the local disk was started";

const SECTOR: usize = 512;

/// A diskette's worth, whose FAT fills nine sectors.
const SECTORS: u16 = 2880;
const FAT_SECTORS: usize = 9;
const ROOT_ENTRIES: usize = 224;

/// A disk that this firmware starts.
pub(super) fn startable(directory: &Path, name: &str, firmware: Firmware) -> Result<Disk> {
    let content = match firmware {
        Firmware::Ipxe | Firmware::PlainPxe => boot_sector(),
        _ => efi_volume(),
    };
    let disk = Disk::create(directory, name, u64::from(SECTORS) * SECTOR as u64)?;
    disk.put(0, &content)?;
    Ok(disk)
}

/// A boot sector that prints the word by the BIOS's means and halts.
fn boot_sector() -> Vec<u8> {
    #[rustfmt::skip]
    const CODE: [u8; 24] = [
        0x31, 0xc0,       //       xor ax, ax
        0x8e, 0xd8,       //       mov ds, ax
        0xfc,             //       cld
        0xbe, 0x18, 0x7c, //       mov si, 0x7c18, which is the byte behind this code
        0xac,             // next: lodsb
        0x84, 0xc0,       //       test al, al
        0x74, 0x08,       //       jz halt
        0xb4, 0x0e,       //       mov ah, 14, which writes as a terminal does
        0x31, 0xdb,       //       xor bx, bx
        0xcd, 0x10,       //       int 16
        0xeb, 0xf3,       //       jmp next
        0xf4,             // halt: hlt
        0xeb, 0xfd,       //       jmp halt
    ];
    signed([CODE.as_slice(), b"\r\n", WORD.as_bytes(), b"\r\n\0"].concat())
}

/// A FAT file system without partitions, with `\EFI\BOOT\BOOTX64.EFI` and nothing else.
fn efi_volume() -> Vec<u8> {
    let program = efi_program();
    // The folders are the clusters 2 and 3, the program 4 and 5; each cluster is a sector, and 0xfff ends a file.
    let fat = padded(vec![0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x05, 0xf0, 0xff], FAT_SECTORS * SECTOR);
    let root = padded(entry("EFI", FOLDER, 2, 0), ROOT_ENTRIES * 32);
    let folder = |own, parent, only: Vec<u8>| {
        padded([entry(".", FOLDER, own, 0), entry("..", FOLDER, parent, 0), only].concat(), SECTOR)
    };
    let efi = folder(2, 0, entry("BOOT", FOLDER, 3, 0));
    let boot = folder(3, 2, entry("BOOTX64 EFI", FILE, 4, program.len() as u32));
    [fat_boot_sector(), fat.clone(), fat, root, efi, boot, program].concat()
}

/// How the file system is laid out (the BIOS parameter block of FAT12).
fn fat_boot_sector() -> Vec<u8> {
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let block = [
        b"\xeb\x3c\x90ROOKERY ".as_slice(),
        &words(&[SECTOR as u16]),
        &[1],         // sector in a cluster
        &words(&[1]), // sector before the FAT
        &[2],         // FATs
        &words(&[ROOT_ENTRIES as u16, SECTORS]),
        &[0xf0],
        // Sectors of a FAT, and of a track; heads; then what disks beyond 32 MB need.
        &words(&[FAT_SECTORS as u16, 18, 2, 0, 0, 0, 0, 0]),
        &[0x29, 1, 0, 0, 0],
        b"ROOKERY    FAT12   ",
    ];
    signed(block.concat())
}

const FOLDER: u8 = 0x10;
const FILE: u8 = 0x20;

/// An entry of a folder.
fn entry(name: &str, attribute: u8, cluster: u16, size: u32) -> Vec<u8> {
    let mut entry = format!("{name:<11}").into_bytes();
    entry.push(attribute);
    entry.extend([0; 14]);
    entry.extend(cluster.to_le_bytes());
    entry.extend(size.to_le_bytes());
    entry
}

/// An EFI program for 64-bit PCs that prints the word by the firmware's means and halts: two sectors, headers and code.
fn efi_program() -> Vec<u8> {
    #[rustfmt::skip]
    const CODE: [u8; 24] = [
        0x48, 0x83, 0xec, 0x28,             //       sub rsp, 40
        0x48, 0x8b, 0x4a, 0x40,             //       mov rcx, [rdx + 64]: the system table's ConOut
        0x48, 0x8d, 0x15, 0x09, 0, 0, 0,    //       lea rdx, [the byte behind this code]
        0xff, 0x51, 0x08,                   //       call [rcx + 8]: OutputString
        0xf4,                               // halt: hlt
        0xeb, 0xfd,                         //       jmp halt
        0x90, 0x90, 0x90,                   //       so that the word is at an even address
    ];
    let word = format!("\r\n{WORD}\r\n\0").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let code = [CODE.as_slice(), &word].concat();
    [padded(program_headers(), SECTOR), padded(code, SECTOR)].concat()
}

/// The headers of a PE32+ program whose code is the second sector of the file and the second page in memory.
fn program_headers() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let (sector, page) = (SECTOR as u32, 0x1000);
    let dos = [padded(b"MZ".to_vec(), 0x3c), words(&[0x40])].concat();
    // One section for x86-64, 240 bytes of optional header, executable and at home above 4 GiB.
    let file = [b"PE\0\0\x64\x86\x01\0".to_vec(), words(&[0, 0, 0]), vec![0xf0, 0, 0x22, 0]].concat();
    let optional = [
        vec![0x0b, 0x02, 0, 0],
        words(&[sector, 0, 0, page, page]), // code's size, its entry and its place
        words(&[0, 0, page, sector]),       // base, alignments in memory and in the file
        words(&[0, 0, 0, 0, 2 * page, sector, 0, 10]), // versions, sizes of all and of the headers, an EFI application
        words(&[0x10000, 0, 0x1000, 0, 0x10000, 0, 0x1000, 0, 0, 16]), // stack, heap, and 16 directories
        vec![0; 16 * 8],
    ];
    let section = [b".text\0\0\0".to_vec(), words(&[sector, page, sector, sector, 0, 0, 0, 0x6000_0020])];
    [dos, file, optional.concat(), section.concat()].concat()
}

fn signed(sector: Vec<u8>) -> Vec<u8> {
    [padded(sector, SECTOR - 2), vec![0x55, 0xaa]].concat()
}

fn padded(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.resize(length, 0);
    bytes
}
