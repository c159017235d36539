//! The only place that reads clocks.
//!
//! Two clocks: the boot clock, which only runs forward and measures waiting, and the wall clock,
//! which says what time it is and may be wrong, late or set back. From both comes the log's clock,
//! which never goes back, and so must not follow the wall clock into a future that is none: from
//! there it could not return. `docs/decisions/0008-clock.md` has the rule and its reasons.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::event::{ClockState, Report, ReportKind, Timestamp};

/// 2026-01-01: no wall clock that is right says less.
const BUILT: Timestamp = Timestamp(1_767_225_600_000);
/// Five years: no machine lay about for longer and then has a clock that is right without having
/// asked anybody.
const AHEAD_MS_MAX: i64 = 5 * 365 * 86_400_000;
/// How long a wall clock that is far ahead must stay so to be believed: time enough for a network
/// to come up and for the clock to be set.
const SETTLED_MS: i64 = 600_000;
/// A wall clock that moved so much more or less than the boot clock was set.
const STEP_MS: i64 = 1_000;
/// How often the files that tell of synchronisation are looked at.
const ASKED_EVERY_MS: i64 = 1_000;

/// systemd's word that the clock was set from the network; its folder is there while systemd
/// looks after the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

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

/// How long the thread that asks has computed so far; 0 where the system does not say.
#[must_use]
pub fn computed() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Whether the wall clock was set from outside since the machine was switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synchronised {
    Yes,
    No,
    /// Nobody says.
    Unknown,
}

/// What all clocks say at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    /// Milliseconds since some moment of this process.
    boot_ms: i64,
    synchronised: Synchronised,
}

impl News {
    /// What is to be reported of it, if it is other than before.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let by_ms = self.stepped_ms?;
        let (trusted, wall) = (self.state.trusted, self.state.wall.0);
        let details = format!("{{\"by_ms\":{by_ms},\"trusted\":{trusted},\"wall\":{wall}}}");
        let reason = match trusted {
            true => "the clock is trusted",
            false => "nothing says that the clock is right",
        };
        Some(Report {
            reason: reason.to_owned(),
            details: Some(details),
            ..Report::new(ReportKind::ClockStepped, "")
        })
    }
}

/// The log's clock: follows the wall clock forward as far as that can be believed; else it goes on
/// at the pace of the boot clock, so that windows and timers go on too.
#[derive(Debug)]
pub struct LogClock {
    began: Instant,
    boot: String,
    rule: Rule,
    asked: Option<(i64, Synchronised)>,
    /// Whether the log has what was told last.
    is_noted: bool,
    /// What it was told: whether the clock is trusted, and how far the wall was ahead of the boot
    /// clock.
    told: Option<(bool, i64)>,
}

/// What the log is to be told of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The clock.
    pub state: ClockState,
    /// By how much it was set, when this is other than what was told before; none: it is told for
    /// the first time, or again.
    pub stepped_ms: Option<i64>,
}

impl LogClock {
    /// A clock that never reads less than `last`, the time of the log's last record, and goes
    /// forward by more than `jump_ms_max` at once only when it must be believed.
    #[must_use]
    pub fn new(last: Timestamp, jump_ms_max: i64) -> LogClock {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        LogClock {
            began: Instant::now(),
            boot: boot.unwrap_or_default().trim().to_owned(),
            rule: Rule::new(last, jump_ms_max),
            asked: None,
            is_noted: false,
            told: None,
        }
    }

    /// From now on it goes forward by so much at once.
    pub fn set_jump_ms_max(&mut self, jump_ms_max: i64) {
        self.rule.jump_ms_max = jump_ms_max;
    }

    /// The time now.
    pub fn now(&mut self) -> Timestamp {
        let reading = self.read();
        self.rule.step(reading)
    }

    /// What the log is to be told of the clock before anything else is written, if anything.
    pub fn news(&mut self) -> Option<News> {
        let reading = self.read();
        self.rule.step(reading);
        let offset_ms = reading.wall.0.saturating_sub(reading.boot_ms);
        let trusted = self.rule.is_trusted(reading);
        let is_other = |(was, told_ms): &(bool, i64)| {
            *was != trusted || offset_ms.abs_diff(*told_ms) > STEP_MS.unsigned_abs()
        };
        let other = self.told.filter(is_other);
        if self.is_noted && other.is_none() {
            return None;
        }
        let state = ClockState {
            boot: self.boot.clone(),
            trusted,
            wall: reading.wall,
        };
        self.is_noted = true;
        if self.told.is_none() || other.is_some() {
            self.told = Some((trusted, offset_ms));
        }
        Some(News {
            state,
            stepped_ms: other.map(|(_, told_ms)| offset_ms.saturating_sub(told_ms)),
        })
    }

