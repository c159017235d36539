//! What comes out must not depend on how rows are cut into pushes, nor on saving and restoring.

use std::sync::Arc;

use super::{Engine, Outputs, Saving};
use crate::event::{Batch, GrowingState, Seq, Stamp, StateChanges, Timestamp, Value};
use crate::sql::plan::StreamId;
use crate::sql::{SqlText, compile};

const STREAM: &str = "CREATE STREAM S (k STRING, x DOUBLE, n INT, m BIGINT, b BOOLEAN);\n";

/// Every kind of window × with and without groups, and what looks through it.
const QUERIES: &[&str] = &[
    "SELECT k, x * 1.8 + 32 AS f, n + 1 AS n FROM S WHERE x > 30",
    "SELECT k, m FROM S WHERE NOT b OR n IN (1, 2, NULL)",
    "SELECT count(*) AS c, sum(n) AS s, avg(x) AS a, min(x) AS lo, max(m) AS hi FROM S",
    "SELECT k, first(x) AS f, last(n) AS l, min(k) AS lo, max(x) AS hi FROM S GROUP BY k",
    "SELECT avg(x) AS a FROM S WINDOW('length', 7)",
    "SELECT sum(x) AS a, n AS n, count(x) AS c FROM S WINDOW('length', 300)",
    "SELECT k, n, avg(x) AS a, min(x) AS lo, max(n) AS hi, first(m) AS f, last(k) AS l \
     FROM S WINDOW('length', 5) GROUP BY k, n",
    "SELECT m, k, stddev(x) AS d FROM S WINDOW('time', 40 MS) GROUP BY k HAVING count(*) > 1",
    "SELECT max(x) AS hi, bool_or(b) AS any, m FROM S WINDOW('time', 25 MS)",
    "SELECT x + 1 AS x, k FROM S WINDOW('length', 3)",
    "SELECT k, x FROM S WINDOW('lengthBatch', 4) ORDER BY x DESC LIMIT 2",
    "SELECT k, avg(x) AS a, max(x) AS hi, min(m) AS lo, count(*) AS c, n \
     FROM S WINDOW('tumbling', 30 MS) GROUP BY k",
    "SELECT k, first(x) AS f, last(x) AS l, maxForever(n) AS hi, sum(m) AS s \
     FROM S WINDOW('lengthBatch', 9) WHERE x > 5 GROUP BY k HAVING sum(m) > 2 ORDER BY f, k \
     LIMIT 3 OFFSET 1",
    "SELECT n % 3 AS g, count(b) AS c, max(k) AS hi FROM S WINDOW('timeBatch', 17 MS) \
     GROUP BY n % 3",
    "SELECT count(*) AS c, min(x) AS lo FROM S WINDOW('lengthBatch', 10)",
    "SELECT k, count(DISTINCT n) AS d, sum(DISTINCT m) AS s, percentile(x, 0.3) AS p, \
     mode(n) AS o, stddev_samp(x) AS v, corr(x, n) AS c FROM S WINDOW('length', 40) GROUP BY k",
    "SELECT count(*) FILTER (WHERE b) AS c, approx_percentile(x, 0.9) AS p, top_k(k, 2) AS t, \
     approx_count_distinct(x) AS d, var_pop(x) AS v FROM S WINDOW('length', 600)",
    "SELECT n, collect_set(k) AS s, collect_list(m) AS l, string_agg(DISTINCT k, '+') AS t, \
     median(x) AS p, regr_slope(x, m) AS r FROM S WINDOW('lengthBatch', 20) GROUP BY n",
    "SELECT approx_percentile(x, 0.5) AS p, approx_count_distinct(x) AS d, mode(k) AS o FROM S",
    "SELECT k, sum(x) AS s, min(n) AS lo FROM S WINDOW('timeLength', 40 MS, 9) GROUP BY k",
    "SELECT count(*) AS c, max(x) AS hi FROM S WINDOW('externalTime', m + n, 20)",
    "SELECT k, x, sum(n) AS s FROM S WINDOW('delay', 7 MS) GROUP BY k, x",
    "SELECT k, avg(x) AS a, max(n) AS hi FROM S WINDOW('sort', 6, n, 'desc', abs(m), k) GROUP BY k",
    "SELECT n, sum(x) AS s, first(m) AS f, last(m) AS l \
     FROM S WINDOW('unique', k, n % 2) GROUP BY n",
    "SELECT count(*) AS c, min(x) AS lo FROM S WINDOW('firstUnique', k, n)",
    "SELECT k, x FROM S WINDOW('uniqueLength', m, 3)",
    "SELECT k, sum(x) AS s FROM S WINDOW('firstUniqueLength', m, k, 4) GROUP BY k",
    "SELECT sum(x) AS s, max(k) AS hi FROM S WINDOW('uniqueTime', n, 30 MS)",
    "SELECT k, n FROM S WINDOW('firstUniqueTime', k, n, 50 MS)",
    "SELECT k, n, sum(x) AS s FROM S WINDOW('frequent', 3, k, n) GROUP BY k",
    "SELECT k, count(*) AS c, sum(m) AS s FROM S WINDOW('lossyFrequent', 0.2, 0.05, n)",
    "SELECT k, count(*) AS c FROM S WINDOW('expression', 'sum(x) < 200 AND last.n <> first.n') \
     GROUP BY k",
    "SELECT median(x) AS p, n FROM S WINDOW('expression', 'count(DISTINCT k) < 4 OR count() < 9')",
    "SELECT k, sum(x) AS s, count(*) AS c FROM S WINDOW('hop', 30 MS, 8 MS) GROUP BY k",
    "SELECT m, k FROM S WINDOW('hop', 3 MS, 10 MS) ORDER BY x",
    "SELECT n, avg(x) AS a FROM S WINDOW('externalTimeBatch', m * 9, 25, 3, 11 MS) GROUP BY n",
    "SELECT sum(n) AS s FROM S WINDOW('externalTimeBatch', m * n, 7)",
    "SELECT k, n, sum(x) AS s FROM S WINDOW('session', 8 MS, k) GROUP BY k, n",
    "SELECT n, m FROM S WINDOW('session', 5 MS, n % 3, 7 MS) ORDER BY m LIMIT 3",
    "SELECT k, count(*) AS c FROM S WINDOW('session', 6 MS) GROUP BY k",
    "SELECT k, sum(x) AS s FROM S WINDOW('cron', '* * * * * *') GROUP BY k",
    "SELECT k, sum(x) AS s, max(n) AS hi FROM S WINDOW('expressionBatch', \
     'max(x) - min(x) < 30 AND last.k = first.k') GROUP BY k",
    "SELECT n, count(*) AS c FROM S WINDOW('state', n = 1, 'sum(x) > 90 OR last.n > first.n + 2') \
     GROUP BY n",
    "SELECT k, count(*) AS c FROM S WINDOW('batch') GROUP BY k",
];

