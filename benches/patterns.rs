//! What a row must not cost more for when there are many partial matches or many patterns that it
//! does not concern. What it costs at all is P and PK, in `engine.rs`.

use std::time::Duration;

use eventflux::event::{Batch, Stamp, Value};

use crate::by_hand::Loop as _;
use crate::engine::{BATCH_ROWS, Ours, Round, round_of};
use crate::events::{BEFORE, Events, STREAM, Tally, stamp_of};
use crate::figure::{Figure, Measured};
use crate::growth::best_of;

/// Rows of the sensors that begin and complete, for PW.
const WAITING_EVENTS: usize = 1_000_000;
const WAITING_LITTLE: usize = 100;
const WAITING_MUCH: usize = 100_000;
/// Rows for PQ and PE, where a row can cost a thousand times as much.
const MANY_EVENTS: usize = 100_000;
const MANY: usize = 1_000;
/// How many of the many patterns concern the rows of PQ, and how many there are without the others.
const FEW: usize = 10;
/// Statements in a text: a file of SQL has at most 64 KiB.
const STATEMENTS_PER_TEXT: usize = 200;
const ROUNDS: usize = 5;
const WAITING_MAX: f64 = 1.3;
const PATTERNS_MAX: f64 = 2.0;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "PW",
        what: "100,000 waiting partial matches of other keys over 100",
        budget: "<= 1.3 x",
        measure: Some(many_waiting),
    },
    Figure {
        name: "PQ",
        what: "1,000 patterns of other constants over 10",
        budget: "<= 2 x",
        measure: Some(many_constants),
    },
    Figure {
        name: "PE",
        what: "1,000 patterns that begin alike over 1,000 times one",
        budget: "none: x 1,000 times one, for information",
        measure: Some(many_alike),
    },
];

/// PW, with the key in a condition and as a partition: the worse of the two.
fn many_waiting() -> Measured {
    let by_condition = "INSERT INTO Out SELECT a.ts AS first, b.ts AS second FROM PATTERN ( \
         EVERY a=S[temperature > 40] -> b=S[temperature < 10 AND sensor_id = a.sensor_id] \
         WITHIN 1 HOUR) WITH ('pattern.matches_max' = '1000000');";
    let by_partition = "INSERT INTO Out SELECT a.ts AS first, b.ts AS second FROM PATTERN ( \
         EVERY a=S[temperature > 40] -> b=S[temperature < 10] \
         WITHIN 1 HOUR) PARTITION BY sensor_id WITH ('pattern.matches_max' = '1000000');";
    let (condition, condition_ns) = waiting(by_condition);
    let (partition, partition_ns) = waiting(by_partition);
    Measured {
        value: condition.max(partition),
        met: condition <= WAITING_MAX && partition <= WAITING_MAX,
        details: vec![
            ("x by condition", condition),
            ("ns/event with many", condition_ns),
            ("x by partition", partition),
            ("ns/event with many", partition_ns),
        ],
    }
}

/// How much more a row costs with many waiting, and what it costs then in nanoseconds.
fn waiting(sql: &str) -> (f64, f64) {
    let sql = format!("{STREAM}{sql}");
    let engine = |count: usize| Ours::new(&sql).told("S", &silent(count, 45.0, BEFORE));
    let run = |ours: &mut Ours| round_of(ours, WAITING_EVENTS, Events::new(100), BATCH_ROWS);
    let with_little = all_wait(engine(WAITING_LITTLE), WAITING_LITTLE, run);
    let with_much = all_wait(engine(WAITING_MUCH), WAITING_MUCH, run);
    assert_eq!(with_little, with_much, "the same rows, whoever else waits");
    let (little, much) = best_of(
        ROUNDS,
        || run(&mut engine(WAITING_LITTLE)).time,
        || run(&mut engine(WAITING_MUCH)).time,
    );
    (ratio(much, little), ns_per_event(much, WAITING_EVENTS))
}

