//! Functions over text. Positions and lengths count characters (Unicode scalar values), from 1.

use ecow::EcoString;

use super::{Function, PLAIN, Parameter, Returns, Signature};
use crate::event::{Type, Value};

/// The longest text that `repeat`, `lpad`, `rpad` and `replace` make, in bytes; beyond it: NULL.
pub(super) const TEXT_BYTES_MAX: usize = 1024 * 1024;

const TEXT: Returns = Returns::Fixed(Type::String);

const fn takes(parameters: &'static [Parameter], result: Returns) -> Signature {
    Signature {
        parameters,
        optional: 0,
        repeats: 0,
        result,
    }
}

const PAD: Signature = Signature {
    parameters: &[Parameter::Text, Parameter::Integer, Parameter::Text],
    optional: 1,
    repeats: 0,
    result: TEXT,
};

const TRIM: Signature = Signature {
    parameters: &[Parameter::Text, Parameter::Text],
    optional: 1,
    repeats: 0,
    result: TEXT,
};

/// A function from one text to another.
macro_rules! of_text {
    ($names:expr, $eval:expr, $doc:expr, $example:expr) => {
        Function {
            names: $names,
            signature: takes(&[Parameter::Text], TEXT),
            eval: |_, arguments| Some(Value::Str(($eval)(text(arguments, 0)?).into())),
            doc: $doc,
            example: $example,
            ..PLAIN
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
            eval: |_, arguments| {
                Some(Value::Bool(($eval)(
                    text(arguments, 0)?,
                    text(arguments, 1)?,
                )))
            },
            doc: $doc,
            example: $example,
            ..PLAIN
        }
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["concat"],
        signature: Signature {
            parameters: &[Parameter::AsText],
            optional: 0,
            repeats: 1,
            result: TEXT,
        },
        eval: |_, arguments| {
            let mut joined = EcoString::new();
            for value in arguments {
                joined.push_str(value.as_str()?);
            }
            Some(Value::Str(joined))
        },
        doc: "concat(x, y, …): all one behind the other; also x || y",
        example: ("concat('a', 1, 'b')", "'a1b'"),
        ..PLAIN
    },
    Function {
        names: &["length", "char_length"],
        signature: takes(&[Parameter::Text], Returns::Fixed(Type::Int)),
        eval: |_, arguments| count(text(arguments, 0)?.chars().count()),
        doc: "length(s): characters",
        example: ("length('grün')", "4"),
        ..PLAIN
    },
    of_text!(
        &["upper", "ucase"],
        str::to_uppercase,
        "upper(s): in upper case",
        ("upper('ab')", "'AB'")
    ),
    of_text!(
        &["lower", "lcase"],
        str::to_lowercase,
        "lower(s): in lower case",
        ("lower('AB')", "'ab'")
    ),
    Function {
        names: &["trim"],
        signature: TRIM,
        eval: |_, arguments| trimmed(arguments, true, true),
        doc: "trim(s [, characters]): without white space, or these characters, at both ends",
        example: ("trim(' a ')", "'a'"),
        ..PLAIN
    },
    Function {
        names: &["ltrim"],
        signature: TRIM,
        eval: |_, arguments| trimmed(arguments, true, false),
        doc: "ltrim(s [, characters]): the same at the beginning",
        example: ("ltrim('007', '0')", "'7'"),
        ..PLAIN
    },
    Function {
        names: &["rtrim"],
        signature: TRIM,
        eval: |_, arguments| trimmed(arguments, false, true),
        doc: "rtrim(s [, characters]): the same at the end",
        example: ("rtrim('a ')", "'a'"),
        ..PLAIN
    },
    of_text!(
        &["reverse"],
        |s: &str| s.chars().rev().collect::<EcoString>(),
        "reverse(s): backwards",
        ("reverse('abc')", "'cba'")
    ),
    Function {
        names: &["substring", "substr"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Integer, Parameter::Integer],
            optional: 1,
            repeats: 0,
            result: TEXT,
        },
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
        ..PLAIN
    },
    Function {
        names: &["left"],
        signature: takes(&[Parameter::Text, Parameter::Integer], TEXT),
        eval: |_, arguments| Some(substring(text(arguments, 0)?, 1, integer(arguments, 1)?)),
        doc: "left(s, n): the first n characters",
        example: ("left('sensor', 3)", "'sen'"),
        ..PLAIN
    },
    Function {
        names: &["right"],
        signature: takes(&[Parameter::Text, Parameter::Integer], TEXT),
        eval: |_, arguments| {
            let s = text(arguments, 0)?;
            let wanted = at_least_0(integer(arguments, 1)?);
            let skipped = s.chars().count().saturating_sub(wanted);
            Some(Value::Str(s.chars().skip(skipped).collect()))
        },
        doc: "right(s, n): the last n characters",
        example: ("right('sensor', 2)", "'or'"),
        ..PLAIN
    },
    Function {
        names: &["replace"],
        signature: takes(&[Parameter::Text, Parameter::Text, Parameter::Text], TEXT),
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
        ..PLAIN
    },
    Function {
        names: &["repeat"],
        signature: takes(&[Parameter::Text, Parameter::Integer], TEXT),
        eval: |_, arguments| {
            let s = text(arguments, 0)?;
            let times = at_least_0(integer(arguments, 1)?);
            bounded(s.len().saturating_mul(times), || s.repeat(times))
        },
        doc: "repeat(s, n): n times",
        example: ("repeat('ab', 2)", "'abab'"),
        ..PLAIN
    },
    Function {
        names: &["position", "instr"],
        signature: takes(
            &[Parameter::Text, Parameter::Text],
            Returns::Fixed(Type::Int),
        ),
        eval: |_, arguments| {
            let (s, part) = (text(arguments, 0)?, text(arguments, 1)?);
            match s.split_once(part) {
                Some((before, _)) => count(before.chars().count() + 1),
                None => Some(Value::Int(0)),
            }
        },
        doc: "instr(s, part), POSITION(part IN s): where it begins, 0 when it is not there",
        example: ("instr('sensor', 'so')", "4"),
        ..PLAIN
    },
    Function {
        names: &["lpad"],
        signature: PAD,
        eval: |_, arguments| {
            let (s, fill) = padding(arguments)?;
            Some(Value::from(fill + &s))
        },
        doc: "lpad(s, n [, fill]): n characters, filled up on the left or cut",
        example: ("lpad('7', 3, '0')", "'007'"),
        ..PLAIN
    },
    Function {
        names: &["rpad"],
        signature: PAD,
        eval: |_, arguments| {
            let (s, fill) = padding(arguments)?;
            Some(Value::from(s + &fill))
        },
        doc: "rpad(s, n [, fill]): n characters, filled up on the right or cut",
        example: ("rpad('7', 3, '.')", "'7..'"),
        ..PLAIN
    },
    Function {
        names: &["split_part"],
        signature: takes(
            &[Parameter::Text, Parameter::Text, Parameter::Integer],
            TEXT,
        ),
        eval: |_, arguments| {
            let (s, separator) = (text(arguments, 0)?, text(arguments, 1)?);
            Some(Value::text(split_part(
                s,
                separator,
                integer(arguments, 2)?,
            )?))
        },
        doc: "split_part(s, separator, n): the nth part, from 1, below 0 from the end; '' when \
              there is none",
        example: ("split_part('plant/press/temp', '/', 2)", "'press'"),
        ..PLAIN
    },
    Function {
        names: &["ascii"],
        signature: takes(&[Parameter::Text], Returns::Fixed(Type::Int)),
        eval: |_, arguments| {
            let first = text(arguments, 0)?.chars().next();
            Some(Value::Int(first.map_or(0, |c| i64::from(u32::from(c)))))
        },
        doc: "ascii(s): the number of the first character in Unicode, 0 for ''",
        example: ("ascii('A')", "65"),
        ..PLAIN
    },
    Function {
        names: &["chr"],
        signature: takes(&[Parameter::Integer], TEXT),
        eval: |_, arguments| {
            let number = u32::try_from(integer(arguments, 0)?).ok()?;
            Some(Value::Str(EcoString::from(char::from_u32(number)?)))
        },
        doc: "chr(n): the character with this number in Unicode",
        example: ("chr(65)", "'A'"),
        ..PLAIN
    },
    of_text!(
        &["initcap"],
        initcap,
        "initcap(s): the first letter of each word upper case, the others lower",
        ("initcap('main PRESS 2b')", "'Main Press 2b'")
    ),
    test_of_texts!(
        &["starts_with"],
        |s: &str, part: &str| s.starts_with(part),
        "starts_with(s, part): whether s begins with part",
        ("starts_with('sensor', 'sen')", "true")
    ),
    test_of_texts!(
        &["ends_with"],
        |s: &str, part: &str| s.ends_with(part),
        "ends_with(s, part): whether s ends with part",
        ("ends_with('sensor', 'sen')", "false")
    ),
    test_of_texts!(
        &["contains"],
        |s: &str, part: &str| s.contains(part),
        "contains(s, part): whether part is in s",
        ("contains('sensor', 'nso')", "true")
    ),
];

