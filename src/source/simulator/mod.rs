//! A source that makes readings up: for demonstrations and tests, without anything outside.
//!
//! What it promises: the same readings for the same options and seed, whatever happens around it;
//! with a `simulator.count` each of them once, also when the process is killed in between. Readings
//! are messages in JSON that go through the same decoder as those of a real sensor, so that what
//! is wrong with them is noticed where it would be.

mod plant;
mod signal;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::Instant;

use self::plant::{Column, Faults, Plant};
use self::signal::Signal;
use super::{Context, Intake, Plan};
use crate::clock;
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::event::{DeliveryMark, Type, parse_duration_ms};
use crate::pace::sleep_until_some;

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "simulator.column.*",
        OptionKind::Text,
        "What the column does: a wave and its faults, such as `sine(20, 5, 60 s) noise 0.2`",
    ),
    OptionSpec::new(
        "simulator.per",
        OptionKind::Text,
        "The column (a `cycle` or `choice`) whose texts are devices with readings of their own",
    ),
    OptionSpec::new(
        "simulator.time.column",
        OptionKind::Text,
        "The TIMESTAMP or BIGINT column that takes the time of the reading, in milliseconds since \
         1970",
    ),
    OptionSpec::new(
        "simulator.every",
        OptionKind::Duration,
        "The time from reading to reading",
    )
    .or("100 ms"),
    OptionSpec::new(
        "simulator.pace",
        OptionKind::Choice(&["real", "full"]),
        "`full`: readings come as fast as they are taken, whatever their times",
    )
    .or("real"),
    OptionSpec::new(
        "simulator.begin",
        OptionKind::Text,
        "The time of the first reading, such as 2026-01-01T00:00:00Z; unset: the machine's clock \
         gives every reading its time",
    ),
    OptionSpec::new(
        "simulator.count",
        OptionKind::Integer {
            min: 0,
            max: 1_000_000_000,
        },
        "How many readings there are; 0: no end",
    )
    .or("0"),
    OptionSpec::new(
        "simulator.seed",
        OptionKind::Integer {
            min: 0,
            max: i64::MAX,
        },
        "Another number gives other readings",
    )
    .or("1"),
    OptionSpec::new(
        "simulator.lost",
        OptionKind::Text,
        "The share of messages that do not arrive, such as 0.01",
    ),
    OptionSpec::new(
        "simulator.duplicate",
        OptionKind::Text,
        "The share of messages that arrive twice",
    ),
    OptionSpec::new(
        "simulator.garbage",
        OptionKind::Text,
        "The share of messages that are cut off in the middle",
    ),
    OptionSpec::new(
        "simulator.late",
        OptionKind::Text,
        "The share of messages that arrive late, and by how much, such as `0.01 30 s`",
    ),
];

/// Readings between two moments at which others may run.
const YIELD_READINGS: u64 = 128;

/// A simulator, checked.
#[derive(Debug)]
pub struct Simulator {
    plant: Plant,
    plan: Plan,
    every_ms: u32,
    is_paced: bool,
    begin_ms: Option<i64>,
    count: u64,
}

impl Simulator {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Simulator, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let number = |name| options.integer(name).map_or(0, i64::unsigned_abs);
        if format != "json" {
            let problem = "simulated messages are JSON: leave 'format' away";
            return Err(OptionFault::new("format", problem));
        }
        let every_ms = u32::try_from(number("simulator.every")).unwrap_or(u32::MAX);
        if every_ms == 0 {
            let problem = "it must be at least 1 ms; for more, 'simulator.pace' = 'full'";
            return Err(OptionFault::new("simulator.every", problem));
        }
        let time = definition.column("simulator.time.column", &[Type::Timestamp, Type::Long])?;
        let time = time.and_then(|column| schema.fields().get(column));
        let columns = columns(definition)?;
        let key = key(definition, &columns)?;
        let plant = Plant::new(
            columns,
            key,
            time.map(|field| field.name.clone()),
            every_ms,
            faults(definition, every_ms)?,
            number("simulator.seed"),
        );
        Ok(Simulator {
            plant,
            plan: Plan::new(format, options, schema, &[])?,
            every_ms,
            is_paced: options.text("simulator.pace") != Some("full"),
            begin_ms: begin(definition)?,
            count: number("simulator.count"),
        })
    }

    /// Makes readings up until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        let mut task = Task {
            intake: Intake::new(self.plan, &context),
            stop: context.stop,
            plant: self.plant,
            every_ms: self.every_ms,
            begin_ms: self.begin_ms,
            count: self.count,
        };
        let known = context.tail.last().map_or(0, |mark| mark.digest);
        if task.skip(known).await && task.readings(self.is_paced).await {
            tracing::info!(
                stream = context.name,
                "the simulation is over after {} readings",
                task.count
            );
            task.intake.down("the simulation is over");
            task.wait(None).await;
        }
        task.intake.drain(context.stop_within).await;
    }
}

/// What every named column does.
fn columns(definition: &Definition<'_>) -> Result<Vec<Column>, OptionFault> {
    const FAMILY: &str = "simulator.column.";
    let mut columns = Vec::new();
    for (name, text) in definition.options.family(FAMILY) {
        let option = format!("{FAMILY}{name}");
        let index = definition.schema.index_of(name);
        let Some(field) = index.and_then(|index| definition.schema.fields().get(index)) else {
            let problem = format!("the stream has no column `{name}`");
            return Err(OptionFault::new(option, problem));
        };
        let signal = Signal::parse(text, field.ty);
        let signal = signal.map_err(|problem| OptionFault::new(option, problem))?;
        columns.push(Column::new(name, field.ty, signal));
    }
    if columns.is_empty() {
        let problem = "no column does anything: write 'simulator.column.temp' = \
                       'sine(20, 5, 60 s)' for a column `temp`";
        return Err(OptionFault::new("simulator.column.*", problem));
    }
    Ok(columns)
}

