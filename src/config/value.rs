//! The forms that values take: what may be written, what it means, and how it is shown again.

use std::ops::RangeInclusive;

use super::options::{OptionKind, OptionSpec, OptionValue};
use crate::diagnostic::did_you_mean;
use crate::event::{format_duration_ms, parse_duration_ms};

/// A value as it stands in TOML or SQL, references expanded, not yet of the right form.
#[derive(Clone, PartialEq, Eq)]
pub enum WrittenValue {
    /// Text; the only form that SQL knows.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
}

impl std::fmt::Debug for WrittenValue {
    /// Shows the form only, as the text may be a secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            WrittenValue::Text(_) => "Text",
            WrittenValue::Integer(_) => "Integer",
            WrittenValue::Flag(_) => "Flag",
        })
    }
}

/// Why a value does not have its form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// `a whole number from 0 to 2`.
    pub(super) expected: String,
    /// The value as it would be shown; absent when nobody may see it.
    pub(super) found: Option<String>,
    pub(super) hint: Option<String>,
}

impl Misfit {
    /// The sentence for the value called `name`.
    pub(super) fn message(&self, name: &str) -> String {
        match &self.found {
            Some(found) => format!("'{name}' must be {}, not {found}", self.expected),
            None => format!("'{name}' must be {}", self.expected),
        }
    }
}

/// Gives a written value the form that `spec` asks for. `range` bounds spans and sizes.
pub(super) fn check(
    spec: &OptionSpec,
    range: Option<&RangeInclusive<i64>>,
    written: &WrittenValue,
) -> Result<OptionValue, Misfit> {
    let fitting = match (spec.kind, written) {
        (OptionKind::Text, WrittenValue::Text(text)) if !text.is_empty() => {
            Some(OptionValue::Text(text.clone()))
        }
        (OptionKind::Integer { min, max }, value) => {
            let number = match value {
                WrittenValue::Integer(number) => Some(*number),
                WrittenValue::Text(text) => text.trim().parse().ok(),
                WrittenValue::Flag(_) => None,
            };
            within(number, Some(&(min..=max)))
        }
        (OptionKind::Duration, value) => within(amount(value, parse_duration_ms), range),
        (OptionKind::Bytes, value) => within(amount(value, parse_bytes), range),
        (OptionKind::Flag, WrittenValue::Flag(flag)) => Some(OptionValue::Flag(*flag)),
        (OptionKind::Flag, WrittenValue::Text(text)) => {
            text.trim().parse().ok().map(OptionValue::Flag)
        }
        (OptionKind::Choice(words), WrittenValue::Text(text)) => words
            .contains(&text.as_str())
            .then(|| OptionValue::Text(text.clone())),
        (OptionKind::Text, _)
        | (OptionKind::Flag, WrittenValue::Integer(_))
        | (OptionKind::Choice(_), WrittenValue::Integer(_) | WrittenValue::Flag(_)) => None,
    };
    fitting.ok_or_else(|| Misfit {
        expected: expected(spec.kind, range),
        found: (!spec.secret).then(|| quoted(written)),
        hint: nearest_choice(spec.kind, written),
    })
}

fn amount(written: &WrittenValue, parse: fn(&str) -> Option<i64>) -> Option<i64> {
    match written {
        WrittenValue::Integer(number) => Some(*number),
        WrittenValue::Text(text) => parse(text),
        WrittenValue::Flag(_) => None,
    }
}

fn within(number: Option<i64>, range: Option<&RangeInclusive<i64>>) -> Option<OptionValue> {
    let number = number?;
    let allowed = match range {
        Some(range) => range.contains(&number),
        None => number >= 0,
    };
    allowed.then_some(OptionValue::Integer(number))
}

fn nearest_choice(kind: OptionKind, written: &WrittenValue) -> Option<String> {
    match (kind, written) {
        (OptionKind::Choice(words), WrittenValue::Text(text)) => {
            did_you_mean(text, words.iter().copied())
        }
        _ => None,
    }
}

/// What may be written, as a noun phrase.
pub(super) fn expected(kind: OptionKind, range: Option<&RangeInclusive<i64>>) -> String {
    let bounded = |what: &str, show: fn(i64) -> String| match range {
        Some(range) => format!(
            "{what} from {} to {}",
            show(*range.start()),
            show(*range.end())
        ),
        None => what.to_owned(),
    };
    match kind {
        OptionKind::Text => "text in quotes that is not empty".to_owned(),
        OptionKind::Integer { min, max } => match (min, max) {
            (min, i64::MAX) => format!("a whole number, at least {min}"),
            (min, max) => format!("a whole number from {min} to {max}"),
        },
        OptionKind::Duration => bounded("a span of time such as '5 s'", format_duration_ms),
        OptionKind::Bytes => bounded("a size such as '64 KiB'", format_bytes),
        OptionKind::Flag => "true or false".to_owned(),
        OptionKind::Choice(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            match words.split_last() {
                Some((last, [])) => last.clone(),
                Some((last, others)) => format!("{} or {last}", others.join(", ")),
                None => "nothing".to_owned(),
            }
        }
    }
}

