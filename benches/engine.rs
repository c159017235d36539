//! The engine in process against loops written by hand, one core, no log and no decoding.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventflux::engine::Engine;
use eventflux::event::{Batch, Rows, Seq, Timestamp, Value};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{SqlText, compile};

use crate::allocations;
use crate::by_hand::{self, Loop};
use crate::events::{self, Events, START_MS, STREAM, Tally};
use crate::figure::{Figure, Measured};

/// How many events each round takes.
const EVENTS: usize = 3_000_000;
/// How many are made at a time, while the clock stands still: they are still in the cache when
/// they are pushed, as they are when they come from a decoder.
const CHUNK_EVENTS: usize = 10_000;
/// How many sensors they come from, unless there is a table of them.
const SENSORS: usize = 100;
/// How many the table knows.
const DEVICES: usize = 10_000;
/// How many go into one push.
pub(crate) const BATCH_ROWS: usize = 100;
/// Rounds; ours and by hand take turns, and the best of each counts.
const ROUNDS: usize = 9;
const FLOOR: f64 = 0.5;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "F",
        what: "filter and projection",
        budget: ">= 0.5 x by hand, 0 allocations",
        measure: Some(|| measure(&FILTER)),
    },
    Figure {
        name: "T",
        what: "tumbling window of 1 s, grouped",
        budget: ">= 0.5 x by hand, 0 allocations",
        measure: Some(|| measure(&TUMBLING)),
    },
    Figure {
        name: "L",
        what: "mean of the last 100 rows",
        budget: ">= 0.5 x by hand, 0 allocations",
        measure: Some(|| measure(&LENGTH)),
    },
    Figure {
        name: "P",
        what: "pattern of two events within 10 s",
        budget: ">= 0.5 x by hand",
        measure: Some(|| measure(&PAIRS)),
    },
    Figure {
        name: "PK",
        what: "the same, partitioned by 10,000 sensors",
        budget: ">= 0.5 x by hand",
        measure: Some(|| measure(&PAIRS_BY_KEY)),
    },
    Figure {
        name: "J",
        what: "join with a table of 10,000 rows by its key",
        budget: ">= 0.5 x by hand, 0 allocations",
        measure: Some(|| measure(&LOOKUP)),
    },
];

/// A query, its loop by hand, and what is known to come out.
struct Contest {
    sql: &'static str,
    sensors: usize,
    ours: fn(&str) -> Ours,
    by_hand: fn() -> Box<dyn Loop>,
    check: fn(&Tally),
    /// Whether it may ask for memory when it is warm.
    may_allocate: bool,
}

const FILTER: Contest = Contest {
    sql: "INSERT INTO Out SELECT sensor_id, temperature * 1.8 + 32 AS f FROM S \
          WHERE temperature > 30;",
    sensors: SENSORS,
    ours: Ours::new,
    by_hand: || Box::new(by_hand::Filter::new()),
    check: |tally| assert_eq!(tally.rows, 1_200_302, "rows of F"),
    may_allocate: false,
};

const TUMBLING: Contest = Contest {
    sql: "INSERT INTO Out SELECT sensor_id, avg(temperature) AS mean, max(temperature) AS top, \
          count(*) AS n FROM S WINDOW('tumbling', 1 SECOND) GROUP BY sensor_id;",
    sensors: SENSORS,
    ours: Ours::new,
    by_hand: || Box::new(by_hand::Tumbling::new()),
    check: check_tumbling,
    may_allocate: false,
};

const LENGTH: Contest = Contest {
    sql: "INSERT INTO Out SELECT avg(temperature) AS a FROM S WINDOW('length', 100);",
    sensors: SENSORS,
    ours: Ours::new,
    by_hand: || Box::new(by_hand::Length::new()),
    check: |tally| assert_eq!(tally.rows, EVENTS as u64, "a row of L per event"),
    may_allocate: false,
};

const PAIRS: Contest = Contest {
    sql: "INSERT INTO Out SELECT a.ts AS first, b.ts AS second FROM PATTERN ( \
          EVERY a=S[temperature > 40] -> b=S[temperature < 10 AND sensor_id = a.sensor_id] \
          WITHIN 10 SECONDS);",
    sensors: SENSORS,
    ours: Ours::new,
    by_hand: || Box::new(by_hand::Pairs::new()),
    check: |tally| {
        check_pairs(PAIRS.sql);
        assert_eq!(tally.rows, 600_557, "rows of P");
    },
    may_allocate: true,
};

