use std::collections::{BTreeMap, BTreeSet};

use super::peers::Server;
use crate::bench::percentile;

/// What was measured: of each measure of each server a figure for each round, unless the server failed.
#[derive(Debug, Default)]
pub(super) struct Figures {
    samples: BTreeMap<(Server, Measure), Vec<f64>>,
    failed: BTreeSet<(Server, Measure)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// Leases a second.
    Leases,
    /// Leases a second when four times as many are asked for.
    Flooded,
    /// How many times the best rate that was: DISCOVERs sent.
    Pressure,
    /// Milliseconds from REQUEST to ACK, which so many of a hundred don't exceed.
    Delay(usize),
    /// Seconds until so many machines, switched on at once, have their leases.
    Avalanche(u32),
    /// Milliseconds until it serves.
    Start,
}

impl Figures {
    pub(super) fn add(&mut self, server: Server, measure: Measure, figure: f64) {
        self.samples.entry((server, measure)).or_default().push(figure);
    }

    pub(super) fn fail(&mut self, server: Server, measure: Measure) {
        self.failed.insert((server, measure));
    }

    pub(super) fn has_failed(&self, server: Server, measure: Measure) -> bool {
        self.failed.contains(&(server, measure))
    }

    /// The median of what was measured; `None` where every round failed.
    pub(super) fn median(&self, server: Server, measure: Measure) -> Option<f64> {
        self.samples.get(&(server, measure)).map(|samples| percentile(samples, 50))
    }
}
