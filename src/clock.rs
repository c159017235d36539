//! The only place that reads clocks.
//!
//! Two clocks: the boot clock, which only runs forward and measures waiting, and the wall clock,
//! which says what time it is and may be wrong, late or set back. From both comes the log's clock,
//! which never goes back.

use std::time::{Duration, Instant, SystemTime};

use crate::event::Timestamp;

/// The wall clock, in milliseconds since the epoch; 0 when it stands before that.
#[must_use]
pub fn wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = SystemTime::now();
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The log's clock: follows the wall clock forward; when that is set back, it goes on at the pace
/// of the boot clock instead, so that windows and timers go on too.
#[derive(Debug)]
pub struct LogClock {
    last: Timestamp,
    at: Instant,
}

impl LogClock {
    /// A clock that never reads less than `last`, the time of the log's last record.
    #[must_use]
    pub fn new(last: Timestamp) -> LogClock {
        LogClock {
            last,
            at: Instant::now(),
        }
    }

    /// The time now.
    pub fn now(&mut self) -> Timestamp {
        let at = Instant::now();
        let passed = i64::try_from(at.duration_since(self.at).as_millis()).unwrap_or(0);
        self.step(wall(), passed, at)
    }

    /// Whole milliseconds only are taken from the boot clock, so that fractions add up.
    fn step(&mut self, wall: Timestamp, passed_ms: i64, at: Instant) -> Timestamp {
        let paced = self.last.plus_ms(passed_ms);
        if wall >= paced {
            self.last = wall;
            self.at = at;
        } else if passed_ms > 0 {
            self.last = paced;
            self.at += Duration::from_millis(passed_ms.unsigned_abs());
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_wall_forward_and_paces_on_when_that_is_set_back() {
        let start = Instant::now();
        let mut clock = LogClock::new(Timestamp(1_000));
        assert_eq!(clock.step(Timestamp(5_000), 0, start), Timestamp(5_000));
        assert_eq!(clock.step(Timestamp(2_000), 10, start), Timestamp(5_010));
        assert_eq!(clock.step(Timestamp(2_010), 0, start), Timestamp(5_010));
        assert_eq!(clock.step(Timestamp(9_000), 5, start), Timestamp(9_000));
    }
}
