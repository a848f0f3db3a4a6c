//! Chance that can be repeated: the same seed gives the same decisions, on every machine.

/// A small deterministic generator (SplitMix64, Steele et al. 2014). Not for secrets.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts the sequence that belongs to this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        // Multiply-shift instead of a remainder; the bias is below 2^-32 for the small ranges used here.
        ((self.roll() as u128 * end as u128) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    pub fn hits(&mut self, percent: f64) -> bool {
        // 53 bits are what an f64 can hold exactly.
        let unit = (self.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 100.0 < percent
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn the_sequence_of_a_seed_never_changes() {
        let mut dice = Dice::new(1_234_567);
        // the published test vector of SplitMix64
        assert_eq!(dice.roll(), 6_457_827_717_110_365_317);
        assert_eq!(dice.roll(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut dice = Dice::new(7);
        let mut seen = [false; 6];
        for _ in 0..1000 {
            seen[dice.below(6) as usize] = true;
        }
        assert_eq!(seen, [true; 6]);
        assert_eq!(dice.below(0), 0);
    }

    #[test]
    fn percentages_are_kept_at_the_ends() {
        let mut dice = Dice::new(3);
        assert!((0..1000).all(|_| !dice.hits(0.0)));
        assert!((0..1000).all(|_| dice.hits(100.0)));
    }
}
