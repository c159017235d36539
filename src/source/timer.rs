//! A source that gives the same message again and again: a heartbeat, a clock for queries that ask
//! tables.
//!
//! What it promises: a tick for each interval that goes by, at whole multiples of it when aligned,
//! whatever the wall clock does in between; with a pipeline that is behind, ticks are dropped and
//! counted. What it leaves to SQL: `TRIGGER`, which has cron, is a record of the log itself and
//! makes up for the time that the daemon was not there.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Context, Dropped, Intake, Plan};
use crate::clock;
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::event::{Type, Value};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "timer.every",
        OptionKind::Duration,
        "The time from tick to tick, at most 366 days",
    )
    .between(1, 366 * 86_400_000)
    .required(),
    OptionSpec::new(
        "timer.payload",
        OptionKind::Text,
        "The message of every tick, in the stream's format",
    )
    .or("{}"),
    OptionSpec::new(
        "timer.align",
        OptionKind::Flag,
        "Whether ticks fall on whole multiples of `timer.every` since 1970, in UTC: on the full \
         minute, say",
    )
    .or("false"),
    OptionSpec::new(
        "timer.missed",
        OptionKind::Choice(&["skip", "all"]),
        "What becomes of ticks that were due while the machine slept or was too busy: one tick in \
         their place, or each of them, 1000 at most",
    )
    .or("skip"),
    OptionSpec::new(
        "timer.time.column",
        OptionKind::Text,
        "The TIMESTAMP or BIGINT column that takes the time at which the tick was due, in \
         milliseconds since 1970",
    ),
];

/// Missed ticks that are made up for.
const MISSED_MAX: u64 = 1_000;
/// How long an aligned timer sleeps at once, so that it follows a wall clock that is set.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A timer, checked.
#[derive(Debug)]
pub struct Timer {
    every_ms: i64,
    payload: String,
    is_aligned: bool,
    makes_up: bool,
    time: Option<usize>,
    plan: Plan,
}

impl Timer {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Timer, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let every_ms = options.integer("timer.every").unwrap_or(0);
        if every_ms < 1 {
            let problem = "it must be at least 1 ms";
            return Err(OptionFault::new("timer.every", problem));
        }
        let types = [Type::Timestamp, Type::Long];
        let time = definition.column("timer.time.column", &types)?;
        let taken: Vec<usize> = time.into_iter().collect();
        Ok(Timer {
            every_ms,
            payload: options.text("timer.payload").unwrap_or("{}").to_owned(),
            is_aligned: options.flag("timer.align"),
            makes_up: options.text("timer.missed") == Some("all"),
            time,
            plan: Plan::new(format, options, schema, &taken)?,
        })
    }

    /// Ticks until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        let mut intake = Intake::new(self.plan, &context);
        let mut stop = context.stop;
        let began = Instant::now();
        let mut ticks = Ticks::new(self.every_ms, self.is_aligned, now(began));
        intake.up();
        'ticking: loop {
            if !wait(&mut intake, &mut stop, ticks.wait_ms(now(began))).await {
                break;
            }
            let due = ticks.due(now(began), self.makes_up);
            for at in due {
                if intake.is_full(self.payload.len()) {
                    intake.drop(Dropped::QueueFull, "a tick");
                    continue;
                }
                let fill = self.time.map(|column| (column, Value::Int(at)));
                let taken = intake.take(self.payload.as_bytes(), fill.as_slice(), None);
                if taken.is_err() {
                    break 'ticking;
                }
            }
        }
        intake.drain(context.stop_within).await;
    }
}

/// Waits while the pipeline is served. False when the source is to end.
async fn wait(intake: &mut Intake, stop: &mut watch::Receiver<bool>, wait_ms: i64) -> bool {
    let wait = Duration::from_millis(wait_ms.unsigned_abs()).min(SLEEP_MAX);
    tokio::select! {
        () = sleep_until(Instant::now() + wait) => true,
        () = intake.serve() => false,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}

/// What both clocks say, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Now {
    wall_ms: i64,
    /// Since some moment of this process.
    boot_ms: i64,
}

fn now(began: Instant) -> Now {
    Now {
        wall_ms: clock::wall().0,
        boot_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
    }
}

/// When ticks are due. Pure.
///
/// Ticks that are not aligned go by the boot clock. Aligned ones go by the wall clock; where that
/// is set back, ticks that were given are not given again until a whole interval has gone by.
#[derive(Debug)]
struct Ticks {
    every_ms: i64,
    is_aligned: bool,
    /// When the next one is due, by the clock that counts.
    next_ms: i64,
}

