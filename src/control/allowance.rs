//! How much of a processor core requests may take.

use std::time::{Duration, Instant};

/// The part of a core, over time.
const SHARE: f64 = 0.25;
/// So much at once, after a while without any, in seconds.
const AT_ONCE_S: f64 = 2.0;

/// A bucket of computing time, which fills again as time goes by.
#[derive(Debug)]
pub(super) struct Allowance {
    /// In seconds; less than nothing when more was taken than there was.
    left_s: f64,
    since: Instant,
}

impl Allowance {
    /// A full one.
    pub(super) fn new(now: Instant) -> Allowance {
        Allowance {
            left_s: AT_ONCE_S,
            since: now,
        }
    }

    /// So much was taken; says for how long nothing more may be.
    pub(super) fn take(&mut self, taken: Duration, now: Instant) -> Duration {
        let filled = now.duration_since(self.since).as_secs_f64() * SHARE;
        self.left_s = (self.left_s + filled).min(AT_ONCE_S) - taken.as_secs_f64();
        self.since = now;
        Duration::from_secs_f64((-self.left_s).max(0.0) / SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_taken_at_once_and_many_take_their_share() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        let each = Duration::from_millis(100);
        let (begin, mut taken) = (now, Duration::ZERO);
        for number in 0..1_000 {
            let wait = allowance.take(each, now + each);
            assert!(number >= 20 || wait.is_zero(), "{number}: {wait:?}");
            now += each + wait;
            taken += each;
        }
        let share = taken.as_secs_f64() / (now - begin).as_secs_f64();
        assert!((SHARE..SHARE + 0.01).contains(&share), "{share}");
        // A pause does not save up more than is taken at once.
        now += Duration::from_secs(1_000);
        assert!(allowance.take(each * 20, now).is_zero());
        assert_eq!(allowance.take(each, now), each * 4);
    }
}
