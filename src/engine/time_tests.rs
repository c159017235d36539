//! What comes out of rows with a time of their own must not depend on how they are cut into
//! pushes, nor on saving and restoring; and nothing is lost that is not late.

use std::sync::Arc;

use super::{Engine, Outputs};
use crate::event::{Batch, Seq, Stamp, Timestamp, Value};
use crate::sql::plan::StreamId;
use crate::sql::{SqlText, compile};

const LETTERS: &str = "CREATE STREAM Bad (originalEvent STRING, errorMessage STRING, \
    errorType STRING, timestamp BIGINT, attemptCount INT, streamName STRING);\n";

/// Options of A, options of B; and what is done with the rows.
const TIMES: &[[&str; 2]] = &[
    ["'timestamp.field' = 'ts', 'timestamp.delay' = '40'", ""],
    ["'timestamp.field' = 'ts'", ""],
    [
        "'timestamp.field' = 'ts', 'timestamp.late' = 'dlq', 'error.dlq.stream' = 'Bad'",
        "'timestamp.field' = 'ts'",
    ],
    [
        "'timestamp.field' = 'ts', 'timestamp.delay' = '30', 'timestamp.late' = 'dlq', \
         'error.dlq.stream' = 'Bad'",
        "'timestamp.field' = 'ts', 'timestamp.delay' = '50', 'timestamp.late' = 'accept', \
         'timestamp.idle' = '20'",
    ],
    [
        "'timestamp.field' = 'ts', 'timestamp.delay' = '30', 'timestamp.idle' = '15', \
         'timestamp.rows_max' = '9'",
        "'timestamp.field' = 'ts', 'timestamp.idle' = '5'",
    ],
    [
        "'timestamp.field' = 'ts', 'timestamp.delay' = '100', 'timestamp.rows_max' = '7', \
         'timestamp.full' = 'drop_newest', 'error.dlq.stream' = 'Bad'",
        "",
    ],
    [
        "'timestamp.field' = 'ts', 'timestamp.future' = 'accept', 'timestamp.future_max' = '20'",
        "'timestamp.field' = 'ts', 'timestamp.future' = 'clamp', 'timestamp.future_max' = '9', \
         'timestamp.delay' = '20'",
    ],
    [
        "'timestamp.field' = 'ts', 'timestamp.future_max' = '20', 'error.dlq.stream' = 'Bad'",
        "'timestamp.field' = 'ts', 'timestamp.future' = 'accept', 'timestamp.future_max' = '9', \
         'timestamp.delay' = '20', 'timestamp.idle' = '25'",
    ],
];

/// Each with a clock for both streams, or for each its own.
const QUERIES: &[&str] = &[
    "INSERT INTO Out SELECT ts, v FROM A; INSERT INTO Out SELECT ts, v FROM B;",
    "INSERT INTO Out SELECT v, now() AS n FROM A; INSERT INTO Two SELECT v, now() AS n FROM B;",
    "INSERT INTO Mid SELECT ts, v FROM A; INSERT INTO Mid SELECT ts, v FROM B;
     INSERT ALL EVENTS INTO Out SELECT v, count(*) AS n FROM Mid WINDOW('time', 30 MS);
     INSERT INTO Two SELECT count(*) AS n, sum(v) AS s FROM Mid WINDOW('tumbling', 25 MS);",
    "CREATE TRIGGER Beat AT EVERY 17 MS;
     INSERT INTO Mid SELECT ts, v FROM A; INSERT INTO Two SELECT ts, v FROM B;
     INSERT INTO Mid SELECT triggered_time AS ts, 0 AS v FROM Beat;
     INSERT INTO Out SELECT sum(v) AS s, last(ts) AS t FROM Mid WINDOW('length', 5);",
    "CREATE STREAM Again (ts BIGINT, v INT)
     WITH ('timestamp.field' = 'ts', 'timestamp.delay' = '10', 'timestamp.idle' = '30');
     INSERT INTO Again SELECT ts, v FROM A WHERE v > 3;
     INSERT INTO Out SELECT v, now() AS n FROM Again; INSERT INTO Two SELECT v, ts FROM B;",
    "INSERT INTO Out SELECT ts, v FROM A; INSERT INTO Out SELECT timestamp AS ts, attemptCount AS v
     FROM Bad; INSERT INTO Two SELECT v FROM B; CREATE TRIGGER Boot AT START;",
];

#[derive(Default, PartialEq, Debug)]
struct Seen(Vec<(StreamId, u32, u32, Stamp, Vec<Value>)>);

impl Outputs for Seen {
    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]) {
        for (row, ordinal) in rows.rows().iter().zip(ordinals) {
            let values = row.values.to_vec();
            self.0.push((stream, query, *ordinal, row.stamp, values));
        }
    }
}

fn random(state: &mut u64, bound: u64) -> i64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    i64::try_from(*state % bound).unwrap()
}