    /// What the log was told may be lost: it is told again.
    pub fn forget_news(&mut self) {
        self.is_noted = false;
    }

    /// How far the wall clock is ahead, while it is not believed.
    #[must_use]
    pub fn held_off_ms(&self) -> Option<i64> {
        self.rule.held.map(|held| held.ahead_ms)
    }

    fn read(&mut self) -> Reading {
        let boot_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let fresh = self
            .asked
            .filter(|(at_ms, _)| boot_ms - at_ms < ASKED_EVERY_MS);
        let (_, synchronised) = *self.asked.insert(fresh.unwrap_or_else(|| (boot_ms, ask())));
        Reading {
            wall: wall(),
            boot_ms,
            synchronised,
        }
    }
}

fn ask() -> Synchronised {
    let path = Path::new(SYNCHRONISED);
    if path.exists() {
        Synchronised::Yes
    } else if path.parent().is_some_and(Path::exists) {
        Synchronised::No
    } else {
        Synchronised::Unknown
    }
}

/// The latest time that a wall clock may show on its own word, when the log is at `last`.
fn plausible_max(last: Timestamp) -> Timestamp {
    last.max(BUILT).plus_ms(AHEAD_MS_MAX)
}

/// Whether what is only to happen at, or until, some time can be decided now. `last` is the log's
/// time as far as it is known, or [`Timestamp::MIN`].
///
/// The log may trust the same clock later, after a jump that it waits out.
#[must_use]
pub fn is_synchronised(last: Timestamp) -> bool {
    is_right(ask(), wall(), last)
}

fn is_right(synchronised: Synchronised, wall: Timestamp, last: Timestamp) -> bool {
    match synchronised {
        Synchronised::Yes => true,
        Synchronised::No => false,
        Synchronised::Unknown => (BUILT..=plausible_max(last)).contains(&wall),
    }
}

/// How the log's time follows from readings. Pure.
#[derive(Debug)]
struct Rule {
    last: Timestamp,
    /// The boot clock when `last` was found; none before the first reading.
    at_ms: Option<i64>,
    jump_ms_max: i64,
    held: Option<Held>,
}

/// A wall clock that is too far ahead.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Since when, by the boot clock.
    since_ms: i64,
    /// How far.
    ahead_ms: i64,
}

impl Rule {
    fn new(last: Timestamp, jump_ms_max: i64) -> Rule {
        Rule {
            last,
            at_ms: None,
            jump_ms_max,
            held: None,
        }
    }

    fn step(&mut self, reading: Reading) -> Timestamp {
        let Reading { wall, boot_ms, .. } = reading;
        let passed_ms = boot_ms - *self.at_ms.get_or_insert(boot_ms);
        if self.last == Timestamp::MIN {
            // A log that begins has no time to go on from; what is too early does no harm.
            self.last = wall.min(BUILT);
        }
        let paced = self.last.plus_ms(passed_ms);
        let ahead_ms = wall.0.saturating_sub(paced.0);
        if ahead_ms >= 0 && self.is_believed(reading, ahead_ms) {
            self.held = None;
            self.last = wall;
            self.at_ms = Some(boot_ms);
        } else if passed_ms > 0 {
            // Whole milliseconds only are taken from the boot clock, so that fractions add up.
            self.last = paced;
            self.at_ms = Some(boot_ms);
        }
        if ahead_ms < 0 {
            self.held = None;
        }
        self.last
    }

    /// Whether the log's clock may go forward by so much at once.
    fn is_believed(&mut self, reading: Reading, ahead_ms: i64) -> bool {
        let is_plausible = reading.wall <= plausible_max(self.last);
        // A log whose time was never right has nothing to lose.
        let is_first = self.last <= BUILT && is_plausible;
        let is_synchronised = reading.synchronised == Synchronised::Yes;
        if ahead_ms <= self.jump_ms_max || is_synchronised || is_first {
            return true;
        }
        let same = |held: &Held| held.ahead_ms.abs_diff(ahead_ms) <= STEP_MS.unsigned_abs();
        let held = *match self.held.filter(same) {
            Some(held) => self.held.insert(held),
            None => self.held.insert(Held {
                since_ms: reading.boot_ms,
                ahead_ms,
            }),
        };
        is_plausible && reading.boot_ms - held.since_ms >= SETTLED_MS
    }

