//! Which broker of a list is tried next, and when.

use std::time::Duration;

use crate::pace::Backoff;

/// A connection that lasted so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Goes through the brokers of a list in turn, without a pause inside a round, and with one that
/// grows from round to round behind it. After a good connection the first of the list comes
/// first again.
#[derive(Debug)]
pub struct Rounds {
    brokers: usize,
    at: usize,
    pace: Backoff,
}

impl Rounds {
    /// Rounds over so many brokers, with pauses between `min` and `max`.
    #[must_use]
    pub fn new(brokers: usize, min: Duration, max: Duration) -> Rounds {
        Rounds {
            brokers,
            at: 0,
            pace: Backoff::new(min, max),
        }
    }

    /// The place in the list of the broker to try now.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The attempt failed, or the connection broke that had stood for `stood`. How long to wait
    /// before the next attempt.
    pub fn failed(&mut self, stood: Option<Duration>) -> Duration {
        // A broker that throws us out again and again is no better than one that is away.
        if stood.is_some_and(|stood| stood >= STABLE_AFTER) {
            self.pace.reset();
            self.at = 0;
            return self.pace.wait();
        }
        self.at += 1;
        if self.at < self.brokers {
            return Duration::ZERO;
        }
        self.at = 0;
        self.pace.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_no_pause_inside_and_a_growing_one_behind_it() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut rounds = Rounds::new(3, min, max);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let at = rounds.at();
            seen.push((at, rounds.failed(Some(Duration::from_secs(1)))));
        }
        let order: Vec<usize> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert!(seen[0].1.is_zero() && seen[1].1.is_zero());
        assert!(seen[2].1 >= min / 2 && seen[2].1 <= min);
        assert!(seen[5].1 >= min && seen[5].1 <= min * 2);
        rounds.failed(None);
        assert_eq!(rounds.at(), 1);
        assert!(rounds.failed(Some(STABLE_AFTER)) <= min);
        assert_eq!(rounds.at(), 0);
    }
}
