//! What a saving costs: of a large state of which little has changed, little is given.
//!
//! Every kind of state is built from many rows and saved; then comes one row in a hundred, and what
//! is saved of that must be small beside the whole. What savings in steps make is the state.

use std::sync::Arc;

use eventflux::engine::{Engine, Outputs, Saving};
use eventflux::event::{Batch, GrowingState, Seq, Stamp, StateChanges, Timestamp, Value};
use eventflux::sql::Application;
use eventflux::sql::plan::StreamId;

use crate::drive::plan;

/// Rows of which a state is built, each a millisecond after the one before.
const ROWS: u64 = 20_000;
/// Rows that come then.
const CHANGES: u64 = 200;
/// How many keys there are: each comes once before any comes again.
const KEYS: u64 = 20_000;
/// How much of a whole state may be given for so few rows, in percent of its bytes and pieces.
const SHARE_MAX: usize = 5;
/// How large a state must be to say anything.
const BYTES_MIN: usize = 50_000;
/// Pieces that a saving of nothing may give: what operators know besides what is many.
const HEADS_MAX: usize = 6;
/// So few pieces are little whatever there is.
const OPEN_PIECES_MAX: usize = 16;

/// What is read: a number that counts up, a key, a value, the row's time.
const STREAM: &str = "CREATE STREAM S (id INT, k INT, v DOUBLE, ts BIGINT);\n";

/// The kind of which most pieces are such that they are not given ahead: what each key knows
/// besides its rows, and blocks of rows that are not full.
const OF_EACH_KEY: &str = "a window of each key";

/// Kinds of state, and what has them.
const KINDS: &[(&str, &str)] = &[
    (
        "a length window",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('length', 19000);",
    ),
    (
        "a time window",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('time', 19 SECONDS);",
    ),
    (
        "a time window through which two look",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('time', 19 SECONDS);
         INSERT INTO Out SELECT max(v) AS s FROM S WINDOW('time', 19 SECONDS) WHERE v > 2000;
         INSERT INTO Out SELECT count(*) AS s FROM S WINDOW('time', 19 SECONDS);",
    ),
    (
        "rows that are delayed",
        "INSERT INTO Out SELECT id FROM S WINDOW('delay', 19 SECONDS);",
    ),
    (
        "a window by the rows' own time",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('externalTime', ts, 19 SECONDS);",
    ),
    (
        "windows that overlap",
        "INSERT INTO Out SELECT id FROM S WINDOW('hop', 60 SECONDS, 30 SECONDS);",
    ),
    (
        "a window that a condition moves",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('expression', 'count() < 19000');",
    ),
    (
        "a batch that is open",
        "INSERT INTO Out SELECT id, v FROM S WINDOW('lengthBatch', 100000);",
    ),
    (
        "a batch that will be shown leaving",
        "INSERT ALL EVENTS INTO Out SELECT id, v FROM S WINDOW('lengthBatch', 20000);",
    ),
    (
        "a batch that is shown again and again",
        "INSERT INTO Out SELECT id, v FROM S WINDOW('lengthBatch', 20000)
         OUTPUT SNAPSHOT EVERY 1 HOUR;",
    ),
    (
        "the open batch of a join",
        "CREATE TABLE T (k INT PRIMARY KEY, x INT);
         INSERT INTO Out SELECT id, x FROM S WINDOW('lengthBatch', 100000) JOIN T ON S.k = T.k;",
    ),
    (
        "the rows that come first",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('sort', 19000, v);",
    ),
    (
        "a session of each key",
        "INSERT INTO Out SELECT id, v FROM S WINDOW('session', 1 HOUR, k);",
    ),
    (
        "few sessions of many rows",
        "INSERT INTO Out SELECT id, v FROM S WINDOW('session', 1 HOUR, k % 3);",
    ),
    (
        "rows that wait for their time",
        "CREATE STREAM Timed (id INT, v DOUBLE, ts BIGINT) WITH ('timestamp.field' = 'ts',
           'timestamp.delay' = '19 s');
         INSERT INTO Timed SELECT id, v, ts FROM S;
         INSERT INTO Out SELECT id FROM Timed;",
    ),
    (
        "the latest row of each key",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('unique', k);",
    ),
    (
        "keys that come often",
        "INSERT INTO Out SELECT sum(v) AS s FROM S WINDOW('frequent', 30000, k);",
    ),
    (
        "all that ever came",
        "INSERT INTO Out SELECT DISTINCT id FROM S;",
    ),
    (
        "what is there once",
        "INSERT INTO Out SELECT DISTINCT id FROM S WINDOW('time', 19 SECONDS);",
    ),
    (
        "a window that is shown again and again",
        "INSERT INTO Out SELECT id, v FROM S WINDOW('time', 19 SECONDS)
         OUTPUT SNAPSHOT EVERY 1 HOUR;",
    ),
    (
        "rows that wait for the end of a period",
        "INSERT INTO Out SELECT id, v FROM S OUTPUT ALL EVERY 1 HOUR;",
    ),
    (
        "the last row of each group in a period",
        "INSERT INTO Out SELECT k, v FROM S GROUP BY k OUTPUT LAST EVERY 1 HOUR;",
    ),
    (
        "groups that have given their first row",
        "INSERT INTO Out SELECT k, v FROM S GROUP BY k OUTPUT FIRST EVERY 1 HOUR;",
    ),
    (
        "what is remembered of each key",
        "INSERT INTO Out SELECT lag(v) OVER (PARTITION BY k) AS p,
           acc_sum(v) OVER (PARTITION BY k) AS s FROM S;",
    ),
    (
        OF_EACH_KEY,
        "INSERT INTO Out SELECT k, sum(v) AS s FROM S WINDOW('length', 3) PARTITION BY k;",
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

    /// Some more rows come.
    fn push(&mut self, count: u64) {
        let (stream, definition) = self.plan.stream_named("S").unwrap();
        let mut rows = Batch::new(definition.schema.width());
        for number in self.rows..self.rows + count {
            let time = 1_000 + i64::try_from(number).unwrap();
            let key = i64::try_from(number * 7_919 % KEYS).unwrap();
            let value = number * 104_729 % 50_021;
            let value = f64::from(u32::try_from(value).unwrap()) / 8.0;
            let stamp = Stamp {
                seq: Seq(number + 1),
                time: Timestamp(time),
            };
            let row = [
                Value::Int(time - 1_000),
                Value::Int(key),
                Value::Float(value),
                Value::Int(time),
            ];
            rows.push(stamp, row);
        }
        self.rows += count;
        self.engine.push(stream, rows.rows(), &mut Nobody);
    }

    /// Brings what is saved up to date; how many pieces and bytes that took.
    fn save(&mut self) -> (usize, usize) {
        self.save_as(Saving::Changed).1
    }

    /// The same for some kind of saving; also whether there was more to save.
    fn save_as(&mut self, saving: Saving) -> (bool, (usize, usize)) {
        let mut changes = StateChanges::new();
        let more = self.engine.save(saving, &mut changes).unwrap();
        self.grown.apply(&changes);
        let pieces = changes.len() + changes.emptied().len();
        (more, (pieces, changes.bytes()))
    }
}