fn text(arguments: &[Value], index: usize) -> Option<&str> {
    arguments.get(index)?.as_str()
}

fn integer(arguments: &[Value], index: usize) -> Option<i64> {
    arguments.get(index)?.as_int()
}

fn count(number: usize) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Int)
}

fn trimmed(arguments: &[Value], start: bool, end: bool) -> Option<Value> {
    let mut s = text(arguments, 0)?;
    let characters = arguments.get(1).map(|characters| characters.as_str());
    let goes = |c: char| match characters {
        None => c.is_whitespace(),
        Some(characters) => characters.is_some_and(|characters| characters.contains(c)),
    };
    if start {
        s = s.trim_start_matches(goes);
    }
    if end {
        s = s.trim_end_matches(goes);
    }
    Some(Value::text(s))
}

/// The text, cut to the wanted length, and what fills it up.
fn padding(arguments: &[Value]) -> Option<(String, String)> {
    let s = text(arguments, 0)?;
    let wanted = at_least_0(integer(arguments, 1)?);
    let fill = arguments.get(2).map_or(Some(" "), Value::as_str)?;
    let missing = wanted.saturating_sub(s.chars().count());
    let most = fill.len().max(s.len()).max(1).saturating_mul(wanted);
    if most > TEXT_BYTES_MAX && s.len().saturating_add(missing.saturating_mul(4)) > TEXT_BYTES_MAX {
        return None;
    }
    let fill = fill.chars().cycle().take(missing).collect();
    Some((s.chars().take(wanted).collect(), fill))
}

