//! OUTPUT, DISTINCT and analytic functions, found out by looking at all rows there were.

use eventflux::event::Value;
use proptest::prelude::*;

use crate::drive::{Given, Input, cases, expect, expect_unordered};
use crate::readings::{self, B, K, N, Reading, STREAM, rows_of};
use crate::tape::Tape;
use crate::windows::{Batch, Sliding};

const SPAN_MS: i64 = 100;

/// Inputs whose last tick is not so far away that snapshots come without end.
fn inputs(tape: &mut Tape<'_>, count: usize) -> Vec<Input> {
    let mut inputs = readings::inputs(tape, &["S"], count, SPAN_MS);
    let before = inputs.iter().rev().nth(1).map_or(1_000, |input| input.time);
    inputs.last_mut().unwrap().time = before + 450;
    inputs
}

/// The columns that the questions select.
fn selected(row: &Reading) -> Vec<Value> {
    vec![row.cells[K].clone(), row.cells[N].clone()]
}

fn given(time: i64, row: Vec<Value>) -> Given {
    Given { time, row }
}

/// A period of a rate.
#[derive(Clone, Copy, Debug)]
enum Every {
    Events(usize),
    Span(i64),
}

impl Every {
    fn any(tape: &mut Tape<'_>) -> Every {
        match tape.below(2) {
            0 => Every::Events(tape.below(4) + 1),
            _ => Every::Span(tape.one_of(&[SPAN_MS, 30, 270])),
        }
    }

    fn sql(self) -> String {
        match self {
            Every::Events(count) => format!("{count} EVENTS"),
            Every::Span(span_ms) => format!("{span_ms} MS"),
        }
    }

    /// The periods' rows, each with the time at which it ends.
    fn periods(self, rows: &[Reading], start: i64) -> Vec<(i64, Vec<Reading>)> {
        match self {
            Every::Events(count) => {
                let periods = rows.chunks_exact(count);
                periods
                    .map(|rows| (rows[count - 1].time, rows.to_vec()))
                    .collect()
            }
            Every::Span(span_ms) => {
                let mut periods: Vec<(i64, Vec<Reading>)> = Vec::new();
                for row in rows {
                    let end = row.time - (row.time - start).rem_euclid(span_ms) + span_ms;
                    match periods.last_mut().filter(|(last, _)| *last == end) {
                        Some((_, rows)) => rows.push(row.clone()),
                        None => periods.push((end, vec![row.clone()])),
                    }
                }
                periods
            }
        }
    }

    /// What FIRST leaves of the rows of one group.
    fn firsts(self, rows: &[Reading]) -> Vec<Reading> {
        match self {
            Every::Events(count) => rows.iter().step_by(count).cloned().collect(),
            Every::Span(span_ms) => {
                let mut firsts: Vec<Reading> = Vec::new();
                for row in rows {
                    let last = firsts.last().map(|last| last.time + span_ms);
                    if last.is_none_or(|until| until <= row.time) {
                        firsts.push(row.clone());
                    }
                }
                firsts
            }
        }
    }
}

fn groups(rows: &[Reading], grouped: bool) -> Vec<Vec<Reading>> {
    let mut groups: Vec<Vec<Reading>> = Vec::new();
    for row in rows {
        let mut known = groups.iter_mut();
        match known.find(|group| !grouped || group[0].cells[K] == row.cells[K]) {
            Some(group) => group.push(row.clone()),
            None => groups.push(vec![row.clone()]),
        }
    }
    groups
}

fn rate(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let inputs = inputs(tape, count);
    let start = inputs[0].time;
    let end = inputs.last().unwrap().time;
    let rows = rows_of(&inputs, "S");
    let (keep, every) = (tape.one_of(&["ALL", "LAST", "FIRST"]), Every::any(tape));
    let grouped = keep != "ALL" && tape.below(2) == 0;
    let mut expected = Vec::new();
    match keep {
        "FIRST" => {
            let groups = groups(&rows, grouped);
            let firsts = groups.iter().flat_map(|group| every.firsts(group));
            let mut firsts: Vec<Reading> = firsts.collect();
            // In the order in which they came.
            let place = |row: &Reading| {
                let same = |other: &&Reading| {
                    other.time == row.time && format!("{other:?}") == format!("{row:?}")
                };
                rows.iter().position(|other| same(&other)).unwrap()
            };
            firsts.sort_by_key(place);
            expected.extend(firsts.iter().map(|row| given(row.time, selected(row))));
        }
        _ => {
            for (time, rows) in every.periods(&rows, start) {
                if time > end {
                    continue;
                }
                let told: Vec<Reading> = match keep {
                    "ALL" => rows,
                    _ => {
                        let groups = groups(&rows, grouped);
                        groups
                            .into_iter()
                            .filter_map(|mut group| group.pop())
                            .collect()
                    }
                };
                expected.extend(told.iter().map(|row| given(time, selected(row))));
            }
        }
    }
    let by = if grouped { " GROUP BY k" } else { "" };
    let every = every.sql();
    let sql =
        format!("{STREAM}INSERT INTO Out SELECT k, n FROM S{by} OUTPUT {keep} EVERY {every};");
    expect(&sql, &inputs, &expected)
}

