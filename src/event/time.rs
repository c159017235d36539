//! Points in time and spans of time, both in whole milliseconds.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch on the log's clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every time that a log can hold.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// After every time.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// As RFC 3339 has it, in UTC with milliseconds; or the number, where that has no word for it.
    #[must_use]
    pub fn utc(self) -> String {
        let written = jiff::Timestamp::from_millisecond(self.0);
        written.map_or_else(|_| self.to_string(), |time| format!("{time:.3}"))
    }

    /// The point `span_ms` milliseconds later; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus_ms(self, span_ms: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(span_ms))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// Every spelling of a unit of time and its length in milliseconds. A month is 30 days and a
/// year 365, as nothing here knows a calendar.
pub const DURATION_UNITS: &[(&str, i64)] = &[
    ("ms", 1),
    ("millisecond", 1),
    ("milliseconds", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("second", 1_000),
    ("seconds", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
    ("week", 604_800_000),
    ("weeks", 604_800_000),
    ("month", 2_592_000_000),
    ("months", 2_592_000_000),
    ("year", 31_536_000_000),
    ("years", 31_536_000_000),
];

/// The length of a unit, whatever the case of its name.
#[must_use]
pub fn unit_ms(name: &str) -> Option<i64> {
    DURATION_UNITS
        .iter()
        .find(|(unit, _)| unit.eq_ignore_ascii_case(name))
        .map(|(_, length_ms)| *length_ms)
}

/// Reads `5 s`, `100ms`, `1 MINUTE 30 SECONDS` or a bare number of milliseconds.
///
/// `None` for anything else, for a negative span and for one beyond 64 bits.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total_ms: i64 = 0;
    let mut first = true;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: i64 = number.parse().ok()?;
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let length_ms = match unit {
            "" if first && after.is_empty() => 1,
            unit => unit_ms(unit)?,
        };
        total_ms = total_ms.checked_add(number.checked_mul(length_ms)?)?;
        first = false;
        rest = after.trim_start();
    }
    if first { None } else { Some(total_ms) }
}

/// Writes a span the way [`parse_duration_ms`] reads it, in the largest unit that divides it.
#[must_use]
pub fn format_duration_ms(span_ms: i64) -> String {
    const UNITS: [(&str, i64); 4] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1_000),
    ];
    for (unit, length_ms) in UNITS {
        if span_ms != 0 && span_ms % length_ms == 0 {
            return format!("{} {unit}", span_ms / length_ms);
        }
    }
    format!("{span_ms} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        let table: [(&str, Option<i64>); 10] = [
            ("5 s", Some(5_000)),
            ("100ms", Some(100)),
            ("1 MINUTE 30 SECONDS", Some(90_000)),
            ("250", Some(250)),
            ("0", Some(0)),
            ("", None),
            ("5 parsecs", None),
            ("-1 s", None),
            ("1 s 5", None),
            ("99999999999999999999 s", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration_ms(text), expected, "{text:?}");
        }
        for span_ms in [0, 1, 1_000, 90_000, 3_600_000, 86_400_000] {
            assert_eq!(
                parse_duration_ms(&format_duration_ms(span_ms)),
                Some(span_ms)
            );
        }
    }
}
