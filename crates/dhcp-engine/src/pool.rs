use std::collections::HashSet;
use std::net::Ipv4Addr;

use crate::policy::{AddressRange, Subnet};

/// The pool addresses of one subnet as a bitmap: which have never been given to anybody.
#[derive(Debug)]
pub(crate) struct Pool {
    ranges: Vec<AddressRange>,
    /// One bit per address of all ranges in turn; set means not free.
    taken: Vec<u64>,
    size: u32,
    /// Addresses of the ranges that are never given out.
    excluded: HashSet<Ipv4Addr>,
}

impl Pool {
    /// The subnet's pools without the addresses that are never given out: ours, the routers', reserved ones, the network's edges.
    pub(crate) fn new(subnet: &Subnet) -> Self {
        let ranges = subnet.pools.clone();
        let size: u32 = ranges.iter().map(AddressRange::count).sum();
        let edges = [subnet.server, subnet.network.address(), subnet.network.broadcast()];
        let reserved = subnet.hosts.values().filter_map(|host| host.address);
        let excluded = edges.into_iter().chain(subnet.routers.iter().copied()).chain(reserved).collect();
        let mut pool = Self { ranges, taken: vec![0; (size as usize).div_ceil(64)], size, excluded };
        // The bits beyond the last address are no addresses.
        for bit in size..(pool.taken.len() * 64) as u32 {
            pool.set(bit, true);
        }
        let bits: Vec<u32> = pool.excluded.iter().filter_map(|address| pool.bit(*address)).collect();
        for bit in bits {
            pool.set(bit, true);
        }
        pool
    }

    /// How many addresses the pools have, those never given out included.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Whether the address is one of those given out.
    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        !self.excluded.contains(&address) && self.bit(address).is_some()
    }

    /// Marks an address as not free, if it is one of the pool.
    pub(crate) fn take(&mut self, address: Ipv4Addr) {
        if let Some(bit) = self.bit(address) {
            self.set(bit, true);
        }
    }

    /// Marks an address as free again.
    pub(crate) fn free(&mut self, address: Ipv4Addr) {
        if let Some(bit) = self.bit(address).filter(|_| !self.excluded.contains(&address)) {
            self.set(bit, false);
        }
    }

    /// The first free address from the place that the client's bytes point to. So a client gets the same address again even if
    /// the lease file is lost, and two servers agree without talking.
    pub(crate) fn pick(&self, client: &[u8]) -> Option<Ipv4Addr> {
        if self.size == 0 {
            return None;
        }
        let start = (spread(client) % u64::from(self.size)) as u32;
        let words = self.taken.len();
        let first = (start / 64) as usize;
        // The word that holds `start` is looked at twice: its upper bits first, its lower ones last.
        for n in 0..=words {
            let word = (first + n) % words;
            let upper = u64::MAX << (start % 64);
            let mask = match n {
                0 => upper,
                n if n == words => !upper,
                _ => u64::MAX,
            };
            let free = !self.taken[word] & mask;
            if free != 0 {
                return Some(self.address(word as u32 * 64 + free.trailing_zeros()));
            }
        }
        None
    }

    fn bit(&self, address: Ipv4Addr) -> Option<u32> {
        let mut before = 0;
        for range in &self.ranges {
            if let Some(position) = range.position(address) {
                return Some(before + position);
            }
            before += range.count();
        }
        None
    }

    fn address(&self, mut bit: u32) -> Ipv4Addr {
        for range in &self.ranges {
            if bit < range.count() {
                return range.nth(bit);
            }
            bit -= range.count();
        }
        // Bits beyond the ranges are set from the start, so `pick` never points there.
        Ipv4Addr::UNSPECIFIED
    }

    fn set(&mut self, bit: u32, taken: bool) {
        let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
        if taken {
            self.taken[word] |= mask;
        } else {
            self.taken[word] &= !mask;
        }
    }
}

/// FNV-1a with a final mix (the finisher of MurmurHash3), because neighbouring MAC addresses should not be neighbours in the
/// pool. Part of what clients observe: a change moves every room's addresses once its lease file is lost.
pub(crate) fn spread(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
