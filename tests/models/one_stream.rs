//! One stream through a window, in groups or not, with whatever leaves it.

use eventflux::event::Value;
use proptest::prelude::*;

use crate::aggregates::{self, Aggregate};
use crate::drive::{Given, Input, cases, expect};
use crate::readings::{self, K, N, Reading, S, STREAM};
use crate::tape::Tape;
use crate::windows::{Batch, Sliding, Step};

/// What is asked of the rows of a window.
#[derive(Clone)]
struct Question {
    /// `k`, when there are groups.
    grouped: bool,
    /// None: all rows as they are.
    aggregates: Vec<Aggregate>,
    /// WHERE n > 0.
    filtered: bool,
}

impl Question {
    fn any(tape: &mut Tape<'_>) -> Question {
        let plain = tape.rarely(6);
        Question {
            grouped: !plain && tape.below(2) == 0,
            aggregates: if plain {
                Vec::new()
            } else {
                aggregates::some(tape)
            },
            filtered: tape.rarely(4),
        }
    }

    fn sql(&self, emit: &str, window: &str) -> String {
        let mut select = vec!["k".to_owned()];
        let named = self.aggregates.iter().zip(0..);
        select.extend(named.map(|(one, place)| format!("{} AS a{place}", one.sql)));
        select.push("s AS carried".to_owned());
        let filter = if self.filtered { " WHERE n > 0" } else { "" };
        let groups = if self.grouped { " GROUP BY k" } else { "" };
        format!(
            "{STREAM}INSERT {emit}INTO Out SELECT {} FROM S {window}{filter}{groups};",
            select.join(", ")
        )
    }

    /// The inputs without the rows that WHERE keeps away from the window.
    fn seen(&self, inputs: &[Input]) -> Vec<Input> {
        let passes = |input: &&Input| {
            let number = input.row_of("S").and_then(|row| row[N].as_int());
            !self.filtered || input.row.is_none() || number > Some(0)
        };
        inputs.iter().filter(passes).cloned().collect()
    }

    fn same_group(&self, a: &Reading, b: &Reading) -> bool {
        !self.grouped || a.cells[K] == b.cells[K]
    }

    /// The output row for `row` when its window holds `rows` and ever held `ever`.
    fn answer(&self, row: &Reading, rows: &[Reading], ever: &[Reading]) -> Vec<Value> {
        let of_group = |rows: &'_ [Reading]| -> Vec<Reading> {
            let rows = rows.iter().filter(|one| self.same_group(one, row));
            rows.cloned().collect()
        };
        let (rows, ever) = (of_group(rows), of_group(ever));
        let (rows, ever): (Vec<&Reading>, Vec<&Reading>) =
            (rows.iter().collect(), ever.iter().collect());
        let mut answer = vec![row.cells[K].clone()];
        answer.extend(self.aggregates.iter().map(|one| (one.of)(&rows, &ever)));
        answer.push(row.cells[S].clone());
        answer
    }
}

/// A row for each row that comes in, or leaves, or both.
fn sliding(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    const SPAN_MS: i64 = 100;
    let window = Sliding::any(tape, SPAN_MS);
    let question = Question::any(tape);
    let emit = tape.one_of(&["", "ALL EVENTS ", "EXPIRED EVENTS "]);
    let inputs = readings::inputs(tape, &["S"], count, SPAN_MS);
    let mut ever = Vec::new();
    let mut expected = Vec::new();
    for step in window.steps(&question.seen(&inputs), "S") {
        let Step {
            enters,
            row,
            at,
            rows,
        } = step;
        if enters {
            ever.push(row.clone());
        }
        let told = match emit {
            "" => enters,
            "EXPIRED EVENTS " => !enters,
            _ => true,
        };
        if told {
            expected.push(Given {
                time: at,
                row: question.answer(&row, &rows, &ever),
            });
        }
    }
    expect(&question.sql(emit, &window.sql()), &inputs, &expected)
}

/// When a batch closes: a row per group, in the order of their first rows, with other columns from
/// their last rows; without groups and aggregates all rows.
fn batch(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    const SPAN_MS: i64 = 100;
    let window = Batch::any(tape, SPAN_MS);
    let question = Question::any(tape);
    let inputs = readings::inputs(tape, &["S"], count, SPAN_MS);
    let mut ever = Vec::new();
    let mut expected = Vec::new();
    for (time, rows) in window.batches(&question.seen(&inputs), "S") {
        ever.extend(rows.iter().cloned());
        let mut told: Vec<&Reading> = Vec::new();
        for row in &rows {
            let last = told
                .iter_mut()
                .find(|other| question.same_group(other, row));
            match last.filter(|_| !question.aggregates.is_empty()) {
                Some(last) => *last = row,
                None => told.push(row),
            }
        }
        expected.extend(told.into_iter().map(|row| Given {
            time,
            row: question.answer(row, &rows, &ever),
        }));
    }
    expect(&question.sql("", &window.sql()), &inputs, &expected)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn sliding_windows_are_recomputed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0usize..24,
    ) {
        sliding(&mut Tape::new(&bytes), count)?;
    }

    #[test]
    fn batch_windows_are_recomputed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0usize..24,
    ) {
        batch(&mut Tape::new(&bytes), count)?;
    }
}
