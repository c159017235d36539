//! Outputs against what is expected.

use serde_json::{Map, Value as Json};

use super::case::Expected;
use super::ways::StreamOutputs;
use crate::event::{Type, Value, to_base64};
use crate::outbox::Entry;
use crate::sink::render_json;

/// Numbers are equal within this part of the larger one.
const RELATIVE_ERROR_MAX: f64 = 1e-9;

/// What is missing, and what is too much; stream by stream.
pub(super) fn compare(
    outputs: &[StreamOutputs],
    expect: &[Expected],
    unordered: bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    for StreamOutputs { stream, entries } in outputs {
        let mut wanted: Vec<&Expected> = expect
            .iter()
            .filter(|line| line.stream == *stream && line.row.is_some())
            .collect();
        let mut extra: Vec<&Entry> = Vec::new();
        for entry in entries {
            // In order: the next line must fit; else any that is left.
            let candidates = if unordered { wanted.len() } else { 1 };
            let mut candidates = wanted.iter().take(candidates);
            let found = candidates.position(|line| matches(entry, line));
            match found {
                Some(index) => drop(wanted.remove(index)),
                None => extra.push(entry),
            }
        }
        if wanted.is_empty() && extra.is_empty() {
            continue;
        }
        let mut fault = format!("'{stream}' gives\n");
        for entry in entries {
            fault.push_str(&format!("  {} {stream} {}\n", entry.time, shown(entry)));
        }
        fault.push_str("expected is\n");
        for line in expect.iter().filter(|line| line.stream == *stream) {
            let time = line.time.map(|time| format!("{time} ")).unwrap_or_default();
            let row = line.row.as_ref().map_or("(none)".to_owned(), |row| {
                Json::Object(row.clone()).to_string()
            });
            fault.push_str(&format!("  {time}{stream} {row}\n"));
        }
        faults.push(fault);
    }
    faults
}

pub(super) fn shown(entry: &Entry) -> String {
    let mut out = Vec::new();
    render_json(&entry.schema, &entry.row, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Every field expected is there, and what is not expected is NULL.
fn matches(entry: &Entry, line: &Expected) -> bool {
    let Some(row) = &line.row else { return false };
    let time_fits = line.time.is_none_or(|time| time == entry.time.0);
    let known = row.keys().all(|name| entry.schema.index_of(name).is_some());
    time_fits && known && values_fit(entry, row)
}

fn values_fit(entry: &Entry, row: &Map<String, Json>) -> bool {
    entry
        .schema
        .fields()
        .iter()
        .zip(&entry.row)
        .all(|(field, value)| fits(field.ty, value, row.get(&field.name).unwrap_or(&Json::Null)))
}

fn fits(ty: Type, value: &Value, expected: &Json) -> bool {
    match (value, expected) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::Str(a), b) if ty == Type::Json => {
            serde_json::from_str(a).is_ok_and(|a: Json| alike(&a, b))
        }
        (Value::Str(a), Json::String(b)) => a.as_str() == b,
        (Value::Bytes(a), Json::String(b)) => to_base64(a) == *b,
        (Value::Int(a), Json::Number(b)) if b.is_i64() => b.as_i64() == Some(*a),
        (Value::Int(_) | Value::Float(_), Json::Number(b)) => near(value.as_float(), b.as_f64()),
        _ => false,
    }
}

/// Two JSON values, numbers in them compared as those of columns are.
fn alike(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(x), Json::Number(y)) => x == y || near(x.as_f64(), y.as_f64()),
        (Json::Array(x), Json::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| alike(x, y))
        }
        (Json::Object(x), Json::Object(y)) => {
            let same = |(name, x): (&String, &Json)| y.get(name).is_some_and(|y| alike(x, y));
            x.len() == y.len() && x.iter().all(same)
        }
        (a, b) => a == b,
    }
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return false;
    };
    (a - b).abs() <= RELATIVE_ERROR_MAX * a.abs().max(b.abs())
}
