//! A token bucket: so much a minute on average, and a bounded part of it at once.

use std::time::Duration;

use tokio::time::Instant;

/// What is left of it is a number of outputs or of bytes. It may fall below nothing, so that what
/// is larger than the bucket goes all the same and is paid for afterwards.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_second: f64,
    size: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one; it holds what comes in `burst`, at least 1.
    pub(super) fn new(per_minute: u32, burst: Duration, now: Instant) -> Bucket {
        let per_second = f64::from(per_minute) / 60.0;
        let size = (per_second * burst.as_secs_f64()).max(1.0);
        Bucket {
            per_second,
            size,
            level: size,
            at: now,
        }
    }

    /// When there is something in it, unless there is now.
    pub(super) fn empty_until(&mut self, now: Instant) -> Option<Instant> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + since * self.per_second).min(self.size);
        self.at = now;
        if self.level >= 1.0 {
            return None;
        }
        let wait = (1.0 - self.level) / self.per_second;
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(WAIT_MAX);
        Some(now + wait.min(WAIT_MAX) + ROUNDED)
    }

    /// Takes something out.
    pub(super) fn take(&mut self, amount: usize) {
        // Beyond 32 bits it is all the same.
        let amount = f64::from(u32::try_from(amount).unwrap_or(u32::MAX));
        self.level -= amount;
    }
}

/// A wait is looked at again after so long.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Timers have milliseconds, and sums of fractions are a little off.
const ROUNDED: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn it_fills_at_its_rate_and_no_further_than_its_size() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, Duration::from_secs(10), start);
        for _ in 0..10 {
            assert_eq!(bucket.empty_until(start), None);
            bucket.take(1);
        }
        let until = bucket.empty_until(start).unwrap();
        assert_eq!(until - start, Duration::from_millis(1_001));
        assert_eq!(bucket.empty_until(until), None);
        let later = after(start, 1_000);
        assert_eq!(bucket.empty_until(later), None);
        bucket.take(10);
        assert!(bucket.empty_until(later).is_some());
    }

    #[test]
    fn what_is_larger_goes_and_is_paid_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(6_000, Duration::ZERO, start);
        assert_eq!(bucket.empty_until(start), None);
        bucket.take(1_000);
        assert!(bucket.empty_until(after(start, 9)).is_some());
        assert_eq!(bucket.empty_until(after(start, 11)), None);
        bucket.take(usize::MAX);
        let until = bucket.empty_until(after(start, 12)).unwrap();
        assert_eq!(until - after(start, 12), WAIT_MAX + ROUNDED);
    }
}
