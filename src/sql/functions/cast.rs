//! CAST: any value to any type that makes sense. `None` when it does not fit.

use ecow::EcoString;

use crate::event::{Type, Value, from_base64, json, to_base64};

/// The value, which is of type `from` and not NULL, as type `to`. NULL for JSON `null` only.
pub(crate) fn cast(value: &Value, from: Type, to: Type) -> Option<Value> {
    if from == to {
        return Some(value.clone());
    }
    if from == Type::Json && to != Type::String {
        return from_json(value.as_str()?, to);
    }
    let result = match to {
        Type::Bool => to_bool(value)?,
        Type::Int | Type::Long => to_integer(value)?,
        Type::Float | Type::Double => to_float(value)?,
        Type::String if from == Type::Timestamp => timestamp_text(value.as_int()?)?,
        Type::String => Value::Str(to_text(value)?),
        Type::Timestamp => to_timestamp(value)?,
        Type::Bytes => Value::from(value.as_str()?.as_bytes()),
        Type::Json => to_json(value, from)?,
    };
    to.admits(&result).then_some(result)
}

/// Any value as text; bytes are taken as UTF-8. `None` for NULL.
pub(crate) fn to_text(value: &Value) -> Option<EcoString> {
    match value {
        Value::Null => None,
        Value::Bool(truth) => Some(if *truth { "true" } else { "false" }.into()),
        Value::Int(number) => Some(ecow::eco_format!("{number}")),
        Value::Float(number) => Some(ecow::eco_format!("{number:?}")),
        Value::Str(text) => Some(text.clone()),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(EcoString::from),
    }
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
        Value::Null | Value::Bytes(_) => None,
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
            let number = text.parse().ok().or_else(|| whole_of_decimal(text));
            number.map(Value::Int)
        }
        Value::Null | Value::Bytes(_) => None,
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

/// The whole part of `-12.34e1`, digit by digit: a double in between would round it.
fn whole_of_decimal(text: &str) -> Option<i64> {
    let known = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if !text.chars().all(known) || text.parse::<f64>().is_err() {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{before}{after}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = digits.len() - significant.len();
    // An exponent beyond 32 bits moves every digit away.
    let moved: i64 = exponent.parse().unwrap_or(match exponent.starts_with('-') {
        true => i64::from(i32::MIN),
        false => i64::from(i32::MAX),
    });
    let length = i64::try_from(before.len()).ok()? - i64::try_from(zeros).ok()? + moved;
    if length > 19 {
        return None;
    }
    let length = usize::try_from(length).unwrap_or(0);
    let whole: String = significant
        .chars()
        .chain(std::iter::repeat('0'))
        .take(length)
        .collect();
    match whole.as_str() {
        "" => Some(0),
        whole => format!("{sign}{whole}").parse().ok(),
    }
}

fn to_float(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Str(text) => text.trim().parse().ok()?,
        Value::Int(_) | Value::Float(_) => value.as_float()?,
        Value::Null | Value::Bytes(_) => return None,
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
        Value::Null | Value::Bool(_) | Value::Bytes(_) => None,
    }
}

fn timestamp_text(millis: i64) -> Option<Value> {
    let instant = jiff::Timestamp::from_millisecond(millis).ok()?;
    Some(Value::from(format!("{instant:.3}")))
}

/// Text is read as JSON; everything else becomes what a sink would write.
fn to_json(value: &Value, from: Type) -> Option<Value> {
    match value {
        Value::Str(text) => {
            let value = json::canonical(text).ok()?;
            Some(value.map_or(Value::Null, Value::Str))
        }
        value => in_json(value, from).map(Value::Str),
    }
}

/// A value, of type `ty`, as it stands inside of a JSON text.
pub(crate) fn in_json(value: &Value, ty: Type) -> Option<EcoString> {
    let mut out = EcoString::new();
    match value {
        Value::Null => out.push_str("null"),
        Value::Str(text) if ty == Type::Json => return Some(text.clone()),
        Value::Str(text) => json::write_string(text, &mut out),
        Value::Bytes(bytes) => json::write_string(&to_base64(bytes), &mut out),
        Value::Float(number) => json::write_float(*number, &mut out),
        Value::Bool(_) | Value::Int(_) => return to_text(value),
    }
    Some(out)
}

fn from_json(json: &str, to: Type) -> Option<Value> {
    match json.as_bytes().first()? {
        b'"' if to == Type::Bytes => {
            let bytes = from_base64(&json::text_of(json))?;
            Some(Value::from(bytes.as_slice()))
        }
        b'"' => cast(&Value::Str(json::text_of(json)), Type::String, to),
        b'{' | b'[' => None,
        _ if to == Type::Bytes => None,
        b't' => cast(&Value::Bool(true), Type::Bool, to),
        b'f' => cast(&Value::Bool(false), Type::Bool, to),
        _ => match json.parse() {
            Ok(number) => cast(&Value::Int(number), Type::Long, to),
            Err(_) => cast(&Value::Float(json.parse().ok()?), Type::Double, to),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_cut_exactly() {
        let table: [(&str, Option<i64>); 16] = [
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9223372036854775807.9", Some(i64::MAX)),
            ("-9223372036854775808.9", Some(i64::MIN)),
            ("9223372036854775808.0", None),
            ("-0.9", Some(0)),
            ("1e3", Some(1000)),
            ("1.2345e2", Some(123)),
            ("0.00123e5", Some(123)),
            ("12345e-3", Some(12)),
            ("1e-999999999999", Some(0)),
            ("1e999999999999", None),
            ("0e999999999999", Some(0)),
            (".5", Some(0)),
            ("inf", None),
            ("1e", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(whole_of_decimal(text), expected, "{text}");
        }
    }

    #[test]
    fn values_travel_through_json() {
        use Type::{Bool, Bytes, Double, Int, Json, Long, String, Timestamp};
        let bytes = Value::from([1, 2].as_slice());
        let table = [
            (
                Value::text(" [1, 2 ] "),
                String,
                Json,
                Some(Value::text("[1,2]")),
            ),
            (Value::text("null"), String, Json, Some(Value::Null)),
            (Value::text("{"), String, Json, None),
            (Value::Float(1.5), Double, Json, Some(Value::text("1.5"))),
            (Value::Int(7), Timestamp, Json, Some(Value::text("7"))),
            (bytes.clone(), Bytes, Json, Some(Value::text("\"AQI=\""))),
            (Value::text("\"AQI=\""), Json, Bytes, Some(bytes)),
            (
                Value::text("\"a\""),
                Json,
                String,
                Some(Value::text("\"a\"")),
            ),
            (Value::text("\"12\""), Json, Int, Some(Value::Int(12))),
            (Value::text("1.9"), Json, Long, Some(Value::Int(1))),
            (Value::text("3000000000"), Json, Int, None),
            (Value::text("true"), Json, Bool, Some(Value::Bool(true))),
            (Value::text("[1]"), Json, Int, None),
            (
                Value::text("é"),
                String,
                Bytes,
                Some(Value::from("é".as_bytes())),
            ),
            (Value::from([255].as_slice()), Bytes, String, None),
            (
                Value::from("é".as_bytes()),
                Bytes,
                String,
                Some(Value::text("é")),
            ),
        ];
        for (value, from, to, expected) in table {
            assert_eq!(cast(&value, from, to), expected, "{value:?} to {to}");
        }
    }
}