/// The column that tells devices apart.
fn key(definition: &Definition<'_>, columns: &[Column]) -> Result<Option<usize>, OptionFault> {
    let Some(name) = definition.options.text("simulator.per") else {
        return Ok(None);
    };
    let key = columns.iter().position(|column| column.name == name);
    let texts = key.and_then(|key| columns.get(key));
    if texts.is_none_or(|column| column.signal.texts().is_empty()) {
        let problem = format!(
            "it names a column that has its devices: 'simulator.column.{name}' = \
             'cycle(press-1, press-2)'"
        );
        return Err(OptionFault::new("simulator.per", problem));
    }
    Ok(key)
}

fn faults(definition: &Definition<'_>, every_ms: u32) -> Result<Faults, OptionFault> {
    let share = |option: &str, text: &str| {
        let share = text.trim().parse::<f64>().ok();
        share
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(|| {
                let problem = format!("`{text}` is no share from 0 to 1, such as 0.01");
                OptionFault::new(option, problem)
            })
    };
    let plain = |option| match definition.options.text(option) {
        Some(text) => share(option, text),
        None => Ok(0.0),
    };
    let late = "simulator.late";
    let late = match definition.options.text(late).map(str::trim) {
        Some(text) => {
            let (part, by) = text.split_once(' ').unwrap_or((text, ""));
            let Some(by_ms) = parse_duration_ms(by).and_then(|ms| u64::try_from(ms).ok()) else {
                let problem = "write a share and a span of time, such as `0.01 30 s`";
                return Err(OptionFault::new(late, problem));
            };
            (share(late, part)?, by_ms.div_ceil(u64::from(every_ms)))
        }
        None => (0.0, 0),
    };
    Ok(Faults {
        lost: plain("simulator.lost")?,
        duplicate: plain("simulator.duplicate")?,
        garbage: plain("simulator.garbage")?,
        late,
    })
}

fn begin(definition: &Definition<'_>) -> Result<Option<i64>, OptionFault> {
    let option = "simulator.begin";
    let Some(text) = definition.options.text(option) else {
        return Ok(None);
    };
    match text.trim().parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Some(time.as_millisecond())),
        Err(_) => {
            let problem = format!("`{text}` is no time such as 2026-01-01T00:00:00Z");
            Err(OptionFault::new(option, problem))
        }
    }
}

struct Task {
    intake: Intake,
    stop: watch::Receiver<bool>,
    plant: Plant,
    every_ms: u32,
    begin_ms: Option<i64>,
    count: u64,
}

impl Task {
    /// Passes over what the log has: the readings that follow depend on those before. False when
    /// the source is to end.
    async fn skip(&mut self, known: u64) -> bool {
        let mut lost = Vec::new();
        while self.plant.count() < known.min(self.count) {
            self.plant.next(0, &mut lost);
            lost.clear();
            if self.plant.count() % YIELD_READINGS == 0 {
                if *self.stop.borrow() {
                    return false;
                }
                yield_now().await;
            }
        }
        true
    }

    /// Gives readings. Whether they have come to their end.
    async fn readings(&mut self, is_paced: bool) -> bool {
        let every = Duration::from_millis(u64::from(self.every_ms));
        let mut due = Instant::now();
        let mut messages = Vec::new();
        self.intake.up();
        while self.count == 0 || self.plant.count() < self.count {
            if is_paced {
                if !self.wait(Some(due)).await {
                    return false;
                }
                // A gap is not made up for: a sensor does not either.
                due = (due + every).max(Instant::now());
            } else if self.plant.count() % YIELD_READINGS == 0 {
                yield_now().await;
            }
            let number = self.plant.count();
            let passed_ms = number.saturating_mul(u64::from(self.every_ms));
            let passed_ms = i64::try_from(passed_ms).unwrap_or(i64::MAX);
            let time_ms = match self.begin_ms {
                Some(begin_ms) => begin_ms.saturating_add(passed_ms),
                None => clock::wall().0,
            };
            self.plant.next(time_ms, &mut messages);
            if self.plant.count() == self.count {
                self.plant.end(&mut messages);
            }
            if !self.give(&mut messages).await {
                return false;
            }
        }
        true
    }

    /// Hands over the messages of one reading. False when the source is to end.
    async fn give(&mut self, messages: &mut Vec<String>) -> bool {
        let is_counted = self.count > 0;
        let last = messages.len().saturating_sub(1);
        for (index, message) in messages.drain(..).enumerate() {
            if !self.has_room(message.len()).await {
                return false;
            }
            // What the log has of a reading it has of all its messages, or they come again.
            let mark = (is_counted && index == last).then_some(DeliveryMark {
                packet: 0,
                digest: self.plant.count(),
            });
            if self.intake.take(message.as_bytes(), &[], mark).is_err() {
                return false;
            }
            if self.intake.has_batch() {
                self.intake.offer();
            }
        }
        true
    }

    async fn has_room(&mut self, bytes: usize) -> bool {
        if !self.intake.is_full(bytes) {
            return !*self.stop.borrow();
        }
        tokio::select! {
            is_there = self.intake.room(bytes) => is_there,
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }

    /// Waits until then, or for ever. False when the source is to end.
    async fn wait(&mut self, until: Option<Instant>) -> bool {
        tokio::select! {
            () = sleep_until_some(until) => true,
            () = self.intake.serve() => false,
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }
}
