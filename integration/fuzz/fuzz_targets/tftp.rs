#![no_main]

#[path = "../../../crates/tftp-engine/tests/mutations.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod mutations;

use libfuzzer_sys::fuzz_target;

// A request, a transfer that it begins, and a fetch that gets the same packets.
//
// Two bytes are a hundredth of the file's size; then come the request and the packets, each with the tenths of a second since the one
// before and its length, a byte each.
fuzz_target!(|bytes: &[u8]| {
    let Some((size, mut rest)) = bytes.split_first_chunk() else { return };
    let size = u64::from(u16::from_le_bytes(*size)) * 100;
    let mut packets = Vec::new();
    while let Some(([pause, length], behind)) = rest.split_first_chunk() {
        let (packet, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        packets.push((packet.to_vec(), u64::from(*pause) * 100));
        rest = behind;
    }
    let Some((request, _)) = packets.first().cloned() else { return };
    mutations::check_request(&request, size);
    mutations::check_transfer(&request, &packets[1..], size);
    mutations::check_fetch(&packets[1..]);
});