/// A written value in messages.
fn quoted(written: &WrittenValue) -> String {
    match written {
        WrittenValue::Text(text) => format!("'{}'", excerpt(text)),
        WrittenValue::Integer(number) => number.to_string(),
        WrittenValue::Flag(flag) => flag.to_string(),
    }
}

/// The beginning of a text, without anything that would move a terminal's cursor.
pub(super) fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    let mut shown: String = text
        .chars()
        .take(CHARACTERS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// A checked value the way it could be written in TOML.
pub(super) fn show(kind: OptionKind, value: &OptionValue) -> String {
    match (kind, value) {
        (OptionKind::Duration, OptionValue::Integer(span_ms)) => {
            format!("\"{}\"", format_duration_ms(*span_ms))
        }
        (OptionKind::Bytes, OptionValue::Integer(bytes)) => format!("\"{}\"", format_bytes(*bytes)),
        (_, OptionValue::Text(text)) => format!("{text:?}"),
        (_, OptionValue::Integer(number)) => number.to_string(),
        (_, OptionValue::Flag(flag)) => flag.to_string(),
    }
}

/// Every unit of size and how many bytes it has.
const BYTE_UNITS: [(&str, i64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `64 KiB`, `1 MB` or a bare number of bytes; upper and lower case are the same.
///
/// `None` for anything else and beyond 63 bits.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let number: i64 = number.parse().ok()?;
    let bytes = match unit {
        "" => 1,
        unit => BYTE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, bytes)| *bytes)?,
    };
    number.checked_mul(bytes)
}

/// Writes a size the way [`parse_bytes`] reads it, in the largest binary unit that divides it.
#[must_use]
pub fn format_bytes(bytes: i64) -> String {
    for (unit, length) in [("GiB", 1_i64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes != 0 && bytes % length == 0 {
            return format!("{} {unit}", bytes / length);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        let table = [
            ("64 KiB", Some(65_536)),
            ("64kib", Some(65_536)),
            ("1 MB", Some(1_000_000)),
            ("512", Some(512)),
            ("512 B", Some(512)),
            ("0", Some(0)),
            ("", None),
            ("KiB", None),
            ("-1", None),
            ("1.5 MiB", None),
            ("9999999999 TiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_bytes(text), expected, "{text:?}");
        }
        for bytes in [0, 1, 1_000, 65_536, 64 << 20, 3 << 30] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
    }

    #[test]
    fn every_form_says_what_it_expects() {
        let spec = |kind, secret| OptionSpec {
            name: "x",
            kind,
            default: None,
            required: false,
            secret,
            doc: "",
        };
        let text = |text: &str| WrittenValue::Text(text.to_owned());
        let words = OptionKind::Choice(&["drop", "retry", "dlq"]);
        let qos = OptionKind::Integer { min: 0, max: 2 };
        let table = [
            (qos, false, text("1"), "ok"),
            (
                qos,
                false,
                WrittenValue::Integer(3),
                "'x' must be a whole number from 0 to 2, not 3",
            ),
            (
                qos,
                true,
                text("hunter2"),
                "'x' must be a whole number from 0 to 2",
            ),
            (
                OptionKind::Text,
                false,
                text(""),
                "'x' must be text in quotes that is not empty, not ''",
            ),
            (OptionKind::Flag, false, text("true"), "ok"),
            (
                OptionKind::Flag,
                false,
                text("yes"),
                "'x' must be true or false, not 'yes'",
            ),
            (
                OptionKind::Duration,
                false,
                WrittenValue::Integer(250),
                "ok",
            ),
            (
                OptionKind::Duration,
                false,
                WrittenValue::Integer(-1),
                "'x' must be a span of time such as '5 s', not -1",
            ),
            (
                words,
                false,
                text("dql"),
                "'x' must be 'drop', 'retry' or 'dlq', not 'dql'",
            ),
        ];
        for (kind, secret, written, outcome) in table {
            let message = match check(&spec(kind, secret), None, &written) {
                Ok(_) => "ok".to_owned(),
                Err(misfit) => misfit.message("x"),
            };
            assert_eq!(message, outcome);
        }
    }
}
