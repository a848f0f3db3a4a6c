//! Clients that lose a part of each window, as network cards do that have fewer buffers than the window has blocks.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tftp_engine::Stats;

/// The windows that such clients are granted. A client can say so of itself only: it takes answers to its address.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// The one that was found first in front.
    windows: Mutex<VecDeque<(Ipv4Addr, u16)>>,
}

impl Gaps {
    /// The largest window for this client, of at most `most` blocks.
    pub(crate) fn window(&self, client: Ipv4Addr, most: u16) -> u16 {
        let known = self.windows().iter().find(|known| known.0 == client).map(|known| known.1);
        known.map_or(most, |window| window.min(most))
    }

    /// Takes in how a transfer in windows of this size went. If the client lost a part of many, it gets half as much from its next
    /// transfer on; that is returned where it is the first time, so that it is said once for each client.
    pub(crate) fn learn(&self, client: Ipv4Addr, window: u16, stats: &Stats) -> Option<u16> {
        let sent = stats.blocks_sent / u64::from(window.max(1));
        if window < 2 || stats.gaps < FEW || u64::from(stats.gaps) * SHARE < sent {
            return None;
        }
        let half = window / 2;
        let mut windows = self.windows();
        if let Some(known) = windows.iter_mut().find(|known| known.0 == client) {
            known.1 = known.1.min(half);
            return None;
        }
        if windows.len() == MOST {
            windows.pop_front();
        }
        windows.push_back((client, half));
        Some(half)
    }

    fn windows(&self) -> MutexGuard<'_, VecDeque<(Ipv4Addr, u16)>> {
        // Each change is one assignment or one push.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many gaps in one transfer may be chance.
const FEW: u32 = 8;
/// One window of so many with a gap is no accident of a cable, which loses one packet of thousands.
const SHARE: u64 = 4;
/// Clients that are known at once: 16 KiB.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);

    fn went(windows: u64, window: u16, gaps: u32) -> Stats {
        Stats { blocks_sent: windows * u64::from(window), gaps, ..Stats::default() }
    }

    #[test]
    fn who_loses_a_part_of_many_windows_gets_smaller_ones() {
        let gaps = Gaps::default();
        for (window, stats, why) in [
            (64, went(1000, 64, 100), "a lossy cable"),
            (64, went(8, 64, 7), "few"),
            (1, went(100, 1, 100), "a window has one block at least"),
        ] {
            assert_eq!(gaps.learn(CLIENT, window, &stats), None, "{why}");
            assert_eq!(gaps.window(CLIENT, 64), 64, "{why}");
        }
        assert_eq!(gaps.learn(CLIENT, 64, &went(100, 64, 90)), Some(32));
        assert_eq!(gaps.window(CLIENT, 64), 32);
        assert_eq!(gaps.learn(CLIENT, 32, &went(100, 32, 90)), None, "it is said once");
        assert_eq!((gaps.window(CLIENT, 64), gaps.window(CLIENT, 4)), (16, 4));
        assert_eq!(gaps.learn(CLIENT, 64, &went(100, 64, 90)), None, "of a transfer that began before");
        assert_eq!(gaps.window(CLIENT, 64), 16);
        assert_eq!(gaps.window(Ipv4Addr::new(10, 77, 0, 51), 64), 64);
    }

    #[test]
    fn the_clients_that_are_known_are_bounded() {
        let gaps = Gaps::default();
        let clients = (0..=MOST).map(|n| Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap()));
        for client in clients.clone() {
            gaps.learn(client, 64, &went(100, 64, 90));
        }
        let known: Vec<bool> = clients.map(|client| gaps.window(client, 64) == 32).collect();
        assert_eq!(known.iter().filter(|known| **known).count(), MOST);
        assert!(!known[0] && known[1]);
    }
}