fn split_part<'a>(s: &'a str, separator: &str, number: i64) -> Option<&'a str> {
    let place = |number: u64| usize::try_from(number - 1).unwrap_or(usize::MAX);
    let parts = || s.split(separator);
    let part = match number {
        0 => return None,
        _ if separator.is_empty() => (number.abs() == 1).then_some(s),
        1.. => parts().nth(place(number.unsigned_abs())),
        _ => {
            let behind = place(number.unsigned_abs());
            let index = parts().count().checked_sub(behind.saturating_add(1));
            index.and_then(|index| parts().nth(index))
        }
    };
    Some(part.unwrap_or_default())
}

fn initcap(s: &str) -> EcoString {
    let mut out = EcoString::new();
    let mut inside = false;
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric();
    }
    out
}

/// As in SQL: a start below 1 eats from the length.
fn substring(s: &str, start: i64, length: i64) -> Value {
    let end = start.saturating_add(length.max(0));
    let from = start.max(1);
    let (skipped, taken) = (at_least_0(from - 1), at_least_0(end.saturating_sub(from)));
    Value::Str(s.chars().skip(skipped).take(taken).collect())
}

/// A number of characters or times: below 0 is none, and beyond what the machine can count all.
fn at_least_0(number: i64) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}

fn bounded(bytes: usize, make: impl FnOnce() -> String) -> Option<Value> {
    (bytes <= TEXT_BYTES_MAX).then(|| Value::from(make()))
}