    fn is_trusted(&self, reading: Reading) -> bool {
        match reading.synchronised {
            Synchronised::Yes => true,
            Synchronised::No => false,
            Synchronised::Unknown => self.held.is_none() && reading.wall >= BUILT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Synchronised::{No, Unknown, Yes};
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    /// Some moment in 2026.
    const NOW: i64 = BUILT.0 + 200 * DAY;
    const JUMP_MS_MAX: i64 = 30 * DAY;

    /// Boot clock, wall clock, what is known of it; and the log's time that is expected, and
    /// whether it is trusted.
    type Row = (i64, i64, Synchronised, i64, bool);

    const TABLE: &[(&str, i64, &[Row])] = &[
        (
            "a wall clock that runs is followed",
            NOW,
            &[
                (0, NOW + 5, Unknown, NOW + 5, true),
                (1_000, NOW + 1_007, Unknown, NOW + 1_007, true),
                (2_000, NOW + 2_004, Yes, NOW + 2_007, true),
            ],
        ),
        (
            "an hour forward is followed, an hour back is waited out at the pace of the boot clock",
            NOW,
            &[
                (0, NOW, Yes, NOW, true),
                (10, NOW + HOUR + 10, Yes, NOW + HOUR + 10, true),
                (20, NOW + 20, Yes, NOW + HOUR + 20, true),
                (20, NOW + 20, Yes, NOW + HOUR + 20, true),
                (MINUTE, NOW + MINUTE, Yes, NOW + HOUR + MINUTE, true),
                (2 * HOUR, NOW + 2 * HOUR, Yes, NOW + 3 * HOUR, true),
                (2 * HOUR, NOW + 4 * HOUR, Yes, NOW + 4 * HOUR, true),
            ],
        ),
        (
            "a start in 1970 goes on from the last time, until the clock is set",
            NOW,
            &[
                (0, 5_000, Unknown, NOW, false),
                (3_000, 8_000, Unknown, NOW + 3_000, false),
                (9_000, NOW + DAY, Unknown, NOW + DAY, true),
            ],
        ),
        (
            "a first start in 1970 says so, and follows when the clock is set",
            i64::MIN,
            &[
                (0, 5_000, Unknown, 5_000, false),
                (1_000, 6_000, Unknown, 6_000, false),
                (2_000, NOW, Unknown, NOW, true),
            ],
        ),
        (
            "a first start takes a plausible clock at its word",
            i64::MIN,
            &[(0, NOW, No, NOW, false), (9, NOW + 9, Yes, NOW + 9, true)],
        ),
        (
            "a start at the last saved time is not trusted while systemd still asks for the time",
            NOW,
            &[
                (0, NOW, No, NOW, false),
                (5_000, NOW + 5_000, No, NOW + 5_000, false),
                (6_000, NOW + 90 * DAY, Yes, NOW + 90 * DAY, true),
            ],
        ),
        (
            "2036 is never believed by itself, neither at once nor in time",
            NOW,
            &[
                (0, NOW + 10 * YEAR, Unknown, NOW, false),
                (5_000, NOW + 10 * YEAR + 5_000, Unknown, NOW + 5_000, false),
                (DAY, NOW + 10 * YEAR + DAY, No, NOW + DAY, false),
                // Set right.
                (2 * DAY, NOW + 2 * DAY + 7, Unknown, NOW + 2 * DAY + 7, true),
            ],
        ),
        (
            "2036 is not believed by a log that begins either",
            i64::MIN,
            &[
                (0, NOW + 10 * YEAR, Unknown, BUILT.0, false),
                (9, NOW + 10 * YEAR + 9, Unknown, BUILT.0 + 9, false),
                (MINUTE, NOW, Yes, NOW, true),
            ],
        ),
        (
            "when it is 2036 and the network says so, it is",
            NOW,
            &[
                (0, NOW + 10 * YEAR, No, NOW, false),
                (9, NOW + 10 * YEAR + 9, Yes, NOW + 10 * YEAR + 9, true),
            ],
        ),
        (
            "three weeks without power are no question",
            NOW,
            &[(0, NOW + 21 * DAY, Unknown, NOW + 21 * DAY, true)],
        ),
        (
            "a year without power is believed when the clock has stayed so for a while",
            NOW,
            &[
                (0, NOW + YEAR, Unknown, NOW, false),
                (
                    9 * MINUTE,
                    NOW + YEAR + 9 * MINUTE,
                    Unknown,
                    NOW + 9 * MINUTE,
                    false,
                ),
                (
                    10 * MINUTE,
                    NOW + YEAR + 10 * MINUTE,
                    Unknown,
                    NOW + YEAR + 10 * MINUTE,
                    true,
                ),
            ],
        ),
        (
            "a clock that wavers starts the wait anew",
            NOW,
            &[
                (0, NOW + YEAR, Unknown, NOW, false),
                (9 * MINUTE, NOW + 2 * YEAR, Unknown, NOW + 9 * MINUTE, false),
                (
                    10 * MINUTE,
                    NOW + 2 * YEAR + MINUTE,
                    Unknown,
                    NOW + 10 * MINUTE,
                    false,
                ),
                (
                    11 * MINUTE,
                    NOW + 11 * MINUTE,
                    Unknown,
                    NOW + 11 * MINUTE,
                    true,
                ),
            ],
        ),
    ];

    #[test]
    fn the_log_follows_what_can_be_believed() {
        for (what, last, rows) in TABLE {
            let mut rule = Rule::new(Timestamp(*last), JUMP_MS_MAX);
            let mut before = i64::MIN;
            for (boot_ms, wall, synchronised, time, trusted) in *rows {
                let reading = Reading {
                    wall: Timestamp(*wall),
                    boot_ms: *boot_ms,
                    synchronised: *synchronised,
                };
                assert_eq!(rule.step(reading), Timestamp(*time), "{what}: at {boot_ms}");
                assert_eq!(rule.is_trusted(reading), *trusted, "{what}: at {boot_ms}");
                assert!(before <= *time, "{what}");
                before = *time;
            }
        }
    }

    #[test]
    fn a_clock_is_right_that_was_set_or_may_be() {
        for (synchronised, wall, last, expected) in [
            (Yes, NOW, i64::MIN, true),
            (Yes, NOW + 10 * YEAR, NOW, true),
            (No, NOW, NOW, false),
            (Unknown, NOW, i64::MIN, true),
            (Unknown, NOW, NOW + HOUR, true),
            (Unknown, BUILT.0 - 1, i64::MIN, false),
            (Unknown, 5_000, NOW, false),
            (Unknown, NOW + 10 * YEAR, NOW, false),
            (Unknown, BUILT.0 + AHEAD_MS_MAX + 1, i64::MIN, false),
            // What the log has come to by and by is no news.
            (Unknown, NOW + 10 * YEAR, NOW + 10 * YEAR, true),
        ] {
            let right = is_right(synchronised, Timestamp(wall), Timestamp(last));
            assert_eq!(right, expected, "{synchronised:?} {wall} {last}");
        }
    }

    /// Where the log trusts a clock that nobody else speaks for, it can be right.
    #[test]
    fn what_the_log_trusts_is_right() {
        let mut trusted = 0;
        for (what, last, rows) in TABLE {
            let mut rule = Rule::new(Timestamp(*last), JUMP_MS_MAX);
            for (boot_ms, wall, synchronised, _, _) in *rows {
                let wall = Timestamp(*wall);
                let before = rule.last;
                let reading = Reading {
                    wall,
                    boot_ms: *boot_ms,
                    synchronised: *synchronised,
                };
                rule.step(reading);
                if rule.is_trusted(reading) {
                    trusted += 1;
                    assert!(
                        is_right(*synchronised, wall, before),
                        "{what}: at {boot_ms}"
                    );
                }
            }
        }
        assert!(trusted > 10, "{trusted}");
    }

    #[test]
    fn a_step_is_reported_with_its_width() {
        let state = ClockState {
            boot: String::new(),
            trusted: false,
            wall: Timestamp(NOW),
        };
        let report = |stepped_ms| {
            let state = state.clone();
            News { state, stepped_ms }.report()
        };
        assert_eq!(report(None), None);
        let report = report(Some(-HOUR)).unwrap();
        let details = format!(r#"{{"by_ms":-3600000,"trusted":false,"wall":{NOW}}}"#);
        assert_eq!(report.details, Some(details));
        assert_eq!(report.kind, ReportKind::ClockStepped);
        assert_eq!(report.reason, "nothing says that the clock is right");
    }

    #[test]
    fn the_log_is_told_once() {
        let mut clock = LogClock::new(Timestamp::MIN, JUMP_MS_MAX);
        let first = clock.news().unwrap();
        assert_eq!((first.state.boot.len(), first.stepped_ms), (36, None));
        assert_eq!(clock.news(), None);
        clock.forget_news();
        let again = clock.news().unwrap();
        assert_eq!(
            (again.state.boot, again.stepped_ms),
            (first.state.boot, None)
        );
        assert_eq!(clock.news(), None);
        // As if the wall clock had been set forward by an hour meanwhile.
        let ahead = |(trusted, told_ms): &mut (bool, i64)| {
            *told_ms -= HOUR;
            *trusted
        };
        let trusted = clock.told.as_mut().map(ahead);
        let stepped = clock.news().unwrap();
        assert_eq!(Some(stepped.state.trusted), trusted);
        assert!(stepped.stepped_ms.unwrap().abs_diff(HOUR) <= STEP_MS.unsigned_abs());
        assert_eq!(clock.news(), None);
    }
}
