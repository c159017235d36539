//! Functions over text. Positions and lengths count characters (Unicode scalar values), from 1.

use ecow::EcoString;

use super::{Function, Nulls, Parameter, Returns, Signature};
use crate::event::{Type, Value};

/// The longest text that `repeat`, `lpad`, `rpad` and `replace` make, in bytes; beyond it: NULL.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

const TEXT: Returns = Returns::Fixed(Type::String);

const fn takes(parameters: &'static [Parameter], result: Returns) -> Signature {
    Signature {
        parameters,
        optional: 0,
        repeats: false,
        result,
    }
}

/// A function from one text to another.
macro_rules! of_text {
    ($names:expr, $eval:expr, $doc:expr, $example:expr) => {
        Function {
            names: $names,
            signature: takes(&[Parameter::Text], TEXT),
            nulls: Nulls::Propagate,
            eval: |_, arguments| Some(Value::Str(($eval)(text(arguments, 0)?).into())),
            doc: $doc,
            example: $example,
        }
    };
}

/// A function from two texts to a truth value.
macro_rules! test_of_texts {
    ($names:expr, $eval:expr, $doc:expr, $example:expr) => {
        Function {
            names: $names,
            signature: takes(
                &[Parameter::Text, Parameter::Text],
                Returns::Fixed(Type::Bool),
            ),
            nulls: Nulls::Propagate,
            eval: |_, arguments| {
                Some(Value::Bool(($eval)(
                    text(arguments, 0)?,
                    text(arguments, 1)?,
                )))
            },
            doc: $doc,
            example: $example,
        }
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["concat"],
        signature: Signature {
            parameters: &[Parameter::AsText],
            optional: 0,
            repeats: true,
            result: TEXT,
        },
        nulls: Nulls::Propagate,
        eval: |_, arguments| {
            let mut joined = EcoString::new();
            for value in arguments {
                joined.push_str(value.as_str()?);
            }
            Some(Value::Str(joined))
        },
        doc: "concat(x, y, …): all one behind the other; also x || y",
        example: ("concat('a', 1, 'b')", "'a1b'"),
    },
    Function {
        names: &["length", "char_length"],
        signature: takes(&[Parameter::Text], Returns::Fixed(Type::Int)),
        nulls: Nulls::Propagate,
        eval: |_, arguments| count(text(arguments, 0)?.chars().count()),
        doc: "length(s): characters",
        example: ("length('grün')", "4"),
    },
    of_text!(
        &["upper", "ucase"],
        str::to_uppercase,
        "upper(s)",
        ("upper('ab')", "'AB'")
    ),
    of_text!(
        &["lower", "lcase"],
        str::to_lowercase,
        "lower(s)",
        ("lower('AB')", "'ab'")
    ),
    of_text!(
        &["trim"],
        str::trim,
        "trim(s): without white space at both ends",
        ("trim(' a ')", "'a'")
    ),
    of_text!(
        &["ltrim"],
        str::trim_start,
        "ltrim(s)",
        ("ltrim(' a')", "'a'")
    ),
    of_text!(
        &["rtrim"],
        str::trim_end,
        "rtrim(s)",
        ("rtrim('a ')", "'a'")
    ),
    of_text!(
        &["reverse"],
        |s: &str| s.chars().rev().collect::<EcoString>(),
        "reverse(s)",
        ("reverse('abc')", "'cba'")
    ),
    Function {
        names: &["substring", "substr"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Integer, Parameter::Integer],
            optional: 1,
            repeats: false,
            result: TEXT,
        },
        nulls: Nulls::Propagate,
        eval: |_, arguments| {
            let start = integer(arguments, 1)?;
            let length = match arguments.get(2) {
                Some(length) => length.as_int()?,
                None => i64::MAX,
            };
            Some(substring(text(arguments, 0)?, start, length))
        },
        doc: "substring(s, start [, length]): characters from start, counted from 1",
        example: ("substring('sensor', 2, 3)", "'ens'"),
    },
    Function {
        names: &["left"],
        signature: takes(&[Parameter::Text, Parameter::Integer], TEXT),
        nulls: Nulls::Propagate,
        eval: |_, arguments| Some(substring(text(arguments, 0)?, 1, integer(arguments, 1)?)),
        doc: "left(s, n): the first n characters",
        example: ("left('sensor', 3)", "'sen'"),
    },
    Function {
        names: &["right"],
        signature: takes(&[Parameter::Text, Parameter::Integer], TEXT),
        nulls: Nulls::Propagate,
        eval: |_, arguments| {
            let s = text(arguments, 0)?;
            let wanted = usize::try_from(integer(arguments, 1)?).unwrap_or(0);
            let skipped = s.chars().count().saturating_sub(wanted);
            Some(Value::Str(s.chars().skip(skipped).collect()))
        },
        doc: "right(s, n): the last n characters",
        example: ("right('sensor', 2)", "'or'"),
    },
    Function {
        names: &["replace"],
        signature: takes(&[Parameter::Text, Parameter::Text, Parameter::Text], TEXT),
        nulls: Nulls::Propagate,
        eval: |_, arguments| {
            let (s, from, to) = (
                text(arguments, 0)?,
                text(arguments, 1)?,
                text(arguments, 2)?,
            );
            if from.is_empty() {
                return arguments.first().cloned();
            }
            let growth = s.matches(from).count().saturating_mul(to.len());
            bounded(s.len().saturating_add(growth), || s.replace(from, to))
        },
        doc: "replace(s, from, to): every occurrence",
        example: ("replace('a-b-c', '-', '.')", "'a.b.c'"),
    },
    Function {
        names: &["repeat"],
        signature: takes(&[Parameter::Text, Parameter::Integer], TEXT),
        nulls: Nulls::Propagate,
        eval: |_, arguments| {
            let s = text(arguments, 0)?;
            let times = usize::try_from(integer(arguments, 1)?).unwrap_or(0);
            bounded(s.len().saturating_mul(times), || s.repeat(times))
        },
        doc: "repeat(s, n)",
        example: ("repeat('ab', 2)", "'abab'"),
    },
    Function {
        names: &["position", "instr"],
        signature: takes(
            &[Parameter::Text, Parameter::Text],
            Returns::Fixed(Type::Int),
        ),
        nulls: Nulls::Propagate,
        eval: |_, arguments| {
            let (s, part) = (text(arguments, 0)?, text(arguments, 1)?);
            match s.split_once(part) {
                Some((before, _)) => count(before.chars().count() + 1),
                None => Some(Value::Int(0)),
            }
        },
        doc: "instr(s, part), POSITION(part IN s): where it begins, 0 when it is not there",
        example: ("instr('sensor', 'so')", "4"),
    },
    test_of_texts!(
        &["starts_with"],
        |s: &str, part: &str| s.starts_with(part),
        "starts_with(s, part)",
        ("starts_with('sensor', 'sen')", "true")
    ),
    test_of_texts!(
        &["ends_with"],
        |s: &str, part: &str| s.ends_with(part),
        "ends_with(s, part)",
        ("ends_with('sensor', 'sen')", "false")
    ),
    test_of_texts!(
        &["contains"],
        |s: &str, part: &str| s.contains(part),
        "contains(s, part)",
        ("contains('sensor', 'nso')", "true")
    ),
];