/// What is wrong with any of the kinds of state, by name.
fn faults(
    kinds: impl Fn(&str) -> bool,
    check: impl Fn(&mut Saved) -> Result<(), String>,
) -> String {
    let kinds = KINDS.iter().filter(|(what, _)| kinds(what));
    let faults = kinds.filter_map(|(what, sql)| {
        let mut saved = Saved::new(sql);
        let fault = check(&mut saved).err().or_else(|| {
            let whole = saved.engine.state().unwrap();
            (saved.grown.state() != whole).then(|| "saved in steps it is another one".to_owned())
        });
        fault.map(|fault| format!("{what}: {fault}\n"))
    });
    faults.collect()
}

/// Whether what was given for some rows is little beside the whole. Pieces that are given every
/// time, and one that is open at the end of a queue, count for nothing where there are few.
fn little((pieces, bytes): (usize, usize), whole: (usize, usize)) -> Result<(), String> {
    let few = pieces <= OPEN_PIECES_MAX;
    if (few || pieces * 100 <= whole.0 * SHARE_MAX) && bytes * 100 <= whole.1 * SHARE_MAX {
        return Ok(());
    }
    Err(format!(
        "after {CHANGES} rows {pieces} of {} pieces, {bytes} of {} bytes",
        whole.0, whole.1
    ))
}

/// Whether nearly nothing was given.
fn nothing((pieces, bytes): (usize, usize)) -> Result<(), String> {
    if pieces <= HEADS_MAX {
        return Ok(());
    }
    Err(format!("after nothing {pieces} pieces, {bytes} bytes"))
}

#[test]
fn what_is_saved_is_small_beside_what_is_there_when_little_has_changed() {
    let faults = faults(
        |_| true,
        |saved| {
            saved.push(ROWS);
            let whole = saved.save();
            if whole.1 < BYTES_MIN {
                return Err(format!("a state of {} bytes only", whole.1));
            }
            saved.push(CHANGES);
            little(saved.save(), whole)?;
            nothing(saved.save())
        },
    );
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn an_engine_that_goes_on_with_a_state_saves_what_changes_from_there() {
    let faults = faults(
        |_| true,
        |saved| {
            saved.push(ROWS);
            let whole = saved.save();
            let clock = saved.engine.clock();
            saved.engine = Engine::new(Arc::clone(&saved.plan), |_| false);
            let empty = saved.engine.restore(&saved.grown.state(), clock);
            if !empty.is_empty() {
                return Err(format!("started empty: {empty:?}"));
            }
            nothing(saved.save())?;
            saved.push(CHANGES);
            little(saved.save(), whole)
        },
    );
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn what_was_saved_ahead_need_not_be_saved_again() {
    let faults = faults(
        |what| what != OF_EACH_KEY,
        |saved| {
            saved.push(ROWS);
            let (mut whole, mut rounds) = ((0, 0), 0);
            loop {
                let (more, (pieces, bytes)) = saved.save_as(Saving::Ahead { pieces_max: 200 });
                whole = (whole.0 + pieces, whole.1 + bytes);
                rounds += 1;
                if !more {
                    break;
                }
                if rounds > ROWS {
                    return Err("there is always more".to_owned());
                }
            }
            little(saved.save(), whole)
        },
    );
    assert!(faults.is_empty(), "\n{faults}");
}