impl Ticks {
    fn new(every_ms: i64, is_aligned: bool, now: Now) -> Ticks {
        let mut ticks = Ticks {
            every_ms,
            is_aligned,
            next_ms: 0,
        };
        ticks.next_ms = ticks.after(ticks.time(now));
        ticks
    }

    /// How long until something may be due.
    fn wait_ms(&self, now: Now) -> i64 {
        (self.next_ms - self.time(now)).max(0)
    }

    /// The wall times of the ticks that are due now, the last one at the end.
    fn due(&mut self, now: Now, makes_up: bool) -> Vec<i64> {
        let time = self.time(now);
        if self.next_ms - time > self.every_ms {
            // The clock was set back.
            self.next_ms = self.after(time);
        }
        if time < self.next_ms {
            return Vec::new();
        }
        let missed = (time - self.next_ms) / self.every_ms;
        let last = self.next_ms + missed * self.every_ms;
        self.next_ms = last + self.every_ms;
        let made_up = match makes_up {
            true => missed.unsigned_abs().min(MISSED_MAX - 1),
            false => 0,
        };
        let ahead_ms = now.wall_ms - time;
        let counts = (0..=i64::try_from(made_up).unwrap_or(0)).rev();
        counts
            .map(|count| last - count * self.every_ms + ahead_ms)
            .collect()
    }

    fn after(&self, time_ms: i64) -> i64 {
        let rest = match self.is_aligned {
            true => time_ms.rem_euclid(self.every_ms),
            false => 0,
        };
        time_ms - rest + self.every_ms
    }

    fn time(&self, now: Now) -> i64 {
        match self.is_aligned {
            true => now.wall_ms,
            false => now.boot_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wall clock, boot clock, and the ticks that are then due.
    type Row = (i64, i64, &'static [i64]);

    const TABLE: &[(&str, bool, bool, &[Row])] = &[
        (
            "from the start, by the boot clock",
            false,
            false,
            &[
                (5_007, 0, &[]),
                (5_106, 99, &[]),
                (5_107, 100, &[5_107]),
                (5_150, 143, &[]),
                (5_220, 213, &[5_207]),
                // The wall clock is set: nothing happens.
                (9_000_226, 219, &[]),
                (9_000_307, 300, &[9_000_307]),
            ],
        ),
        (
            "on whole multiples, by the wall clock",
            true,
            false,
            &[
                (5_007, 0, &[]),
                (5_099, 92, &[]),
                (5_101, 94, &[5_100]),
                (5_200, 193, &[5_200]),
                // Set forward: one tick for all that were passed over.
                (9_450, 200, &[9_400]),
                // Set back: from the next multiple on.
                (2_010, 260, &[]),
                (2_100, 350, &[2_100]),
            ],
        ),
        (
            "missed ticks are made up for",
            true,
            true,
            &[
                (5_007, 0, &[]),
                (5_399, 392, &[5_100, 5_200, 5_300]),
                (5_400, 393, &[5_400]),
            ],
        ),
        (
            "missed ticks are one",
            false,
            false,
            &[(7, 0, &[]), (407, 400, &[407]), (507, 500, &[507])],
        ),
    ];

    #[test]
    fn ticks_are_due() {
        for (what, is_aligned, makes_up, rows) in TABLE {
            let mut ticks: Option<Ticks> = None;
            for (wall_ms, boot_ms, expected) in *rows {
                let now = Now {
                    wall_ms: *wall_ms,
                    boot_ms: *boot_ms,
                };
                let ticks = ticks.get_or_insert_with(|| Ticks::new(100, *is_aligned, now));
                assert_eq!(ticks.due(now, *makes_up), *expected, "{what}: at {wall_ms}");
                assert!(
                    (1..=100).contains(&ticks.wait_ms(now)),
                    "{what}: at {wall_ms}"
                );
            }
        }
    }

    #[test]
    fn no_more_than_so_many_are_made_up_for() {
        let mut ticks = Ticks::new(
            1,
            false,
            Now {
                wall_ms: 0,
                boot_ms: 0,
            },
        );
        let later = Now {
            wall_ms: 1_000_000,
            boot_ms: 1_000_000,
        };
        let due = ticks.due(later, true);
        assert_eq!(due.len(), 1_000);
        assert_eq!(due.last(), Some(&1_000_000));
    }
}
