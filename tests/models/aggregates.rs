//! Every aggregate, computed from nothing but the rows of its group, in the order in which they
//! came.

use std::collections::BTreeMap;

use eventflux::event::Value;

use crate::readings::{B, N, Reading, S, X};
use crate::tape::Tape;

/// A call, and what it gives over rows. The second list are all rows that the group ever had.
#[derive(Clone, Copy)]
pub(crate) struct Aggregate {
    pub(crate) sql: &'static str,
    pub(crate) of: fn(&[&Reading], &[&Reading]) -> Value,
}

/// All of them.
pub(crate) const AGGREGATES: &[Aggregate] = &[
    of("count(*)", |rows, _| Value::Int(count(rows.len()))),
    of("sum(n)", |rows, _| total(&ints(rows))),
    of("sum(x)", |rows, _| sum(&floats(rows, X))),
    of("avg(x)", |rows, _| mean(&floats(rows, X))),
    of("avg(n)", |rows, _| mean(&floats(rows, N))),
    of("min(x)", |rows, _| least(values(rows, X))),
    of("max(n)", |rows, _| most(values(rows, N))),
    of("min(s)", |rows, _| least(values(rows, S))),
    of("max(b)", |rows, _| most(values(rows, B))),
    of("count(x)", |rows, _| {
        Value::Int(count(values(rows, X).len()))
    }),
    of("first(x)", |rows, _| at(&values(rows, X), 0)),
    of("last(s)", |rows, _| {
        values(rows, S).pop().unwrap_or_default()
    }),
    of("stddev(x)", |rows, _| root(variance(&floats(rows, X), 0))),
    of("stddev_samp(n)", |rows, _| {
        root(variance(&floats(rows, N), 1))
    }),
    of("var_pop(n)", |rows, _| variance(&floats(rows, N), 0)),
    of("var_samp(x)", |rows, _| variance(&floats(rows, X), 1)),
    of("corr(n, n)", |rows, _| {
        match variance(&floats(rows, N), 0) {
            Value::Float(variance) if variance > 0.0 => Value::Float(1.0),
            _ => Value::Null,
        }
    }),
    of("regr_slope(x, n)", |rows, _| slope(rows)),
    of("bool_and(b)", |rows, _| least(values(rows, B))),
    of("bool_or(b)", |rows, _| most(values(rows, B))),
    of("minForever(n)", |_, ever| least(values(ever, N))),
    of("maxForever(s)", |_, ever| most(values(ever, S))),
    of("count_distinct(s)", |rows, _| {
        Value::Int(count(different(values(rows, S)).len()))
    }),
    of("count(DISTINCT n)", |rows, _| {
        Value::Int(count(different(values(rows, N)).len()))
    }),
    of("sum(DISTINCT n)", |rows, _| {
        let all: Vec<i64> = different(values(rows, N))
            .iter()
            .filter_map(Value::as_int)
            .collect();
        total(&all)
    }),
    of("approx_count_distinct(n)", |rows, _| {
        Value::Int(count(different(values(rows, N)).len()))
    }),
    of("collect_list(n)", |rows, _| list(&values(rows, N))),
    of("collect_set(n)", |rows, _| {
        list(&different(values(rows, N)))
    }),
    of("string_agg(s, '/')", |rows, _| joined(&values(rows, S))),
    of("median(x)", |rows, _| percentile(rows, 0.5)),
    of("percentile(x, 0.9)", |rows, _| percentile(rows, 0.9)),
    of("approx_percentile(x, 0.25)", |rows, _| {
        percentile(rows, 0.25)
    }),
    of("mode(n)", |rows, _| at(&frequent(rows), 0)),
    of("top_k(n, 2)", |rows, _| top(rows)),
    of("sum(n) FILTER (WHERE b)", |rows, _| {
        total(&ints(&only(rows)))
    }),
    of("max(x) FILTER (WHERE b)", |rows, _| {
        most(values(&only(rows), X))
    }),
    of("count(*) FILTER (WHERE b)", |rows, _| {
        Value::Int(count(only(rows).len()))
    }),
    of("first(s) FILTER (WHERE b)", |rows, _| {
        at(&values(&only(rows), S), 0)
    }),
];

const fn of(sql: &'static str, of: fn(&[&Reading], &[&Reading]) -> Value) -> Aggregate {
    Aggregate { sql, of }
}

/// One to four of them.
pub(crate) fn some(tape: &mut Tape<'_>) -> Vec<Aggregate> {
    let more = tape.below(4);
    (0..=more).map(|_| tape.one_of(AGGREGATES)).collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap()
}

/// The values of a column that are not NULL.
fn values(rows: &[&Reading], column: usize) -> Vec<Value> {
    let values = rows.iter().map(|row| row.cells[column].clone());
    values.filter(|value| !value.is_null()).collect()
}

