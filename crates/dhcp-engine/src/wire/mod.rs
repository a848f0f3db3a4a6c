//! The framing of DHCP messages: what reads untrusted bytes and what writes replies.
//!
//! dhcproto supplies the vocabulary (codes, message types) and codes single options. The frame around them is ours, because
//! dhcproto 0.15 panics on a hardware address length over 16 and drops every option that follows a bad one
//! (docs/decisions/0002-dhcproto-behind-our-framing.md).

mod options;
mod overload;
mod reply;
mod request;

pub use options::Options;
pub use reply::{Reply, TooLarge};
pub use request::{MalformedRequest, Request};

/// Every DHCP message carries these bytes in front of its options (RFC 2131 §3).
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// The fixed part of a message, magic included.
const FIXED: usize = 240;

/// The fields `sname` and `file` within the fixed part (RFC 2131 §2).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

const PAD: u8 = 0;
const END: u8 = 255;
