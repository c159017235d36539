//! Two streams joined through time windows, for information: no budget says how fast that is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eventflux::event::{Batch, Rows, Seq, Stamp, Timestamp, Value};
use eventflux::sql::plan::StreamId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::engine::{BATCH_ROWS, Ours};
use crate::events::{START_MS, Tally, Xorshift};
use crate::figure::{Figure, Measured};

/// Pushes of either stream.
const PUSHES: usize = 10_000;
/// How many are made at a time, while the clock stands still.
const CHUNK_PUSHES: usize = 50;
const ROUNDS: usize = 5;
/// Each side then holds 1,000 rows: one stream has the clock for 100 ms, then the other.
const SPAN_MS: i64 = 2_000;

pub(crate) const FIGURES: &[Figure] = &[Figure {
    name: "JW",
    what: "join of two time windows of 1,000 rows by unique keys",
    budget: "none: x by hand, for information",
    measure: Some(measure),
}];

const SQL: &str = "CREATE STREAM S (key BIGINT, x DOUBLE); CREATE STREAM R (key BIGINT, y DOUBLE); \
    INSERT INTO Out SELECT a.key, a.x, b.y FROM S WINDOW('time', 2 SECONDS) AS a \
    JOIN R WINDOW('time', 2 SECONDS) AS b ON a.key = b.key;";

/// Something that takes pushes of the left and the right stream.
trait Sides {
    fn push(&mut self, right: bool, rows: Rows<'_>, to: &mut Tally);
}

struct Engine {
    ours: Ours,
    right: StreamId,
}

impl Engine {
    fn new() -> Engine {
        let ours = Ours::new(SQL);
        let (right, _) = ours.engine.plan().stream_named("R").expect("the stream");
        Engine { ours, right }
    }
}

impl Sides for Engine {
    fn push(&mut self, right: bool, rows: Rows<'_>, to: &mut Tally) {
        let stream = if right { self.right } else { self.ours.stream };
        self.ours.engine.push(stream, rows, to);
    }
}

/// What an expert would write for this one join.
struct ByHand {
    sides: [Side; 2],
    out: Batch,
}

#[derive(Default)]
struct Side {
    rows: HashMap<i64, f64, FixedState>,
    leaving: VecDeque<(i64, i64)>,
}

impl Side {
    fn expire(&mut self, now: i64) {
        while let Some((due, key)) = self.leaving.front().copied() {
            if due > now {
                break;
            }
            self.leaving.pop_front();
            self.rows.remove(&key);
        }
    }
}

impl ByHand {
    fn new() -> ByHand {
        ByHand {
            sides: Default::default(),
            out: Batch::new(3),
        }
    }
}

impl Sides for ByHand {
    fn push(&mut self, right: bool, rows: Rows<'_>, to: &mut Tally) {
        self.out.clear();
        for row in rows.iter() {
            let now = row.stamp.time.0;
            self.sides.iter_mut().for_each(|side| side.expire(now));
            let [Value::Int(key), Value::Float(value)] = row.values else {
                continue;
            };
            let [left, other] = &mut self.sides;
            let (own, other) = if right { (other, left) } else { (left, other) };
            own.rows.insert(*key, *value);
            own.leaving.push_back((now + SPAN_MS, *key));
            if let Some(found) = other.rows.get(key) {
                let (x, y) = if right {
                    (found, value)
                } else {
                    (value, found)
                };
                let joined = [Value::Int(*key), Value::Float(*x), Value::Float(*y)];
                self.out.push(row.stamp, joined);
            }
        }
        to.read(&self.out);
    }
}

/// The next pushes: of the left and the right stream in turns.
fn fill(pushes: &mut [Batch], random: &mut Xorshift, next: &mut i64) {
    let rows = i64::try_from(BATCH_ROWS).expect("a small number");
    for push in pushes {
        push.clear();
        for _ in 0..BATCH_ROWS {
            let (turn, place) = (*next / rows, *next % rows);
            let stamp = Stamp {
                seq: Seq(next.unsigned_abs() + 1),
                time: Timestamp(START_MS + *next),
            };
            let key = turn / 2 * rows + place;
            push.push(stamp, [Value::Int(key), Value::Float(random.float(50.0))]);
            *next += 1;
        }
    }
}

fn round(under_test: &mut dyn Sides) -> (Duration, Tally) {
    let (mut random, mut next) = (Xorshift::default(), 0);
    let mut pushes: Vec<Batch> = (0..CHUNK_PUSHES).map(|_| Batch::new(2)).collect();
    let (mut time, mut tally) = (Duration::ZERO, Tally::default());
    for _ in 0..PUSHES / CHUNK_PUSHES {
        fill(&mut pushes, &mut random, &mut next);
        let start = Instant::now();
        for (number, push) in pushes.iter().enumerate() {
            under_test.push(number % 2 == 1, push.rows(), &mut tally);
        }
        time += start.elapsed();
    }
    (time, tally)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn measure() -> Measured {
    let events = (PUSHES * BATCH_ROWS) as f64;
    let first = round(&mut Engine::new()).1;
    assert_eq!(
        first,
        round(&mut ByHand::new()).1,
        "the same rows as by hand"
    );
    assert_eq!(
        first.rows,
        (PUSHES * BATCH_ROWS / 2) as u64,
        "a row per pair"
    );
    let (mut best_ours, mut best_by_hand) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        best_ours = best_ours.min(round(&mut Engine::new()).0);
        best_by_hand = best_by_hand.min(round(&mut ByHand::new()).0);
    }
    Measured {
        value: best_by_hand.as_secs_f64() / best_ours.as_secs_f64(),
        met: true,
        details: vec![
            ("events/s", events / best_ours.as_secs_f64()),
            ("by hand", events / best_by_hand.as_secs_f64()),
        ],
    }
}
