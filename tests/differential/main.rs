//! Random queries over random rows, against SQLite.
//!
//! What is compared is what both languages have. Known differences are mapped or avoided where the
//! texts are made, each with a word on why.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail where it stands"
)]

mod expression;
mod query;
#[path = "../common/tape.rs"]
mod tape;

use std::sync::Arc;

use eventflux::engine::{Engine, Outputs};
use eventflux::event::{Batch, Seq, Stamp, Timestamp, Value};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{SqlText, compile};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use query::{COLUMNS, Contest};
use rusqlite::types::Value as Theirs;
use tape::Tape;

struct Rows(Vec<Vec<Value>>);

impl Outputs for Rows {
    fn take(&mut self, _stream: StreamId, _query: u32, rows: &Batch, _ordinals: &[u32]) {
        let rows = rows.rows();
        self.0.extend(rows.iter().map(|row| row.values.to_vec()));
    }
}

const START_MS: i64 = 1_000;

/// What we give.
fn ours(contest: &Contest) -> Result<Vec<Vec<Value>>, TestCaseError> {
    let text = format!("{}INSERT INTO Out {};", query::definition(), contest.ours);
    let texts = [SqlText {
        path: "differential".to_owned(),
        text: text.clone(),
    }];
    let plan = compile(&texts).map_err(|faults| {
        let faults = faults.iter().map(|fault| fault.render(&text));
        TestCaseError::fail(faults.collect::<String>())
    })?;
    let (stream, _) = plan.stream_named("S").unwrap();
    let (out, _) = plan.stream_named("Out").unwrap();
    let mut engine = Engine::new(Arc::new(plan), |id| id == out);
    let mut batch = Batch::new(COLUMNS.len());
    let mut seq = Seq(0);
    for (row, time) in contest.rows.iter().zip(START_MS..) {
        seq = seq.plus(1);
        let time = Timestamp(time);
        batch.push(Stamp { seq, time }, row.iter().cloned());
    }
    let mut rows = Rows(Vec::new());
    engine.push(stream, batch.rows(), &mut rows);
    engine.advance(Timestamp(START_MS + 7_200_000), seq.plus(1), &mut rows);
    Ok(rows.0)
}

/// What SQLite gives.
fn theirs(contest: &Contest) -> Result<Vec<Vec<Theirs>>, rusqlite::Error> {
    let connection = rusqlite::Connection::open_in_memory()?;
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let places = vec!["?"; COLUMNS.len() + 1].join(", ");
    connection.execute_batch(&format!(
        "PRAGMA case_sensitive_like = ON; CREATE TABLE S (seq INTEGER PRIMARY KEY, {names});"
    ))?;
    let mut insert = connection.prepare(&format!("INSERT INTO S VALUES ({places})"))?;
    for (row, seq) in contest.rows.iter().zip(1i64..) {
        let values = row.iter().map(|value| match value {
            Value::Bool(truth) => Theirs::Integer(i64::from(*truth)),
            Value::Int(number) => Theirs::Integer(*number),
            Value::Float(number) => Theirs::Real(*number),
            Value::Str(text) => Theirs::Text(text.to_string()),
            _ => Theirs::Null,
        });
        let values = std::iter::once(Theirs::Integer(seq)).chain(values);
        insert.execute(rusqlite::params_from_iter(values))?;
    }
    let mut statement = connection.prepare(&contest.theirs)?;
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|place| row.get(place)).collect())?;
    rows.collect()
}

/// SQLite has neither BOOLEAN nor a type of a column: an integer may stand for any number.
#[expect(clippy::cast_precision_loss, reason = "the numbers are below 2^53")]
fn same(ours: &Value, theirs: &Theirs) -> bool {
    match (ours, theirs) {
        (Value::Null, Theirs::Null) => true,
        (Value::Bool(truth), Theirs::Integer(number)) => i64::from(*truth) == *number,
        (Value::Int(ours), Theirs::Integer(theirs)) => ours == theirs,
        (Value::Float(ours), Theirs::Integer(theirs)) => *ours == *theirs as f64,
        (Value::Float(ours), Theirs::Real(theirs)) => ours == theirs,
        (Value::Str(ours), Theirs::Text(theirs)) => ours.as_str() == theirs,
        _ => false,
    }
}

fn agree(contest: &Contest) -> TestCaseResult {
    let theirs = theirs(contest).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
    let ours = ours(contest)?;
    let alike = ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(ours, theirs)| {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(x, y)| same(x, y))
        });
    let lines = |rows: Vec<String>| rows.join("\n");
    prop_assert!(
        alike,
        "ours:   {}\ntheirs: {}\nrows:\n{}\nours gives:\n{}\ntheirs gives:\n{}",
        contest.ours,
        contest.theirs,
        lines(contest.rows.iter().map(|row| format!("{row:?}")).collect()),
        lines(ours.iter().map(|row| format!("{row:?}")).collect()),
        lines(theirs.iter().map(|row| format!("{row:?}")).collect())
    );
    Ok(())
}

fn cases(count: u32) -> ProptestConfig {
    // `PROPTEST_CASES` asks for more.
    let wanted = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: wanted.and_then(|count| count.parse().ok()).unwrap_or(count),
        max_shrink_iters: 20_000,
        // A mended difference leaves a case in `tests/cases`: a tape means something else as soon
        // as the generator changes.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What is made from a random tape, over a few rows.
fn contests(make: fn(&mut Tape<'_>, usize) -> Contest) -> impl Strategy<Value = Contest> {
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    (bytes, 1usize..24).prop_map(move |(bytes, count)| make(&mut Tape::new(&bytes), count))
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn expressions_give_what_sqlite_gives(contest in contests(query::plain)) {
        agree(&contest)?;
    }

    #[test]
    fn batches_give_what_sqlite_gives(contest in contests(query::batch)) {
        agree(&contest)?;
    }
}