fn ints(rows: &[&Reading]) -> Vec<i64> {
    values(rows, N).iter().filter_map(Value::as_int).collect()
}

fn floats(rows: &[&Reading], column: usize) -> Vec<f64> {
    values(rows, column)
        .iter()
        .filter_map(Value::as_float)
        .collect()
}

fn only<'a>(rows: &[&'a Reading]) -> Vec<&'a Reading> {
    let rows = rows.iter().copied();
    rows.filter(|row| row.cells[B] == Value::Bool(true))
        .collect()
}

fn total(all: &[i64]) -> Value {
    if all.is_empty() {
        return Value::Null;
    }
    Value::Int(all.iter().sum())
}

fn sum(all: &[f64]) -> Value {
    if all.is_empty() {
        return Value::Null;
    }
    Value::Float(all.iter().sum())
}

#[expect(clippy::cast_precision_loss, reason = "a few rows")]
fn mean(all: &[f64]) -> Value {
    match sum(all) {
        Value::Float(sum) => Value::Float(sum / all.len() as f64),
        _ => Value::Null,
    }
}

fn least(mut all: Vec<Value>) -> Value {
    all.sort_by(Value::order);
    at(&all, 0)
}

fn most(mut all: Vec<Value>) -> Value {
    all.sort_by(Value::order);
    all.pop().unwrap_or_default()
}

fn at(all: &[Value], place: usize) -> Value {
    all.get(place).cloned().unwrap_or_default()
}

/// In two passes, so that nothing is lost between large sums of squares.
#[expect(clippy::cast_precision_loss, reason = "a few rows")]
fn variance(all: &[f64], fewer: usize) -> Value {
    let Value::Float(mean) = mean(all) else {
        return Value::Null;
    };
    if all.len() <= fewer {
        return Value::Null;
    }
    let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
    Value::Float(squares / (all.len() - fewer) as f64)
}

fn root(value: Value) -> Value {
    match value {
        Value::Float(number) => Value::Float(number.sqrt()),
        other => other,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few rows")]
fn slope(rows: &[&Reading]) -> Value {
    let pairs = rows.iter().map(|row| (&row.cells[X], &row.cells[N]));
    let pairs: Vec<(f64, f64)> = pairs
        .filter_map(|(y, x)| Some((y.as_float()?, x.as_float()?)))
        .collect();
    let mean = |sum: f64| sum / pairs.len().max(1) as f64;
    let (y_mean, x_mean) = (
        mean(pairs.iter().map(|(y, _)| y).sum()),
        mean(pairs.iter().map(|(_, x)| x).sum()),
    );
    let both: f64 = pairs.iter().map(|(y, x)| (y - y_mean) * (x - x_mean)).sum();
    let squares: f64 = pairs.iter().map(|(_, x)| (x - x_mean).powi(2)).sum();
    // Whole numbers that are not all equal differ by more than this.
    if squares < 1e-6 {
        return Value::Null;
    }
    Value::Float(both / squares)
}

/// Each value once, ascending.
fn different(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by(Value::order);
    all.dedup();
    all
}

fn shown(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Str(text) => text.to_string(),
        _ => String::new(),
    }
}

fn list(all: &[Value]) -> Value {
    if all.is_empty() {
        return Value::Null;
    }
    let all: Vec<String> = all.iter().map(shown).collect();
    Value::from(format!("[{}]", all.join(",")))
}

fn joined(all: &[Value]) -> Value {
    if all.is_empty() {
        return Value::Null;
    }
    let all: Vec<String> = all.iter().map(shown).collect();
    Value::from(all.join("/"))
}

/// Interpolated between the two values that it lies between.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few rows"
)]
fn percentile(rows: &[&Reading], part: f64) -> Value {
    let mut all = floats(rows, X);
    all.sort_by(f64::total_cmp);
    let Some(last) = all.len().checked_sub(1) else {
        return Value::Null;
    };
    let place = part * last as f64;
    let (low, high) = (all[place.floor() as usize], all[place.ceil() as usize]);
    Value::Float(low + (high - low) * place.fract())
}

/// The values of `n`, most frequent first, of equally frequent ones the smallest.
fn frequent(rows: &[&Reading]) -> Vec<Value> {
    let counts = counts(rows);
    counts
        .into_iter()
        .map(|(number, _)| Value::Int(number))
        .collect()
}

fn counts(rows: &[&Reading]) -> Vec<(i64, usize)> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for number in ints(rows) {
        *counts.entry(number).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(number, count)| (std::cmp::Reverse(*count), *number));
    counts
}

fn top(rows: &[&Reading]) -> Value {
    let top = counts(rows).into_iter().take(2);
    let top: Vec<String> = top
        .map(|(value, count)| format!("{{\"count\":{count},\"value\":{value}}}"))
        .collect();
    if top.is_empty() {
        return Value::Null;
    }
    Value::from(format!("[{}]", top.join(",")))
}
