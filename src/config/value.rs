//! The forms that values take: what may be written, what it means, and how it is shown again.

use super::options::{OptionKind, OptionSpec, OptionValue};
use crate::diagnostic::did_you_mean;
use crate::event::{format_duration_ms, parse_duration_ms};

/// A value as it stands in TOML or SQL, references expanded, not yet of the right form.
#[derive(Clone, PartialEq)]
pub enum WrittenValue {
    /// Text; the only form that SQL knows.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
    /// A number with a fraction; finite.
    Number(f64),
    /// `["a", "b"]`.
    Texts(Vec<String>),
}

// A number is finite, so that every value equals itself.
impl Eq for WrittenValue {}

impl std::fmt::Debug for WrittenValue {
    /// Shows the form only, as the text may be a secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            WrittenValue::Text(_) => "Text",
            WrittenValue::Integer(_) => "Integer",
            WrittenValue::Flag(_) => "Flag",
            WrittenValue::Number(_) => "Number",
            WrittenValue::Texts(_) => "Texts",
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

/// Gives a written value the form that `spec` asks for.
pub(super) fn check(spec: &OptionSpec, written: &WrittenValue) -> Result<OptionValue, Misfit> {
    let fitting = match spec.kind {
        OptionKind::Text => text_of(written)
            .filter(|text| !text.is_empty())
            .map(|text| OptionValue::Text(text.to_owned())),
        OptionKind::Integer { min, max } => {
            within(amount(written, |text| text.trim().parse().ok()), (min, max))
        }
        OptionKind::Number { min, max } => number(written, (min, max)),
        OptionKind::Duration => within(amount(written, parse_duration_ms), bounds(spec)),
        OptionKind::Bytes => within(amount(written, parse_bytes), bounds(spec)),
        OptionKind::Flag => match written {
            WrittenValue::Flag(flag) => Some(OptionValue::Flag(*flag)),
            other => text_of(other)
                .and_then(|text| text.trim().parse().ok())
                .map(OptionValue::Flag),
        },
        OptionKind::Choice(words) => text_of(written)
            .filter(|text| words.contains(text))
            .map(|text| OptionValue::Text(text.to_owned())),
        OptionKind::List => list(written),
    };
    fitting.ok_or_else(|| Misfit {
        expected: expected(spec),
        found: (!spec.secret).then(|| quoted(written)),
        hint: nearest_choice(spec, written),
    })
}

fn text_of(written: &WrittenValue) -> Option<&str> {
    match written {
        WrittenValue::Text(text) => Some(text),
        WrittenValue::Integer(_)
        | WrittenValue::Flag(_)
        | WrittenValue::Number(_)
        | WrittenValue::Texts(_) => None,
    }
}

/// The bounds of a span or a size.
fn bounds(spec: &OptionSpec) -> (i64, i64) {
    spec.range.unwrap_or((0, i64::MAX))
}

fn amount(written: &WrittenValue, parse: fn(&str) -> Option<i64>) -> Option<i64> {
    match written {
        WrittenValue::Integer(number) => Some(*number),
        WrittenValue::Text(text) => parse(text),
        WrittenValue::Flag(_) | WrittenValue::Number(_) | WrittenValue::Texts(_) => None,
    }
}

fn within(number: Option<i64>, (min, max): (i64, i64)) -> Option<OptionValue> {
    let number = number.filter(|number| (min..=max).contains(number))?;
    Some(OptionValue::Integer(number))
}

fn number(written: &WrittenValue, (min, max): (i64, i64)) -> Option<OptionValue> {
    // Through its decimal digits, as a whole number has no exact other way.
    let float = |whole: i64| whole.to_string().parse::<f64>().ok();
    let number = match written {
        WrittenValue::Number(number) => Some(*number),
        WrittenValue::Integer(whole) => float(*whole),
        WrittenValue::Text(text) => text.trim().parse().ok(),
        WrittenValue::Flag(_) | WrittenValue::Texts(_) => None,
    }?;
    // Neither an infinity nor what is no number is within.
    (number >= float(min)? && number <= float(max)? && number.is_finite())
        .then_some(OptionValue::Number(number))
}

fn list(written: &WrittenValue) -> Option<OptionValue> {
    let texts: Vec<String> = match written {
        WrittenValue::Texts(texts) => texts.clone(),
        WrittenValue::Text(text) => text.split(',').map(|text| text.trim().to_owned()).collect(),
        WrittenValue::Integer(_) | WrittenValue::Flag(_) | WrittenValue::Number(_) => return None,
    };
    let usable = !texts.is_empty() && texts.iter().all(|text| !text.is_empty());
    usable.then_some(OptionValue::List(texts))
}

fn nearest_choice(spec: &OptionSpec, written: &WrittenValue) -> Option<String> {
    let OptionKind::Choice(words) = spec.kind else {
        return None;
    };
    did_you_mean(text_of(written)?, words.iter().copied())
}

/// What may be written, as a noun phrase.
pub(super) fn expected(spec: &OptionSpec) -> String {
    let bounded = |what: &str, show: fn(i64) -> String| match spec.range {
        Some((min, i64::MAX)) => format!("{what}, at least {}", show(min)),
        Some((min, max)) => format!("{what} from {} to {}", show(min), show(max)),
        None => what.to_owned(),
    };
    let numeric = |what: &str, bounds: (i64, i64)| {
        let what = match spec.unit {
            Some(unit) => format!("{what} of {unit}"),
            None => what.to_owned(),
        };
        match bounds {
            (i64::MIN, i64::MAX) => what,
            (min, i64::MAX) => format!("{what}, at least {min}"),
            (min, max) => format!("{what} from {min} to {max}"),
        }
    };
    match spec.kind {
        OptionKind::Text => "text in quotes that is not empty".to_owned(),
        OptionKind::Integer { min, max } => numeric("a whole number", (min, max)),
        OptionKind::Number { min, max } => numeric("a number", (min, max)),
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
        OptionKind::List => "one text or several with commas between them".to_owned(),
    }
}

/// A written value in messages.
fn quoted(written: &WrittenValue) -> String {
    match written {
        WrittenValue::Text(text) => format!("'{}'", excerpt(text)),
        WrittenValue::Integer(number) => number.to_string(),
        WrittenValue::Flag(flag) => flag.to_string(),
        WrittenValue::Number(number) => format!("{number:?}"),
        WrittenValue::Texts(texts) => {
            let texts = texts.iter().map(|text| format!("'{text}'"));
            excerpt(&format!("[{}]", texts.collect::<Vec<_>>().join(", ")))
        }
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
        (_, OptionValue::Number(number)) => format!("{number:?}"),
        (_, OptionValue::List(texts)) => format!("{texts:?}"),
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

    const QOS: OptionSpec = OptionSpec::new("x", OptionKind::Integer { min: 0, max: 2 }, "");
    const RATE: OptionSpec = OptionSpec::new(
        "x",
        OptionKind::Integer {
            min: 50,
            max: 4_000,
        },
        "",
    )
    .unit("bit/s");
    const SHARE: OptionSpec = OptionSpec::new("x", OptionKind::Number { min: 0, max: 1 }, "");
    const TEXT: OptionSpec = OptionSpec::new("x", OptionKind::Text, "");
    const FLAG: OptionSpec = OptionSpec::new("x", OptionKind::Flag, "");
    const SPAN: OptionSpec = OptionSpec::new("x", OptionKind::Duration, "");
    const SIZE: OptionSpec = OptionSpec::new("x", OptionKind::Bytes, "");
    const WORDS: OptionSpec =
        OptionSpec::new("x", OptionKind::Choice(&["drop", "retry", "dlq"]), "");
    const LIST: OptionSpec = OptionSpec::new("x", OptionKind::List, "");

    /// An option, what is written, and how its value or the fault is shown.
    type Case = (OptionSpec, WrittenValue, &'static str);

    /// Numbers.
    fn numbers() -> Vec<Case> {
        let text = |text: &str| WrittenValue::Text(text.to_owned());
        let number = WrittenValue::Integer;
        vec![
            (QOS, text("1"), "1"),
            (
                QOS,
                number(3),
                "'x' must be a whole number from 0 to 2, not 3",
            ),
            (
                QOS,
                WrittenValue::Number(1.0),
                "'x' must be a whole number from 0 to 2, not 1.0",
            ),
            (
                QOS.secret(),
                text("hunter2"),
                "'x' must be a whole number from 0 to 2",
            ),
            (
                RATE,
                number(7),
                "'x' must be a whole number of bit/s from 50 to 4000, not 7",
            ),
            (SHARE, text("0.25"), "0.25"),
            (SHARE, number(1), "1.0"),
            (
                SHARE,
                WrittenValue::Number(1.5),
                "'x' must be a number from 0 to 1, not 1.5",
            ),
            (
                SHARE,
                text("NaN"),
                "'x' must be a number from 0 to 1, not 'NaN'",
            ),
        ]
    }

    /// Texts, words, spans and sizes.
    fn words_and_amounts() -> Vec<Case> {
        let text = |text: &str| WrittenValue::Text(text.to_owned());
        let number = WrittenValue::Integer;
        vec![
            (
                TEXT,
                text(""),
                "'x' must be text in quotes that is not empty, not ''",
            ),
            (FLAG, text("true"), "true"),
            (FLAG, text("yes"), "'x' must be true or false, not 'yes'"),
            (SPAN, number(250), "\"250 ms\""),
            (
                SPAN,
                number(-1),
                "'x' must be a span of time such as '5 s', not -1",
            ),
            (
                SPAN.between(1_000, 60_000),
                text("2 min"),
                "'x' must be a span of time such as '5 s' from 1 s to 1 min, not '2 min'",
            ),
            (
                SIZE.between(1, i64::MAX),
                number(0),
                "'x' must be a size such as '64 KiB', at least 1 B, not 0",
            ),
            (
                WORDS,
                text("dql"),
                "'x' must be 'drop', 'retry' or 'dlq', not 'dql'",
            ),
        ]
    }

    /// Several texts.
    fn lists() -> Vec<Case> {
        let text = |text: &str| WrittenValue::Text(text.to_owned());
        let texts = |texts: &[&str]| {
            WrittenValue::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
        };
        vec![
            (LIST, text("a"), "[\"a\"]"),
            (LIST, text(" a/+ ,b "), "[\"a/+\", \"b\"]"),
            (LIST, texts(&["a, b", "c"]), "[\"a, b\", \"c\"]"),
            (
                LIST,
                text("a,,b"),
                "'x' must be one text or several with commas between them, not 'a,,b'",
            ),
            (
                LIST,
                texts(&["a", ""]),
                "'x' must be one text or several with commas between them, not ['a', '']",
            ),
            (
                LIST,
                texts(&[]),
                "'x' must be one text or several with commas between them, not []",
            ),
            (
                LIST.secret(),
                texts(&[""]),
                "'x' must be one text or several with commas between them",
            ),
        ]
    }

    #[test]
    fn every_form_says_what_it_expects() {
        let cases = [numbers(), words_and_amounts(), lists()];
        for (spec, written, outcome) in cases.into_iter().flatten() {
            let message = match check(&spec, &written) {
                Ok(value) => show(spec.kind, &value),
                Err(misfit) => misfit.message("x"),
            };
            assert_eq!(message, outcome);
        }
    }
}