/// Rows of two streams in the order in which they arrive; those of one stream that follow each
/// other together.
fn rows(count: u64) -> Vec<(&'static str, Batch)> {
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let mut all: Vec<(&str, Batch)> = Vec::new();
    let mut now = 1_700_000_000_000;
    for number in 1..=count {
        let name = match random(&mut state, 6) {
            0 => ["B", "A"],
            1..3 => ["B", "B"],
            _ => ["A", "A"],
        }[usize::from(number % 2 == 0)];
        now += random(&mut state, 3) * random(&mut state, 4) * random(&mut state, 4);
        let ts = match random(&mut state, 20) {
            0 => Value::Null,
            1 => Value::Int(now + random(&mut state, 60)),
            2 => Value::Int(now - random(&mut state, 200)),
            _ => Value::Int(now - random(&mut state, 50)),
        };
        let stamp = Stamp {
            seq: Seq(number),
            time: Timestamp(now),
        };
        let values = [ts, Value::Int(random(&mut state, 10))];
        match all.last_mut() {
            Some((last, rows)) if *last == name => rows.push(stamp, values),
            _ => {
                let mut rows = Batch::new(2);
                rows.push(stamp, values);
                all.push((name, rows));
            }
        }
    }
    all
}

fn start(sql: &str) -> Engine {
    let text = SqlText {
        path: "test".to_owned(),
        text: sql.to_owned(),
    };
    let plan = compile(&[text]).unwrap_or_else(|faults| panic!("{sql}\n{faults:?}"));
    let watched = ["Out", "Two", "Bad"].map(|name| plan.stream_named(name).map(|(id, _)| id));
    Engine::new(Arc::new(plan), |id| watched.contains(&Some(id)))
}

fn run(sql: &str, rows: &[(&str, Batch)], size: usize, restart: bool) -> Seen {
    let mut engine = start(sql);
    let mut seen = Seen::default();
    let mut last = Seq(0);
    for (name, rows) in rows {
        let (stream, _) = engine.plan().stream_named(name).unwrap();
        let mut rest = rows.rows();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(size);
            engine.push(stream, head, &mut seen);
            last = head.stamps().last().unwrap().seq;
            rest = tail;
            if restart {
                let (state, clock) = (engine.state().unwrap(), engine.clock());
                engine = start(sql);
                let empty = engine.restore(&state, clock);
                assert!(empty.is_empty(), "{sql}\n{empty:?}");
            }
        }
    }
    for step in 1..=20 {
        let end = Timestamp(engine.clock().0 + 7);
        engine.advance(end, last.plus(step), &mut seen);
    }
    seen
}

#[test]
fn pushes_and_restarts_do_not_show() {
    let rows = rows(400);
    for [a, b] in TIMES {
        for queries in QUERIES {
            let stream = |name: &str, options: &str| match options {
                "" => format!("CREATE STREAM {name} (ts BIGINT, v INT);\n"),
                _ => format!("CREATE STREAM {name} (ts BIGINT, v INT) WITH ({options});\n"),
            };
            let sql = format!("{LETTERS}{}{}{queries}", stream("A", a), stream("B", b));
            let whole = run(&sql, &rows, usize::MAX, false);
            assert!(whole.0.len() > 20, "{sql}\n{whole:?}");
            let seqs = whole
                .0
                .iter()
                .map(|(stream, .., stamp, _)| (*stream, stamp.seq));
            for stream in seqs.clone().map(|(stream, _)| stream) {
                let of = seqs.clone().filter(|(other, _)| *other == stream);
                assert!(of.is_sorted(), "{sql}");
            }
            assert_eq!(whole, run(&sql, &rows, 1, false), "one by one: {sql}");
            assert_eq!(whole, run(&sql, &rows, 2, true), "restarted: {sql}");
        }
    }
}

/// With a delay beyond all disorder every row comes out, in the order of its time.
#[test]
fn nothing_is_lost_within_the_delay() {
    let rows = rows(400);
    let sql = "CREATE STREAM A (ts BIGINT, v INT) WITH ('timestamp.field' = 'ts', \
               'timestamp.delay' = '1 s', 'timestamp.idle' = '50');
               INSERT INTO Out SELECT ts, v FROM A;";
    let of_a: Vec<(&str, Batch)> = rows.into_iter().filter(|(name, _)| *name == "A").collect();
    let mut expected: Vec<(i64, Vec<Value>)> = of_a
        .iter()
        .flat_map(|(_, rows)| rows.rows().iter().collect::<Vec<_>>())
        .map(|row| {
            let time = row.values[0].as_int().unwrap_or(row.stamp.time.0);
            (time, row.values.to_vec())
        })
        .collect();
    expected.sort_by_key(|(time, _)| *time);
    let seen = run(sql, &of_a, usize::MAX, false);
    let seen: Vec<(i64, Vec<Value>)> = seen
        .0
        .into_iter()
        .map(|(.., stamp, values)| (stamp.time.0, values))
        .collect();
    assert_eq!(seen, expected);
}

