//! CAST: any value to any type that makes sense. `None` when it does not fit.

use crate::event::{Type, Value};
use crate::sql::functions::to_text;

/// The value, which is of type `from` and not NULL, as type `to`.
pub(super) fn cast(value: &Value, from: Type, to: Type) -> Option<Value> {
    let result = match to {
        Type::Bool => to_bool(value)?,
        Type::Int | Type::Long => to_integer(value)?,
        Type::Float | Type::Double => to_float(value)?,
        Type::String if from == Type::Timestamp => timestamp_text(value.as_int()?)?,
        Type::String => Value::Str(to_text(value)?),
        Type::Timestamp => to_timestamp(value)?,
    };
    to.admits(&result).then_some(result)
}

fn to_bool(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(truth) => Some(Value::Bool(*truth)),
        Value::Int(number) => Some(Value::Bool(*number != 0)),
        Value::Float(number) => Some(Value::Bool(*number != 0.0)),
        Value::Str(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "1" => Some(Value::Bool(true)),
            "false" | "f" | "no" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Value::Null => None,
    }
}

/// Fractions are cut off, towards zero.
fn to_integer(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(truth) => Some(Value::Int(i64::from(*truth))),
        Value::Int(number) => Some(Value::Int(*number)),
        Value::Float(number) => whole(*number),
        Value::Str(text) => {
            let text = text.trim();
            match text.parse::<i64>() {
                Ok(number) => Some(Value::Int(number)),
                Err(_) => whole(text.parse::<f64>().ok()?),
            }
        }
        Value::Null => None,
    }
}

fn whole(number: f64) -> Option<Value> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let cut = number.trunc();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "just checked to be in range"
    )]
    (-LIMIT..LIMIT)
        .contains(&cut)
        .then_some(Value::Int(cut as i64))
}

fn to_float(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Str(text) => text.trim().parse().ok()?,
        Value::Int(_) | Value::Float(_) => value.as_float()?,
        Value::Null => return None,
    };
    number.is_finite().then_some(Value::Float(number))
}

/// Milliseconds since the epoch, or ISO 8601 with an offset; without one it is UTC.
fn to_timestamp(value: &Value) -> Option<Value> {
    match value {
        Value::Int(_) | Value::Float(_) => to_integer(value),
        Value::Str(text) => {
            let text = text.trim();
            let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
                let civil: jiff::civil::DateTime = text.parse().ok()?;
                Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
            })?;
            Some(Value::Int(instant.as_millisecond()))
        }
        Value::Null | Value::Bool(_) => None,
    }
}

fn timestamp_text(millis: i64) -> Option<Value> {
    let instant = jiff::Timestamp::from_millisecond(millis).ok()?;
    Some(Value::from(format!("{instant:.3}")))
}
