//! Numbers that look random and are the same for the same seed.

#![allow(dead_code, reason = "each test program uses its part")]

use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    /// Begins with `EVENTFLUX_SEED`, or else with `seed`; says which.
    pub(crate) fn new(seed: u64) -> Random {
        let wanted = std::env::var("EVENTFLUX_SEED").ok();
        let seed = wanted.map_or(seed, |text| {
            text.parse().expect("EVENTFLUX_SEED is a number")
        });
        println!("seed {seed}; EVENTFLUX_SEED sets another");
        Random(seed)
    }

    /// Begins with `seed`, whatever the environment says.
    pub(crate) fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut state = self.0;
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (state ^ (state >> 31)) % bound
    }

    /// A place among `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(u64::try_from(count).unwrap())).unwrap()
    }

    /// Lets a moment below `most` go by, awake, so that what follows happens at any place in what
    /// the others do.
    pub(crate) fn spin(&mut self, most: Duration) {
        let most = u64::try_from(most.as_micros()).unwrap();
        let end = Instant::now() + Duration::from_micros(self.below(most));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}
