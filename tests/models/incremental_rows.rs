//! What a saving costs of rows, groups and partial matches that are found by key: each of them is
//! saved when it has changed, and no other.
//!
//! Every kind of state is built and saved; then one in a hundred changes, and what is saved of that
//! must be small beside the whole. What savings in steps make is the state, and an engine that
//! goes on with it has the same one.

use std::sync::Arc;

use eventflux::engine::{Engine, Outputs, Saving};
use eventflux::event::{Batch, GrowingState, Seq, Stamp, StateChanges, Timestamp, Value};
use eventflux::sql::Application;
use eventflux::sql::plan::StreamId;

use crate::drive::plan;

/// How much of a whole state may be given when one in a hundred has changed, in percent of its
/// bytes and pieces.
const SHARE_MAX: usize = 5;
/// Pieces that a saving of nothing may give: what operators know besides what is many.
const HEADS_MAX: usize = 8;
/// Ids of changes are spread by this prime.
const STRIDE: u64 = 7_919;

/// Rows with the op 'new' come first, each with an id of its own; then one in a hundred of these
/// comes again with the op 'again'.
const STREAM: &str = "CREATE STREAM S (op STRING, id BIGINT, v DOUBLE);
    CREATE STREAM New (op STRING, id BIGINT, v DOUBLE);
    CREATE STREAM Again (op STRING, id BIGINT, v DOUBLE);
    INSERT INTO New SELECT * FROM S WHERE op = 'new';
    INSERT INTO Again SELECT * FROM S WHERE op = 'again';
";

/// Kinds of state, how many rows they are of, and what has them.
const KINDS: &[(&str, u64, &str)] = &[
    (
        "a table",
        500_000,
        "CREATE TABLE T (id BIGINT PRIMARY KEY, op STRING, v DOUBLE);
         UPSERT INTO T SELECT id, op, v FROM S;",
    ),
    (
        "a table of the latest uses",
        20_000,
        "CREATE TABLE T (id BIGINT PRIMARY KEY, v DOUBLE)
           WITH ('max_rows' = '20000', 'eviction' = 'lru');
         INSERT INTO T SELECT id, v FROM New;
         INSERT INTO Out SELECT T.v FROM Again JOIN T ON T.id = Again.id;",
    ),
    (
        "a table that forgets",
        20_000,
        "CREATE TABLE T (id BIGINT, v DOUBLE) WITH ('ttl' = '1 h');
         INSERT INTO T SELECT id, v FROM New;
         UPDATE T SET v = Again.v + 1 FROM Again WHERE T.id = Again.id;",
    ),
    (
        "a table from which rows are deleted",
        20_000,
        "CREATE TABLE T (id BIGINT, v DOUBLE);
         INSERT INTO T SELECT id, v FROM New;
         DELETE FROM T USING Again WHERE T.id = Again.id;",
    ),
    (
        "two windows that are joined",
        20_000,
        "INSERT INTO Out SELECT a.id FROM New WINDOW('time', 19900 MS) AS a
           JOIN S WINDOW('time', 19900 MS) AS b ON a.id = b.id;",
    ),
    (
        "rows that came out without a match",
        20_000,
        "INSERT ALL EVENTS INTO Out SELECT a.id FROM New WINDOW('length', 20000) AS a
           FULL JOIN Again WINDOW('length', 100) AS b ON a.id = b.id;",
    ),
    (
        "pairs that a third joins",
        20_000,
        "INSERT INTO Out SELECT a.id FROM New WINDOW('time', 1 HOUR) AS a
           JOIN S WINDOW('time', 1 HOUR) AS b ON a.id = b.id
           JOIN Again WINDOW('time', 1 HOUR) AS c ON c.id = b.id;",
    ),
    (
        "partial matches that wait",
        100_000,
        "INSERT INTO Out SELECT a.v AS a, b.v AS b, c.v AS c FROM PATTERN (
           EVERY a=New -> b=Again[id = a.id] -> c=Again[id = a.id AND v < 0.0])
           WITH ('pattern.matches_max' = '1000000');",
    ),
    (
        "partial matches of keys",
        5_000,
        "INSERT INTO Out SELECT a.v AS a, b.v AS b FROM PATTERN (
           a=S -> b=S[v > a.v]{2,} -> c=S[v < 0.0] WITHIN 1 HOUR) PARTITION BY id
           WITH ('pattern.matches_max' = '1000000');",
    ),
    (
        "partial matches that wait for an absence",
        20_000,
        "INSERT INTO Out SELECT a.v AS a FROM PATTERN (
           EVERY a=New -> NOT Again[id = a.id] FOR 1 HOUR)
           WITH ('pattern.matches_max' = '1000000');",
    ),
    (
        "keys that count their rows",
        5_000,
        "INSERT INTO Out SELECT a.v AS a, b.v AS b FROM PATTERN (
           EVERY a=S -> b=S[v < 0.0] WITHIN 100 EVENTS) PARTITION BY id
           WITH ('pattern.matches_max' = '1000000');",
    ),
    (
        "rows that have come out before",
        20_000,
        "INSERT INTO Out SELECT DISTINCT id, op FROM S;",
    ),
    (
        "the latest row of each key",
        20_000,
        "INSERT INTO Out SELECT id, v FROM S WINDOW('unique', id);",
    ),
    (
        "the buckets of an aggregation",
        5_000,
        "CREATE AGGREGATION A AS SELECT id, op, sum(v) AS s, stddev(v) AS d FROM S GROUP BY id, op
           AGGREGATE EVERY HOURS, DAYS;",
    ),
    (
        "an aggregation with many buckets",
        5_000,
        "CREATE AGGREGATION A WITH ('purge.seconds' = '1 h') AS SELECT count(*) AS n FROM S
           AGGREGATE BY id * 1000 EVERY SECONDS;",
    ),
];