fn row(seq: u64, time: i64, ts: Value, v: i64) -> Batch {
    let mut rows = Batch::new(2);
    let stamp = Stamp {
        seq: Seq(seq),
        time: Timestamp(time),
    };
    rows.push(stamp, [ts, Value::Int(v)]);
    rows
}

/// Rows that wait are not lost when the options of their stream change, or the streams it shares
/// a clock with.
#[test]
fn rows_that_wait_outlive_a_change() {
    let of_a = |options: &str| {
        format!(
            "CREATE STREAM A (ts BIGINT, v INT){options};
             CREATE STREAM B (ts BIGINT, v INT) WITH ('timestamp.field' = 'ts');
             INSERT INTO Out SELECT ts, v FROM A;"
        )
    };
    let before = of_a(" WITH ('timestamp.field' = 'ts', 'timestamp.delay' = '1 s')");
    for after in [
        of_a(""),
        of_a(" WITH ('timestamp.field' = 'ts')"),
        of_a(" WITH ('timestamp.field' = 'ts', 'timestamp.delay' = '2 s')"),
        of_a(" WITH ('timestamp.field' = 'ts', 'timestamp.delay' = '1 s')")
            + "INSERT INTO Out SELECT ts, v FROM B;",
    ] {
        let mut engine = start(&before);
        let mut seen = Seen::default();
        let (a, _) = engine.plan().stream_named("A").unwrap();
        engine.push(a, row(1, 500, Value::Int(4_000), 1).rows(), &mut seen);
        engine.push(a, row(2, 600, Value::Int(3_500), 2).rows(), &mut seen);
        assert_eq!(seen.0, [], "they wait");
        let (state, clock) = (engine.state().unwrap(), engine.clock());
        let mut engine = start(&after);
        engine.restore(&state, clock);
        let (state, clock) = (engine.state().unwrap(), engine.clock());
        let mut engine = start(&after);
        engine.restore(&state, clock);
        engine.push(a, row(3, 9_000, Value::Int(9_000), 3).rows(), &mut seen);
        let values: Vec<_> = seen.0.iter().filter_map(|one| one.4[1].as_int()).collect();
        assert_eq!(values.get(..2), Some(&[2, 1][..]), "{after}");
    }
}

#[test]
fn what_happens_is_counted() {
    let sql = format!(
        "{LETTERS}CREATE STREAM A (ts BIGINT, v INT) WITH ('timestamp.field' = 'ts', \
         'timestamp.delay' = '10', 'timestamp.rows_max' = '2', 'error.dlq.stream' = 'Bad');
         CREATE TRIGGER Beat AT EVERY 1 MS;
         INSERT INTO Out SELECT v FROM A;"
    );
    let mut engine = start(&sql);
    let mut seen = Seen::default();
    let now = 1_700_000_000_000;
    let (a, _) = engine.plan().stream_named("A").unwrap();
    let times = [
        Value::Int(now),
        Value::Int(now + 10),
        Value::Int(now - 1),
        Value::Int(now + 999_999),
        Value::Null,
        Value::Int(now + 5),
        Value::Int(now + 6),
    ];
    for (seq, time) in (1..).zip(times) {
        engine.push(a, row(seq, now, time, 0).rows(), &mut seen);
    }
    engine.advance(Timestamp(now + 20_000), Seq(9), &mut seen);
    let expected = super::EngineCounts {
        late: 1,
        future: 1,
        untimed: 1,
        full: 1,
        dead_letters: 1,
        jumps_cut: 1,
        matches_dropped: 0,
    };
    assert_eq!(engine.take_counts(), expected);
    assert_eq!(engine.take_counts(), super::EngineCounts::default());
}

/// What the log says of its clock decides whether rows can be too far ahead; while it says
/// nothing, the year does.
#[test]
fn the_future_is_known_when_the_clock_is_trusted() {
    let sql = format!(
        "{LETTERS}CREATE STREAM A (ts BIGINT, v INT) WITH ('timestamp.field' = 'ts',
         'timestamp.future' = 'dlq', 'timestamp.future_max' = '20', 'error.dlq.stream' = 'Bad');
         INSERT INTO Out SELECT v FROM A;"
    );
    let (old, new) = (1_000, 1_700_000_000_000);
    let table = [
        (old, None, false),
        (old, Some(false), false),
        (old, Some(true), true),
        (new, None, true),
        (new, Some(false), false),
        (new, Some(true), true),
    ];
    for (now, trusted, refused) in table {
        let mut engine = start(&sql);
        if let Some(trusted) = trusted {
            engine.trust_clock(trusted);
        }
        let chunks = engine.state().unwrap();
        let mut engine = start(&sql);
        assert!(engine.restore(&chunks, Timestamp(now)).is_empty());
        let (a, _) = engine.plan().stream_named("A").unwrap();
        let rows = row(1, now, Value::Int(now + 1_000), 0);
        engine.push(a, rows.rows(), &mut Seen::default());
        let future = engine.take_counts().future;
        assert_eq!(future, u64::from(refused), "{now} {trusted:?}");
    }
}