/// The rows that a snapshot shows: where it looks, and what is there at a time.
enum Shown {
    Last,
    Sliding(Sliding),
    Batch(Batch),
}

impl Shown {
    fn any(tape: &mut Tape<'_>) -> Shown {
        match tape.below(3) {
            0 => Shown::Sliding(Sliding::any(tape, SPAN_MS)),
            1 => Shown::Last,
            _ => Shown::Batch(Batch::any(tape, SPAN_MS)),
        }
    }

    fn sql(&self) -> String {
        match self {
            Shown::Last => String::new(),
            Shown::Sliding(window) => window.sql(),
            Shown::Batch(window) => window.sql(),
        }
    }

    /// Before the rows of `time` come, and after what falls due then.
    fn at(&self, time: i64, inputs: &[Input], grouped: bool) -> Vec<Reading> {
        let mut before: Vec<Input> = inputs.to_vec();
        before.retain(|input| input.time < time);
        let rows = rows_of(&before, "S");
        match self {
            Shown::Last if grouped => rows,
            Shown::Last => rows.last().cloned().into_iter().collect(),
            Shown::Sliding(Sliding::Length(count)) => {
                rows[rows.len().saturating_sub(*count)..].to_vec()
            }
            Shown::Sliding(Sliding::Time(span_ms)) => {
                let there = rows.into_iter().filter(|row| row.time + span_ms > time);
                there.collect()
            }
            Shown::Batch(window) => {
                before.push(Input::tick(time));
                let closed = window.batches(&before, "S");
                let closed = closed.into_iter().rfind(|(closes, _)| *closes <= time);
                closed.map(|(_, rows)| rows).unwrap_or_default()
            }
        }
    }
}

fn snapshot(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let inputs = inputs(tape, count);
    let (start, end) = (inputs[0].time, inputs.last().unwrap().time);
    let shown = Shown::any(tape);
    let grouped = tape.below(2) == 0;
    let distinct = !matches!(shown, Shown::Last) && tape.rarely(4);
    let every_ms = tape.one_of(&[SPAN_MS, 30, 170]);
    let mut expected = Vec::new();
    let mut time = start + every_ms;
    while time <= end {
        let rows = shown.at(time, &inputs, grouped);
        let mut told: Vec<Vec<Value>> = rows.iter().map(selected).collect();
        if grouped {
            let groups = groups(&rows, true);
            told = groups
                .iter()
                .map(|group| {
                    let count = Value::Int(i64::try_from(group.len()).unwrap());
                    vec![group[0].cells[K].clone(), count]
                })
                .collect();
        }
        let mut seen: Vec<Vec<Value>> = Vec::new();
        for row in told {
            if !distinct || !seen.contains(&row) {
                seen.push(row);
            }
        }
        expected.extend(seen.into_iter().map(|row| given(time, row)));
        time += every_ms;
    }
    let select = if grouped { "k, count(*) AS n" } else { "k, n" };
    let by = if grouped { " GROUP BY k" } else { "" };
    let distinct = if distinct { "DISTINCT " } else { "" };
    let window = shown.sql();
    let sql = format!(
        "{STREAM}INSERT INTO Out SELECT {distinct}{select} FROM S {window}{by} \
         OUTPUT SNAPSHOT EVERY {every_ms} MS;"
    );
    // Groups stand in the order in which they came to be; what they have now does not tell it.
    if grouped && matches!(shown, Shown::Sliding(_)) {
        return expect_unordered(&sql, &inputs, &expected);
    }
    expect(&sql, &inputs, &expected)
}