#[derive(Default, PartialEq, Debug)]
struct Seen(Vec<(u32, u32, Stamp, Vec<Value>)>);

impl Outputs for Seen {
    fn take(&mut self, _: StreamId, query: u32, rows: &Batch, ordinals: &[u32]) {
        for (row, ordinal) in rows.rows().iter().zip(ordinals) {
            self.0
                .push((query, *ordinal, row.stamp, row.values.to_vec()));
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn or_null(&mut self, value: Value) -> Value {
        if self.below(10) == 0 {
            Value::Null
        } else {
            value
        }
    }
}

fn rows(count: u32) -> Batch {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut batch = Batch::new(5);
    let mut time = 1_000;
    for number in 1..=u64::from(count) {
        time += i64::try_from(random.below(4) * random.below(4)).unwrap();
        let key = ["a", "b", "", "a key that is too long to lie inline"];
        let key = key[usize::try_from(random.below(4)).unwrap()];
        let whole = i64::try_from(random.below(5)).unwrap();
        let float = f64::from(u32::try_from(random.below(50_000)).unwrap()) / 997.0;
        let values = [
            Value::text(key),
            Value::Float(float),
            Value::Int(whole),
            Value::Int(whole * 7 - 9),
            Value::Bool(whole > 2),
        ];
        let values = values.map(|value| random.or_null(value));
        let stamp = Stamp {
            seq: Seq(number),
            time: Timestamp(time),
        };
        batch.push(stamp, values);
    }
    batch
}

fn start(sql: &str) -> (Engine, StreamId) {
    let text = SqlText {
        path: "test".to_owned(),
        text: sql.to_owned(),
    };
    let plan = compile(&[text]).unwrap_or_else(|faults| panic!("{sql}\n{faults:?}"));
    let (stream, _) = plan.stream_named("S").unwrap();
    let source = stream;
    (Engine::new(Arc::new(plan), |id| id != source), stream)
}

/// All rows in pushes of `sizes`, one after another and over again; the engine is replaced by one
/// restored from its state after each push when `restart` is set.
fn run(sql: &str, rows: &Batch, sizes: &[usize], restart: bool) -> Seen {
    let (mut engine, stream) = start(sql);
    let mut seen = Seen::default();
    let mut saved = GrowingState::default();
    let mut rest = rows.rows();
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(*sizes.next().unwrap());
        engine.push(stream, head, &mut seen);
        if restart {
            for saving in [Saving::Ahead { pieces_max: 64 }, Saving::Changed] {
                let mut changes = StateChanges::new();
                engine.save(saving, &mut changes).unwrap();
                saved.apply(&changes);
            }
            let (in_steps, whole) = (saved.state(), engine.state().unwrap());
            let other = in_steps
                .pieces()
                .zip(whole.pieces())
                .find(|(one, other)| one != other);
            assert!(in_steps == whole, "saved in steps: {sql}: {other:x?}");
            // The next step is counted by an engine that has taken the state back, or goes on.
            let clock = engine.clock();
            if tail.len() % 2 == 1 {
                (engine, _) = start(sql);
                assert!(engine.restore(&saved.state(), clock).is_empty());
            }
        }
        rest = tail;
    }
    let end = Timestamp(engine.clock().0 + 1_000);
    engine.advance(end, Seq(rows.len() as u64 + 1), &mut seen);
    seen
}

fn statements(select: &str, insert: &str) -> String {
    format!("{STREAM}INSERT {insert} INTO Out {select};")
}

/// Many values in several groups and aggregates.
#[test]
fn large_groups_survive_a_restart() {
    let rows = rows(9_000);
    for select in [
        "SELECT k, median(x) AS p, first(n) AS f, count(DISTINCT x) AS d \
         FROM S WINDOW('length', 8000) GROUP BY k",
        "SELECT k, percentile(x, 0.1) AS p, mode(x) AS o, count(DISTINCT m) AS d FROM S GROUP BY k",
    ] {
        let sql = statements(select, "");
        let whole = run(&sql, &rows, &[usize::MAX], false);
        assert_eq!(whole, run(&sql, &rows, &[4_000, 3_000], true), "{sql}");
    }
}

#[test]
fn pushes_and_restarts_do_not_show() {
    let rows = rows(700);
    for select in QUERIES {
        for insert in ["", "ALL EVENTS", "EXPIRED EVENTS"] {
            let sql = statements(select, insert);
            let text = SqlText {
                path: "test".to_owned(),
                text: sql.clone(),
            };
            if compile(&[text]).is_err() && !insert.is_empty() {
                continue;
            }
            let whole = run(&sql, &rows, &[usize::MAX], false);
            if insert.is_empty() {
                assert!(!whole.0.is_empty(), "{sql}");
            }
            assert_eq!(whole, run(&sql, &rows, &[1], false), "one by one: {sql}");
            assert_eq!(
                whole,
                run(&sql, &rows, &[3, 1, 40], false),
                "in parts: {sql}"
            );
            assert_eq!(
                whole,
                run(&sql, &rows, &[5, 1, 90], true),
                "restarted: {sql}"
            );
        }
    }
}
