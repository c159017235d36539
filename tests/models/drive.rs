//! Drives an engine in several ways, which all must give the same.

use std::sync::Arc;

use eventflux::engine::{Engine, Outputs, Saving};
use eventflux::event::{Batch, GrowingState, Seq, Stamp, StateChanges, Timestamp, Value};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{Application, SqlText, compile};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// What an application is given, at a time that does not go back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) time: i64,
    /// A stream's name and a row of it; none when only the clock moves.
    pub(crate) row: Option<(&'static str, Vec<Value>)>,
}

impl Input {
    pub(crate) fn tick(time: i64) -> Input {
        Input { time, row: None }
    }

    /// The row, when it is one of `stream`.
    pub(crate) fn row_of(&self, stream: &str) -> Option<&[Value]> {
        let (name, row) = self.row.as_ref()?;
        (*name == stream).then_some(row.as_slice())
    }
}

/// A row that came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) time: i64,
    pub(crate) row: Vec<Value>,
}

struct Gather(Vec<(u64, Given)>);

impl Outputs for Gather {
    fn take(&mut self, _stream: StreamId, _query: u32, rows: &Batch, _ordinals: &[u32]) {
        self.0.extend(rows.rows().iter().map(|row| {
            let given = Given {
                time: row.stamp.time.0,
                row: row.values.to_vec(),
            };
            (row.stamp.seq.0, given)
        }));
    }
}

/// How inputs reach the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Consecutive rows of one stream in one push.
    Together,
    /// Each by itself.
    OneByOne,
    /// Each by itself, and behind each an engine that knows nothing but what was saved.
    Restarted,
    /// The same, with a saving behind each and a restart now and then.
    Saved,
}

/// The plan of an application.
pub(crate) fn plan(sql: &str) -> Result<Arc<Application>, TestCaseError> {
    let texts = [SqlText {
        path: "model".to_owned(),
        text: sql.to_owned(),
    }];
    let plan = compile(&texts).map_err(|faults| {
        let faults = faults.iter().map(|fault| fault.render(sql));
        TestCaseError::fail(faults.collect::<String>())
    })?;
    Ok(Arc::new(plan))
}

/// What comes out of the stream `Out`, the same in every way.
pub(crate) fn run(sql: &str, inputs: &[Input]) -> Result<Vec<Given>, TestCaseError> {
    let plan = plan(sql)?;
    let straight = through(&plan, inputs, Way::OneByOne)?;
    for way in [Way::Together, Way::Restarted, Way::Saved] {
        let other = through(&plan, inputs, way)?;
        prop_assert!(
            straight == other,
            "{way:?} gives something else:\n{sql}\n{}\none by one:\n{}\n{way:?}:\n{}",
            lines(inputs),
            lines(&straight),
            lines(&other)
        );
    }
    Ok(straight.into_iter().map(|(_, given)| given).collect())
}

fn through(
    plan: &Arc<Application>,
    inputs: &[Input],
    way: Way,
) -> Result<Vec<(u64, Given)>, TestCaseError> {
    let fresh = || {
        let out = plan.stream_named("Out").map(|(id, _)| id);
        Engine::new(Arc::clone(plan), |id| Some(id) == out)
    };
    let mut engine = fresh();
    let mut gather = Gather(Vec::new());
    let mut rest = inputs;
    let mut seq = Seq(0);
    let (mut saved, mut step) = (GrowingState::default(), 0);
    while let Some(first) = rest.first() {
        let alike = |input: &&Input| stream(input) == stream(first) && input.row.is_some();
        let count = match way {
            Way::Together => rest.iter().take_while(alike).count().max(1),
            Way::OneByOne | Way::Restarted | Way::Saved => 1,
        };
        let (head, tail) = rest.split_at(count);
        push(&mut engine, plan, head, &mut seq, &mut gather);
        rest = tail;
        step += 1;
        let restarts = match way {
            Way::Together | Way::OneByOne => continue,
            Way::Restarted => true,
            Way::Saved => step % 5 == 0,
        };
        save(&mut engine, &mut saved, step)?;
        if restarts {
            let clock = engine.clock();
            engine = fresh();
            let empty = engine.restore(&saved.state(), clock);
            prop_assert!(empty.is_empty(), "started empty: {empty:?}");
        }
    }
    Ok(gather.0)
}