struct Nobody;

impl Outputs for Nobody {
    fn take(&mut self, _stream: StreamId, _query: u32, _rows: &Batch, _ordinals: &[u32]) {}
}

/// An engine and what was saved of it.
struct Saved {
    engine: Engine,
    plan: Arc<Application>,
    rows: u64,
    grown: GrowingState,
}

impl Saved {
    fn new(sql: &str) -> Saved {
        let plan = plan(&format!("{STREAM}{sql}")).unwrap();
        Saved {
            engine: Engine::new(Arc::clone(&plan), |_| false),
            plan,
            rows: 0,
            grown: GrowingState::default(),
        }
    }

    /// Rows come with these ids, each a millisecond after the one before.
    fn push(&mut self, op: &str, ids: impl Iterator<Item = u64>) {
        let (stream, definition) = self.plan.stream_named("S").unwrap();
        let mut rows = Batch::new(definition.schema.width());
        for id in ids {
            self.rows += 1;
            let stamp = Stamp {
                seq: Seq(self.rows),
                time: Timestamp(1_000 + i64::try_from(self.rows).unwrap()),
            };
            let value = f64::from(u32::try_from(self.rows).unwrap()) / 8.0;
            let id = Value::Int(i64::try_from(id).unwrap());
            rows.push(stamp, [Value::text(op), id, Value::Float(value)]);
        }
        self.engine.push(stream, rows.rows(), &mut Nobody);
    }

    fn push_new(&mut self, count: u64) {
        self.push("new", 0..count);
    }

    /// One in a hundred of `of` comes again, each time others.
    fn push_again(&mut self, of: u64) {
        let first = self.rows;
        let numbers = first..first + of / 100;
        self.push("again", numbers.map(|number| number * STRIDE % of));
    }

    /// Brings what is saved up to date; how many pieces and bytes that took.
    fn save(&mut self) -> (usize, usize) {
        let mut changes = StateChanges::new();
        self.engine.save(Saving::Changed, &mut changes).unwrap();
        self.grown.apply(&changes);
        (changes.len() + changes.emptied().len(), changes.bytes())
    }

    /// The same after little has changed.
    fn save_little(&mut self, what: &str, whole: (usize, usize)) {
        let (pieces, bytes) = self.save();
        assert!(
            pieces * 100 <= whole.0 * SHARE_MAX && bytes * 100 <= whole.1 * SHARE_MAX,
            "{what}: {pieces} of {} pieces, {bytes} of {} bytes",
            whole.0,
            whole.1
        );
        assert!(pieces > HEADS_MAX, "{what}: nothing has changed");
        let (pieces, _) = self.save();
        assert!(pieces <= HEADS_MAX, "{what}: after nothing {pieces} pieces");
        let state = self.engine.state().unwrap();
        assert!(self.grown.state() == state, "{what}: another state");
    }

    /// Another engine goes on.
    fn restart(&mut self, what: &str) {
        let state = self.grown.state();
        let clock = self.engine.clock();
        self.engine = Engine::new(Arc::clone(&self.plan), |_| false);
        let empty = self.engine.restore(&state, clock);
        assert!(empty.is_empty(), "{what}: started empty: {empty:?}");
        let again = self.engine.state().unwrap();
        assert!(again == state, "{what}: another state after a restart");
    }
}

#[test]
fn only_what_has_changed_is_saved_of_what_is_found_by_key() {
    for (what, rows, sql) in KINDS {
        let mut saved = Saved::new(sql);
        saved.push_new(*rows);
        let whole = saved.save();
        let least = usize::try_from(*rows).unwrap();
        assert!(whole.0 >= least * 9 / 10, "{what}: only {} pieces", whole.0);
        saved.push_again(*rows);
        saved.save_little(what, whole);
        saved.restart(what);
        saved.push_again(*rows);
        saved.save_little(what, whole);
    }
}
