//! How often something is tried again, and how often that is said.
//!
//! Both count with the monotonic clock or with none, never with the wall clock.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

/// Waits that double from attempt to attempt up to a bound, each shortened by a random part of up
/// to a half, so that many gateways do not return in the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
    random: u64,
}

/// The shortest first wait.
pub const WAIT_MIN: Duration = Duration::from_millis(1);

impl Backoff {
    /// Waits between `min` and `max`; `min` counts when `max` is less, and [`WAIT_MIN`] when that
    /// is more: no doubling makes anything of nothing.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Backoff {
        let min = min.max(WAIT_MIN);
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Backoff {
            min,
            max: max.max(min),
            attempts: 0,
            random: seed | 1,
        }
    }

    /// Begins again with the shortest wait.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many waits there were since the last reset.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let factor = 2u32.saturating_pow(self.attempts.min(30));
        self.attempts = self.attempts.saturating_add(1);
        let whole = self.min.saturating_mul(factor).min(self.max);
        // Marsaglia, "Xorshift RNGs" (2003), the 13-7-17 triple.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = u32::try_from(self.random >> 32).unwrap_or(u32::MAX);
        whole - whole.mul_f64(f64::from(part) / f64::from(u32::MAX) / 2.0)
    }
}

/// Lets one line in a span through and counts the others, so that a flood of bad input does not
/// become a flood of log lines.
#[derive(Clone, Debug)]
pub struct Sparse {
    span: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Sparse {
    /// At most one line in `span`.
    #[must_use]
    pub fn new(span: Duration) -> Sparse {
        Sparse {
            span,
            last: None,
            held_back: 0,
        }
    }

    /// Counts an occurrence. `Some(count)` when it is time for a line, with how many there were
    /// since the last one, this one included.
    pub fn occurred(&mut self, now: Instant) -> Option<u64> {
        self.held_back += 1;
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < self.span)
        {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

/// Waits until `at`; for ever when there is no such time.
pub async fn sleep_until_some(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_bounds() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        for whole_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let whole = Duration::from_millis(whole_ms);
            let wait = backoff.wait();
            assert!(wait <= whole && wait >= whole / 2, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= min);
        let mut from_nothing = Backoff::new(Duration::ZERO, max);
        let longest = (0..20).map(|_| from_nothing.wait()).max().unwrap();
        assert!(longest >= max / 2, "{longest:?}");
    }

    #[test]
    fn a_flood_becomes_a_line_with_a_count() {
        let mut sparse = Sparse::new(Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(sparse.occurred(start), Some(1));
        for _ in 0..99 {
            assert_eq!(sparse.occurred(start + Duration::from_secs(9)), None);
        }
        assert_eq!(sparse.occurred(start + Duration::from_secs(10)), Some(100));
    }
}
