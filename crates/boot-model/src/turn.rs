//! How a server tells a client that others are served first: the answer begins, and its body comes in morsels until it is the
//! client's turn. Only what reads [`HEADER`] knows it; every other client sees a slow answer.

use std::time::Duration;

/// The header of an answer whose client has to wait, with the value [`LATER`].
pub const HEADER: &str = "rookery-turn";

/// Not yet: what comes first are morsels.
pub const LATER: &str = "later";

/// Bytes of a morsel.
pub const MORSEL: usize = 4096;

/// The pause before each morsel. UEFI gives up after 5 s without a byte (EDK2's `HTTP_BOOT_RESPONSE_TIMEOUT`), the agent after 15, GRUB
/// after 30, Nix after 300.
pub const PAUSE: Duration = Duration::from_secs(2);
