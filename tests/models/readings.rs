//! The stream that most models read, and random rows of it.

use eventflux::event::Value;

use crate::drive::Input;
use crate::tape::Tape;

/// Its definition.
pub(crate) const STREAM: &str =
    "CREATE STREAM S (k STRING, n INT, x DOUBLE, b BOOLEAN, s STRING);\n";

/// The places of its columns.
pub(crate) const K: usize = 0;
pub(crate) const N: usize = 1;
pub(crate) const X: usize = 2;
pub(crate) const B: usize = 3;
pub(crate) const S: usize = 4;

/// A row as a window sees it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) time: i64,
    pub(crate) cells: Vec<Value>,
}

/// Some inputs for `streams`, which have the columns of [`STREAM`], with ticks among them, and at
/// the end a tick that closes what is still open. Times come together and far apart.
pub(crate) fn inputs(
    tape: &mut Tape<'_>,
    streams: &[&'static str],
    count: usize,
    span_ms: i64,
) -> Vec<Input> {
    let mut time = 1_000;
    let mut inputs = Vec::new();
    for _ in 0..count {
        let steps = [
            1,
            0,
            7,
            span_ms / 3,
            span_ms / 2,
            span_ms - 1,
            span_ms,
            5 * span_ms + 3,
        ];
        time += steps[tape.below(12).min(7) % 8];
        inputs.push(if tape.rarely(8) {
            Input::tick(time)
        } else {
            Input {
                time,
                row: Some((tape.one_of(streams), cells(tape))),
            }
        });
    }
    inputs.push(Input::tick(time + 1_000_000));
    inputs
}

/// A random row. Numbers are fractions of a power of two, so that sums of them are exact; some are
/// large, so that what they leave behind would be seen.
pub(crate) fn cells(tape: &mut Tape<'_>) -> Vec<Value> {
    let key = Value::text(tape.one_of(&["a", "b", "c"]));
    let number = i32::try_from(tape.below(12)).unwrap() - 3;
    let large = tape.one_of(&[1.0, 1.0, 0.125, 4_194_304.0]);
    let row = vec![
        key,
        Value::Int(i64::from(number)),
        Value::Float(f64::from(number) * large),
        Value::Bool(tape.below(3) == 0),
        Value::text(tape.one_of(&["p", "q", "r", "", "a longer text than lies inline"])),
    ];
    row.into_iter()
        .enumerate()
        .map(|(place, value)| {
            // One key in twelve is NULL, which is a group of its own.
            let nulls = if place == K { 12 } else { 6 };
            if tape.rarely(nulls) {
                Value::Null
            } else {
                value
            }
        })
        .collect()
}

/// The rows of `stream` among the inputs.
pub(crate) fn rows_of(inputs: &[Input], stream: &str) -> Vec<Reading> {
    let rows = inputs.iter().filter_map(|input| {
        let cells = input.row_of(stream)?.to_vec();
        let time = input.time;
        Some(Reading { time, cells })
    });
    rows.collect()
}
