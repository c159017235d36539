//! Regular expressions, as the crate `regex-lite` has them: without look-around and references
//! back, in time linear in the text.

use std::sync::Mutex;

use ecow::EcoString;
use regex_lite::{Regex, RegexBuilder};

use super::text::TEXT_BYTES_MAX;
use super::{Argument, Function, PLAIN, Parameter, Prepared, Returns, Signature};
use crate::event::{Type, Value};

/// What a compiled pattern may occupy, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

const TWO: Signature = Signature {
    parameters: &[Parameter::Text, Parameter::Text],
    optional: 0,
    repeats: 0,
    result: Returns::Fixed(Type::Bool),
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["regexp_like"],
        signature: TWO,
        prepare: Some(|arguments| {
            of_pattern(arguments, |pattern, values| {
                Some(Value::Bool(pattern.is_match(text(values, 0)?)))
            })
        }),
        doc: "regexp_like(s, pattern): whether the pattern is found in s",
        example: ("regexp_like('press-12', '^press-[0-9]+$')", "true"),
        ..PLAIN
    },
    Function {
        names: &["regexp_replace"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Text, Parameter::Text],
            result: Returns::Fixed(Type::String),
            ..TWO
        },
        prepare: Some(|arguments| {
            of_pattern(arguments, |pattern, values| {
                replace(pattern, text(values, 0)?, text(values, 2)?)
            })
        }),
        doc: "regexp_replace(s, pattern, by): every occurrence; $1 in by is the first group",
        example: ("regexp_replace('a1b22', '[0-9]+', '#')", "'a#b#'"),
        ..PLAIN
    },
    Function {
        names: &["regexp_extract"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Text, Parameter::Integer],
            optional: 1,
            result: Returns::Fixed(Type::String),
            ..TWO
        },
        prepare: Some(|arguments| {
            of_pattern(arguments, |pattern, values| {
                let group = values.get(2).map_or(Some(0), Value::as_int)?;
                let group = usize::try_from(group).ok()?;
                if group >= pattern.captures_len() {
                    return None;
                }
                let found = pattern.captures(text(values, 0)?);
                let found = found.and_then(|found| found.get(group));
                Some(found.map_or(Value::Null, |found| Value::text(found.as_str())))
            })
        }),
        doc: "regexp_extract(s, pattern [, group]): what is found first, or this group of it; \
              NULL when nothing is",
        example: ("regexp_extract('plant7/temp', 'plant([0-9]+)/', 1)", "'7'"),
        ..PLAIN
    },
];

fn text(values: &[Value], index: usize) -> Option<&str> {
    values.get(index)?.as_str()
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("'{pattern}' is not a regular expression: {error}"))
}

/// A pattern that is constant is compiled once; of others the last one is kept.
fn of_pattern(
    arguments: &[Argument<'_>],
    eval: fn(&Regex, &[Value]) -> Option<Value>,
) -> Result<Prepared, String> {
    let constant = arguments.get(1).and_then(|argument| argument.constant);
    if let Some(pattern) = constant.and_then(Value::as_str) {
        let pattern = compile(pattern)?;
        return Ok(Box::new(move |_, values| eval(&pattern, values)));
    }
    let kept: Mutex<Option<(EcoString, Regex)>> = Mutex::new(None);
    Ok(Box::new(move |_, values| {
        let pattern = text(values, 1)?;
        let mut kept = kept.lock().ok()?;
        if kept.as_ref().is_none_or(|(known, _)| known != pattern) {
            *kept = Some((pattern.into(), compile(pattern).ok()?));
        }
        let (_, pattern) = kept.as_ref()?;
        eval(pattern, values)
    }))
}

fn replace(pattern: &Regex, s: &str, by: &str) -> Option<Value> {
    let mut out = String::new();
    let mut end = 0;
    for found in pattern.captures_iter(s) {
        let whole = found.get(0)?;
        out.push_str(s.get(end..whole.start())?);
        found.expand(by, &mut out);
        end = whole.end();
        if out.len() > TEXT_BYTES_MAX {
            return None;
        }
    }
    out.push_str(s.get(end..)?);
    (out.len() <= TEXT_BYTES_MAX.max(s.len())).then(|| Value::from(out))
}