/// What comes out of a run; then completes everything that has been waiting since before it, which
/// must be all that was told.
fn all_wait(mut ours: Ours, count: usize, run: impl Fn(&mut Ours) -> Round) -> Tally {
    let came = run(&mut ours).tally;
    let end = stamp_of(i64::try_from(WAITING_EVENTS).expect("a small number"));
    let mut completed = Tally::default();
    ours.push(silent(count, 5.0, end).rows(), &mut completed);
    assert_eq!(completed.rows, count as u64, "all of them have waited");
    came
}

/// A row of each of so many sensors that nobody else is called like.
fn silent(count: usize, temperature: f64, stamp: Stamp) -> Batch {
    let mut batch = Batch::new(5);
    for number in 0..count {
        let row = [
            Value::text(&format!("silent-{number:06}")),
            Value::Float(temperature),
            Value::Float(50.0),
            Value::Int(-1),
            Value::Int(stamp.time.0),
        ];
        batch.push(stamp, row);
    }
    batch
}

/// PQ, with a thousand rows in a push and with one: the worse of the two.
fn many_constants() -> Measured {
    let (batched, batched_ns) = constants(1_000);
    let (single, single_ns) = constants(1);
    Measured {
        value: batched.max(single),
        met: batched <= PATTERNS_MAX && single <= PATTERNS_MAX,
        details: vec![
            ("x in pushes of 1,000", batched),
            ("ns/event with many", batched_ns),
            ("x one by one", single),
            ("ns/event with many", single_ns),
        ],
    }
}

/// How much more a row costs with many patterns, and what it costs then in nanoseconds.
fn constants(batch_rows: usize) -> (f64, f64) {
    let pattern = |number: usize| {
        format!(
            "INSERT INTO Out SELECT a.ts AS first, b.ts AS second FROM PATTERN ( \
             EVERY a=S[sensor_id = 'sensor-{number:03}' AND temperature > 40] -> \
             b=S[sensor_id = 'sensor-{number:03}' AND temperature < 10] WITHIN 10 SECONDS);"
        )
    };
    let texts = |count: usize| texts((0..count).map(pattern));
    let (few, many) = (texts(FEW), texts(MANY));
    let run = |texts: &[String]| {
        let mut ours = Ours::of(texts);
        round_of(&mut ours, MANY_EVENTS, Events::new(FEW), batch_rows)
    };
    let came = run(&few).tally.rows;
    assert!(came > 0, "some match");
    assert_eq!(came, run(&many).tally.rows, "the others match nothing");
    let (little, much) = best_of(ROUNDS, || run(&few).time, || run(&many).time);
    (ratio(much, little), ns_per_event(much, MANY_EVENTS))
}

/// PE: each of the many has its own second condition, so that no two are the same query; the one
/// has that in the middle.
#[expect(clippy::cast_precision_loss, reason = "a thousand")]
fn many_alike() -> Measured {
    let pattern = |number: usize| {
        format!(
            "INSERT INTO Out SELECT a.ts AS first, b.ts AS second FROM PATTERN ( \
             EVERY a=S[temperature > 49] -> \
             b=S[temperature < 1.{number:03} AND sensor_id = a.sensor_id] WITHIN 10 SECONDS);"
        )
    };
    let (one, many) = (
        texts(std::iter::once(pattern(MANY / 2))),
        texts((0..MANY).map(pattern)),
    );
    let run = |texts: &[String]| {
        let mut ours = Ours::of(texts);
        round_of(&mut ours, MANY_EVENTS, Events::new(100), BATCH_ROWS)
    };
    let (little, much) = best_of(ROUNDS, || run(&one).time, || run(&many).time);
    Measured {
        value: ratio(much, little) / MANY as f64,
        met: true,
        details: vec![
            ("ns/event with many", ns_per_event(much, MANY_EVENTS)),
            ("ns with one", ns_per_event(little, MANY_EVENTS)),
        ],
    }
}

/// The stream of the events, and then the statements.
fn texts(statements: impl Iterator<Item = String>) -> Vec<String> {
    let statements: Vec<String> = statements.collect();
    let texts = statements.chunks(STATEMENTS_PER_TEXT);
    std::iter::once(STREAM.to_owned())
        .chain(texts.map(|chunk| chunk.join("\n")))
        .collect()
}

fn ratio(much: Duration, little: Duration) -> f64 {
    much.as_secs_f64() / little.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn ns_per_event(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e9 / events as f64
}
