//! How a time is written in a column or in a message.

use jiff::civil::{DateTime, Time};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::{Timestamp, Type, Value};

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// A number, with so many of its units to a second: 1, 1,000, 1,000,000 or 1,000,000,000.
    Number {
        /// Units to a second.
        per_second: i64,
    },
    /// ISO 8601; without an offset it is UTC.
    Iso8601,
    /// A pattern of `strftime`; without an offset it is UTC, without a time of day midnight.
    Pattern(String),
}

/// The formats that have names.
pub const TIME_FORMATS: [&str; 5] = ["ms", "s", "us", "ns", "iso8601"];

impl TimeFormat {
    /// The format called so, or the pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn named(name: &str) -> Result<TimeFormat, String> {
        let per_second = match name {
            "s" => 1,
            "ms" => 1_000,
            "us" => 1_000_000,
            "ns" => 1_000_000_000,
            "iso8601" => return Ok(TimeFormat::Iso8601),
            pattern if pattern.contains('%') => {
                let example = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
                return match strtime::format(pattern, &example) {
                    Ok(_) => Ok(TimeFormat::Pattern(pattern.to_owned())),
                    Err(error) => Err(format!("'{pattern}' is not a format: {error}")),
                };
            }
            other => {
                let known = TIME_FORMATS.join(", ");
                return Err(format!(
                    "'{other}' is not a format; there are {known} and patterns such as \
                     '%Y-%m-%d %H:%M:%S'"
                ));
            }
        };
        Ok(TimeFormat::Number { per_second })
    }

    /// Whether a column of this type can hold such times.
    #[must_use]
    pub fn fits(&self, ty: Type) -> bool {
        match self {
            TimeFormat::Number { per_second: 1_000 } => ty.is_numeric() || ty == Type::Timestamp,
            TimeFormat::Number { .. } => ty.is_numeric(),
            TimeFormat::Iso8601 | TimeFormat::Pattern(_) => ty == Type::String,
        }
    }

    /// The time that a value says; `None` when it says none.
    #[must_use]
    pub fn read(&self, value: &Value) -> Option<Timestamp> {
        match value {
            Value::Int(number) => self.read_integer(*number),
            Value::Float(number) => self.read_float(*number),
            Value::Str(text) => self.read_text(text),
            Value::Null | Value::Bool(_) | Value::Bytes(_) => None,
        }
    }

    /// The time that a whole number says.
    #[must_use]
    pub fn read_integer(&self, number: i64) -> Option<Timestamp> {
        match self {
            TimeFormat::Number { per_second: 1 } => number.checked_mul(1_000).map(Timestamp),
            TimeFormat::Number { per_second } => {
                Some(Timestamp(number.div_euclid(per_second / 1_000)))
            }
            TimeFormat::Iso8601 | TimeFormat::Pattern(_) => None,
        }
    }

    /// The time that a number says.
    #[must_use]
    pub fn read_float(&self, number: f64) -> Option<Timestamp> {
        let TimeFormat::Number { per_second } = self else {
            return None;
        };
        #[expect(clippy::cast_precision_loss, reason = "at most a billion")]
        let ms = (number * (1_000.0 / *per_second as f64)).floor();
        // Years beyond what 53 bits hold exactly are no times.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be within")]
        (ms.abs() <= EXACT_MAX).then_some(Timestamp(ms as i64))
    }

    /// The time that a text says; of one that should be a number, none.
    #[must_use]
    pub fn read_text(&self, text: &str) -> Option<Timestamp> {
        let ms = match self {
            TimeFormat::Number { .. } => None,
            TimeFormat::Iso8601 => iso8601(text.trim()),
            TimeFormat::Pattern(pattern) => by_pattern(pattern, text.trim()),
        };
        ms.map(Timestamp)
    }
}

impl std::fmt::Display for TimeFormat {
    /// As it was written.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            TimeFormat::Number { per_second } => match per_second {
                1 => "s",
                1_000 => "ms",
                1_000_000 => "us",
                _ => "ns",
            },
            TimeFormat::Iso8601 => "iso8601",
            TimeFormat::Pattern(pattern) => pattern,
        })
    }
}

fn iso8601(text: &str) -> Option<i64> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    utc(text.parse::<DateTime>().ok()?)
}

fn by_pattern(pattern: &str, text: &str) -> Option<i64> {
    let found = strtime::parse(pattern, text).ok()?;
    if let Ok(instant) = found.to_timestamp() {
        return Some(instant.as_millisecond());
    }
    let time = found.to_time().unwrap_or(Time::midnight());
    utc(found.to_date().ok()?.to_datetime(time))
}

fn utc(local: DateTime) -> Option<i64> {
    let zoned = local.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let int = Value::Int;
        let table = [
            ("ms", int(1_700_000_000_123), Some(1_700_000_000_123)),
            ("s", int(1_700_000_000), Some(1_700_000_000_000)),
            ("s", Value::Float(1.25), Some(1_250)),
            ("s", int(i64::MAX), None),
            ("us", int(-1), Some(-1)),
            ("ns", int(1_999_999), Some(1)),
            ("ms", Value::Float(1e300), None),
            ("ms", Value::Null, None),
            ("iso8601", Value::text("1970-01-01T00:00:01Z"), Some(1_000)),
            (
                "iso8601",
                Value::text("1970-01-01T01:00:01+01:00"),
                Some(1_000),
            ),
            ("iso8601", Value::text("1970-01-01T00:00:01.5"), Some(1_500)),
            ("iso8601", Value::text("1970-01-02"), Some(86_400_000)),
            ("iso8601", Value::text("yesterday"), None),
            (
                "%d.%m.%Y %H:%M",
                Value::text("02.01.1970 00:01"),
                Some(86_460_000),
            ),
            ("%d.%m.%Y", Value::text("02.01.1970"), Some(86_400_000)),
            ("%d.%m.%Y", Value::text("32.01.1970"), None),
        ];
        for (name, value, expected) in table {
            let format = TimeFormat::named(name).unwrap();
            assert_eq!(format.to_string(), name);
            let read = format.read(&value).map(|time| time.0);
            assert_eq!(read, expected, "{name} {value:?}");
        }
        assert!(TimeFormat::named("minutes").is_err());
        assert!(TimeFormat::named("%J!").is_err());
    }
}