const PAIRS_BY_KEY: Contest = Contest {
    sql: "INSERT INTO Out SELECT a.ts AS first, b.ts AS second FROM PATTERN ( \
          EVERY a=S[temperature > 40] -> b=S[temperature < 10 AND sensor_id = a.sensor_id] \
          WITHIN 10 SECONDS) PARTITION BY sensor_id;",
    sensors: DEVICES,
    ours: Ours::new,
    by_hand: || Box::new(by_hand::Pairs::new()),
    check: |tally| {
        check_pairs(PAIRS_BY_KEY.sql);
        assert_eq!(tally.rows, 108_229, "rows of PK");
    },
    may_allocate: true,
};

const LOOKUP: Contest = Contest {
    sql: "CREATE STREAM Announced (id STRING, line STRING, factor DOUBLE); \
          CREATE TABLE Devices (id STRING PRIMARY KEY, line STRING, factor DOUBLE); \
          INSERT INTO Devices SELECT * FROM Announced; \
          INSERT INTO Out SELECT s.sensor_id, d.line, s.temperature * d.factor AS t \
          FROM S AS s JOIN Devices AS d ON d.id = s.sensor_id;",
    sensors: DEVICES,
    ours: |sql| Ours::new(sql).told("Announced", &events::devices(DEVICES)),
    by_hand: || Box::new(by_hand::Lookup::new(&events::devices(DEVICES))),
    check: |tally| assert_eq!(tally.rows, EVENTS as u64, "a row of J per event"),
    may_allocate: false,
};

/// Every window has 1,000 rows, and nearly all of the 100 sensors among them.
fn check_tumbling(tally: &Tally) {
    struct Windows(Vec<(Timestamp, i64)>);
    impl eventflux::engine::Outputs for Windows {
        fn take(&mut self, _: StreamId, _: u32, rows: &Batch, _: &[u32]) {
            for row in rows.rows().iter() {
                let rows = row.values.last().and_then(Value::as_int);
                match self
                    .0
                    .last_mut()
                    .filter(|(time, _)| *time == row.stamp.time)
                {
                    Some((_, sum)) => *sum += rows.unwrap_or(0),
                    None => self.0.push((row.stamp.time, rows.unwrap_or(0))),
                }
            }
        }
    }
    let mut ours = Ours::new(&format!("{STREAM}{}", TUMBLING.sql));
    let mut windows = Windows(Vec::new());
    let (mut events, mut chunk) = (Events::new(100), Batch::new(5));
    for _ in 0..30 {
        events.fill(&mut chunk, CHUNK_EVENTS);
        ours.engine.push(ours.stream, chunk.rows(), &mut windows);
    }
    assert!(windows.0.len() >= 299, "a window per second");
    assert!(
        windows.0.iter().all(|(_, rows)| *rows == 1_000),
        "1,000 rows per window"
    );
    let groups = tally.rows / (EVENTS as u64 / 1_000);
    assert!((99..=100).contains(&groups), "about 100 groups per window");
}

/// What is known of the first million events of 100 sensors: how many matches there are, and that
/// both rows of a match are of one sensor.
fn check_pairs(sql: &str) {
    #[derive(Default)]
    struct Pairs {
        /// The sensor of each row, which its `ts` tells.
        sensors: Vec<Value>,
        matches: u64,
    }
    impl eventflux::engine::Outputs for Pairs {
        fn take(&mut self, _: StreamId, _: u32, rows: &Batch, _: &[u32]) {
            for row in rows.rows().iter() {
                let sensor = |column: usize| {
                    let ts = row.values[column].as_int().expect("a time");
                    &self.sensors[usize::try_from(ts - START_MS).expect("a row's number")]
                };
                assert_eq!(sensor(0), sensor(1), "one sensor in both halves");
                self.matches += 1;
            }
        }
    }
    let mut ours = Ours::new(&format!("{STREAM}{sql}"));
    let (mut events, mut chunk) = (Events::new(SENSORS), Batch::new(5));
    let mut pairs = Pairs::default();
    for (chunks, matches) in [(10, 19_621), (90, 199_790)] {
        for _ in 0..chunks {
            events.fill(&mut chunk, CHUNK_EVENTS);
            let sensors = chunk.rows().iter().map(|row| row.values[0].clone());
            pairs.sensors.extend(sensors);
            ours.engine.push(ours.stream, chunk.rows(), &mut pairs);
        }
        assert_eq!(pairs.matches, matches, "matches among the first events");
    }
}

