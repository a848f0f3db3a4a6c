#![no_main]

#[path = "../../../crates/dhcp-engine/tests/properties.rs"]
#[allow(dead_code, unused_imports)]
mod properties;

use dhcp_engine::{Engine, Mode};
use libfuzzer_sys::fuzz_target;
use properties::common::{at, policy};

// Parse, decide, encode: packets one after another, to one engine that keeps what it learns.
//
// The first byte chooses the policy; then each packet has the seconds since the one before, whether it was broadcast (bit 0), and
// its length as two bytes, the lower first.
fuzz_target!(|bytes: &[u8]| {
    let Some((choice, mut rest)) = bytes.split_first() else { return };
    let mut policy = properties::identified(policy(), choice & 1 == 1);
    policy.subnets[0].mode = if choice & 2 == 2 { Mode::Proxy } else { Mode::Full };
    let mut engine = Engine::new(policy, [], at(0));
    let mut now = 0;
    while let Some(([pause, flags, low, high], packets)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(packets.len());
        let (packet, behind) = packets.split_at(length);
        now += u64::from(*pause);
        properties::feed(&mut engine, now, packet, flags & 1 == 1);
        rest = behind;
    }
});