/// Brings what is saved up to date, now and then some of it ahead of time, and compares it with the
/// state as a whole.
fn save(engine: &mut Engine, saved: &mut GrowingState, step: usize) -> Result<(), TestCaseError> {
    let mut save = |saving| {
        let mut changes = StateChanges::new();
        let done = engine.save(saving, &mut changes);
        done.map_err(|error| TestCaseError::fail(error.to_string()))?;
        saved.apply(&changes);
        Ok::<_, TestCaseError>(())
    };
    if step % 3 == 0 {
        let pieces_max = 2 * step;
        save(Saving::Ahead { pieces_max })?;
    }
    save(Saving::Changed)?;
    let whole = engine.state();
    let whole = whole.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let in_steps = saved.state();
    prop_assert!(
        in_steps == whole,
        "saved in {step} steps, the state is another one:\n{}\ninstead of\n{}",
        lines(&in_steps.pieces().collect::<Vec<_>>()),
        lines(&whole.pieces().collect::<Vec<_>>())
    );
    Ok(())
}

fn stream(input: &Input) -> Option<&str> {
    input.row.as_ref().map(|(stream, _)| *stream)
}

/// Gives the engine a tick, or rows of one stream.
fn push(
    engine: &mut Engine,
    plan: &Application,
    inputs: &[Input],
    seq: &mut Seq,
    gather: &mut Gather,
) {
    let mut batch: Option<(StreamId, Batch)> = None;
    for input in inputs {
        *seq = seq.plus(1);
        let (seq, time) = (*seq, Timestamp(input.time));
        let Some((name, row)) = &input.row else {
            engine.advance(time, seq, gather);
            continue;
        };
        let (_, rows) = batch.get_or_insert_with(|| {
            let (stream, definition) = plan.stream_named(name).unwrap();
            (stream, Batch::new(definition.schema.width()))
        });
        rows.push(Stamp { seq, time }, row.iter().cloned());
    }
    if let Some((stream, rows)) = batch {
        engine.push(stream, rows.rows(), gather);
    }
}

/// What an engine must give, compared with what it gave.
pub(crate) fn expect(sql: &str, inputs: &[Input], expected: &[Given]) -> Result<(), TestCaseError> {
    let given = run(sql, inputs)?;
    compare(sql, inputs, expected, &given)
}

/// The same where the order of rows that come at one time is not told.
pub(crate) fn expect_unordered(
    sql: &str,
    inputs: &[Input],
    expected: &[Given],
) -> Result<(), TestCaseError> {
    let sorted = |rows: &[Given]| {
        let mut rows = rows.to_vec();
        rows.sort_by_cached_key(|given| (given.time, format!("{:?}", given.row)));
        rows
    };
    let given = run(sql, inputs)?;
    let in_order = given.windows(2).all(|pair| pair[0].time <= pair[1].time);
    prop_assert!(in_order, "{sql}\ntime goes back:\n{}", lines(&given));
    compare(sql, inputs, &sorted(expected), &sorted(&given))
}

fn compare(
    sql: &str,
    inputs: &[Input],
    expected: &[Given],
    given: &[Given],
) -> Result<(), TestCaseError> {
    let alike = given.len() == expected.len()
        && given.iter().zip(expected).all(|(given, expected)| {
            given.time == expected.time
                && given.row.len() == expected.row.len()
                && given.row.iter().zip(&expected.row).all(|(a, b)| near(a, b))
        });
    prop_assert!(
        alike,
        "{sql}\n{}\nexpected:\n{}\ngiven:\n{}",
        lines(inputs),
        lines(expected),
        lines(given)
    );
    Ok(())
}

/// Equal but for the last digits of a float.
fn near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-9,
        _ => a == b,
    }
}

/// One a line.
pub(crate) fn lines<T: std::fmt::Debug>(all: &[T]) -> String {
    let lines: Vec<String> = all.iter().map(|one| format!("  {one:?}")).collect();
    lines.join("\n")
}

/// The same cases in each run, unless another number of them is asked for: where the shapes are so
/// many that one of them may always be new.
pub(crate) fn same_cases(count: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        rng_seed: if asked {
            RngSeed::Random
        } else {
            RngSeed::Fixed(1)
        },
        ..cases(count)
    }
}

/// So many cases of a model; `PROPTEST_CASES` asks for more.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: wanted.and_then(|count| count.parse().ok()).unwrap_or(count),
        max_shrink_iters: 20_000,
        // What was mended leaves a case in `tests/cases`: a tape means something else as soon as
        // the model changes.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