/// The engine with one application, fed through the stream `S`.
pub(crate) struct Ours {
    pub(crate) engine: Engine,
    pub(crate) stream: StreamId,
}

impl Ours {
    pub(crate) fn new(sql: &str) -> Ours {
        Ours::of(&[sql.to_owned()])
    }

    /// With SQL that is too long for one text.
    pub(crate) fn of(texts: &[String]) -> Ours {
        let texts = texts.iter().zip(1..).map(|(text, number)| SqlText {
            path: format!("bench {number}"),
            text: text.clone(),
        });
        let plan = compile(&texts.collect::<Vec<_>>()).expect("the bench's SQL");
        let (stream, _) = plan.stream_named("S").expect("the stream of the events");
        let (out, _) = plan.stream_named("Out").expect("the stream of the results");
        Ours {
            engine: Engine::new(Arc::new(plan), |id| id == out),
            stream,
        }
    }

    /// The same when a stream has had these rows before anything else.
    pub(crate) fn told(mut self, stream: &str, rows: &Batch) -> Ours {
        let (stream, _) = self.engine.plan().stream_named(stream).expect("the stream");
        self.engine.push(stream, rows.rows(), &mut Tally::default());
        self
    }
}

impl Loop for Ours {
    fn push(&mut self, rows: Rows<'_>, to: &mut Tally) {
        self.engine.push(self.stream, rows, to);
    }

    fn finish(&mut self, time: Timestamp, seq: Seq, to: &mut Tally) {
        self.engine.advance(time, seq, to);
    }
}

/// The rows in pushes of so many.
fn batches(events: &Batch, batch_rows: usize) -> impl Iterator<Item = Rows<'_>> {
    let mut rest = events.rows();
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at(batch_rows);
        rest = tail;
        (!head.is_empty()).then_some(head)
    })
}

/// What one loop did with all events.
pub(crate) struct Round {
    /// How long it took.
    pub(crate) time: Duration,
    /// What came out.
    pub(crate) tally: Tally,
    /// What it asked of the allocator in the second half.
    pub(crate) allocated: u64,
}

/// So many events of so many sensors through one loop, [`BATCH_ROWS`] at a time.
pub(crate) fn round(under_test: &mut dyn Loop, count: usize, sensors: usize) -> Round {
    round_of(under_test, count, Events::new(sensors), BATCH_ROWS)
}

/// So many of these events through one loop, in pushes of so many. The clock and the count stand
/// still while the next events are made.
pub(crate) fn round_of(
    under_test: &mut dyn Loop,
    count: usize,
    mut events: Events,
    batch_rows: usize,
) -> Round {
    let mut chunk = Batch::new(5);
    let mut round = Round {
        time: Duration::ZERO,
        tally: Tally::default(),
        allocated: 0,
    };
    let chunks = count / CHUNK_EVENTS;
    for number in 0..chunks {
        events.fill(&mut chunk, CHUNK_EVENTS);
        let (start, before) = (Instant::now(), allocations::count());
        for rows in batches(&chunk, batch_rows) {
            under_test.push(rows, &mut round.tally);
        }
        if number + 1 == chunks {
            let end = events.stamp();
            under_test.finish(end.time, end.seq, &mut round.tally);
        }
        round.time += start.elapsed();
        if number >= chunks / 2 {
            round.allocated += allocations::count() - before;
        }
    }
    black_box(round)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn measure(contest: &Contest) -> Measured {
    let sql = format!("{STREAM}{}", contest.sql);
    let ours = || round(&mut (contest.ours)(&sql), EVENTS, contest.sensors);
    let by_hand = || round((contest.by_hand)().as_mut(), EVENTS, contest.sensors);
    let first = ours();
    assert_eq!(first.tally, by_hand().tally, "the same rows as by hand");
    (contest.check)(&first.tally);
    let (mut best_ours, mut best_by_hand) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        best_ours = best_ours.min(ours().time);
        best_by_hand = best_by_hand.min(by_hand().time);
    }
    let ratio = best_by_hand.as_secs_f64() / best_ours.as_secs_f64();
    Measured {
        value: ratio,
        met: ratio >= FLOOR && (contest.may_allocate || first.allocated == 0),
        details: vec![
            ("events/s", EVENTS as f64 / best_ours.as_secs_f64()),
            ("by hand", EVENTS as f64 / best_by_hand.as_secs_f64()),
            (
                "allocations/event",
                first.allocated as f64 / (EVENTS / 2) as f64,
            ),
        ],
    }
}