/// Any value as text: what `CAST(x AS STRING)` gives. `None` for NULL.
pub(crate) fn to_text(value: &Value) -> Option<EcoString> {
    match value {
        Value::Null => None,
        Value::Bool(truth) => Some(if *truth { "true" } else { "false" }.into()),
        Value::Int(number) => Some(ecow::eco_format!("{number}")),
        Value::Float(number) => Some(ecow::eco_format!("{number:?}")),
        Value::Str(text) => Some(text.clone()),
    }
}

fn text(arguments: &[Value], index: usize) -> Option<&str> {
    arguments.get(index)?.as_str()
}

fn integer(arguments: &[Value], index: usize) -> Option<i64> {
    arguments.get(index)?.as_int()
}

fn count(number: usize) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Int)
}

/// As in SQL: a start below 1 eats from the length.
fn substring(s: &str, start: i64, length: i64) -> Value {
    let end = start.saturating_add(length.max(0));
    let from = start.max(1);
    let skipped = usize::try_from(from - 1).unwrap_or(usize::MAX);
    let taken = usize::try_from(end.saturating_sub(from).max(0)).unwrap_or(usize::MAX);
    Value::Str(s.chars().skip(skipped).take(taken).collect())
}

fn bounded(bytes: usize, make: impl FnOnce() -> String) -> Option<Value> {
    (bytes <= TEXT_BYTES_MAX).then(|| Value::from(make()))
}