fn distinct(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let inputs = inputs(tape, count);
    let end = inputs.last().unwrap().time;
    let (mut emit, mut clause) = ("", String::new());
    let mut expected: Vec<Given> = Vec::new();
    match tape.below(3) {
        0 => {
            for row in rows_of(&inputs, "S") {
                let shown = selected(&row);
                if !expected.iter().any(|known| known.row == shown) {
                    expected.push(given(row.time, shown));
                }
            }
        }
        1 => {
            let window = Sliding::any(tape, SPAN_MS);
            clause = window.sql();
            emit = tape.one_of(&["", "ALL EVENTS ", "EXPIRED EVENTS "]);
            for step in window.steps(&inputs, "S") {
                let shown = selected(&step.row);
                let alike = step
                    .rows
                    .iter()
                    .filter(|row| selected(row) == shown)
                    .count();
                let told = match (emit, step.enters) {
                    ("", true) | ("ALL EVENTS ", true) => alike == 1,
                    ("", false) | ("EXPIRED EVENTS ", true) => false,
                    _ => alike == 0,
                };
                if told {
                    expected.push(given(step.at, shown));
                }
            }
        }
        _ => {
            let window = Batch::any(tape, SPAN_MS);
            clause = window.sql();
            for (time, rows) in window.batches(&inputs, "S") {
                let first = expected.len();
                for row in rows.iter().filter(|_| time <= end) {
                    let shown = selected(row);
                    if !expected[first..].iter().any(|known| known.row == shown) {
                        expected.push(given(time, shown));
                    }
                }
            }
        }
    }
    let sql = format!("{STREAM}INSERT {emit}INTO Out SELECT DISTINCT k, n FROM S {clause};");
    expect(&sql, &inputs, &expected)
}

/// Every function over the remembered rows `before` (the oldest first) and the row itself.
fn analytics(before: &[&Reading], row: &Reading, counts: bool) -> Vec<Value> {
    let number = |row: &Reading| row.cells[N].clone();
    let back = |rows: usize| match before.len().checked_sub(rows) {
        Some(place) => number(before[place]),
        None => Value::Int(-99),
    };
    let mut all: Vec<&Reading> = before.to_vec();
    if counts {
        all.push(row);
    }
    let known: Vec<i64> = all.iter().filter_map(|row| number(row).as_int()).collect();
    let last = before.last().map_or(Value::Null, |row| number(row));
    let changed = counts && last != number(row);
    let latest = known.last().map_or(Value::Null, |last| Value::Int(*last));
    let sum: i64 = known.iter().sum();
    vec![
        back(1),
        back(3),
        latest,
        Value::Bool(changed),
        if changed { number(row) } else { Value::Null },
        if known.is_empty() {
            Value::Null
        } else {
            Value::Int(sum)
        },
        known
            .iter()
            .max()
            .map_or(Value::Null, |most| Value::Int(*most)),
        Value::Int(i64::try_from(all.len()).unwrap()),
    ]
}

fn analytic(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let inputs = inputs(tape, count);
    let (keyed, when) = (tape.below(2) == 0, tape.below(2) == 0);
    let rows = rows_of(&inputs, "S");
    let mut expected = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let counts = |row: &Reading| !when || row.cells[B] == Value::Bool(true);
        let same = |other: &&Reading| !keyed || other.cells[K] == row.cells[K];
        let before = rows[..place].iter().filter(same);
        let before: Vec<&Reading> = before.filter(|row| counts(row)).collect();
        expected.push(given(row.time, analytics(&before, row, counts(row))));
    }
    let mut over = Vec::new();
    if keyed {
        over.push("PARTITION BY k");
    }
    if when {
        over.push("WHEN b");
    }
    let over = format!("OVER ({})", over.join(" "));
    let calls = [
        "lag(n, 1, -99)",
        "lag(n, 3, -99)",
        "latest(n)",
        "had_changed(n)",
        "changed(n)",
        "acc_sum(n)",
        "acc_max(n)",
        "row_number()",
    ];
    let select: Vec<String> = calls.iter().map(|call| format!("{call} {over}")).collect();
    let select = select.join(", ");
    let sql = format!("{STREAM}INSERT INTO Out SELECT {select} FROM S;");
    expect(&sql, &inputs, &expected)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn rates_are_recomputed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0usize..24,
    ) {
        rate(&mut Tape::new(&bytes), count)?;
    }

    #[test]
    fn snapshots_are_recomputed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0usize..24,
    ) {
        snapshot(&mut Tape::new(&bytes), count)?;
    }

    #[test]
    fn distinct_rows_are_recomputed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0usize..24,
    ) {
        distinct(&mut Tape::new(&bytes), count)?;
    }

    #[test]
    fn analytic_functions_are_recomputed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0usize..24,
    ) {
        analytic(&mut Tape::new(&bytes), count)?;
    }
}
