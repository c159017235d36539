//! JSON values as they lie in a row: text in one canonical form, so that two values are equal when
//! their texts are.
//!
//! The form is that of RFC 8785 but for integers, which keep all their digits: no white space,
//! members of an object sorted by name (by code point) and each there once (the last wins), strings
//! with as few escapes as possible, whole numbers within ±2^53 without a point. JSON `null` as a
//! whole is NULL and never lies in a row; inside of arrays and objects it stays.

use std::fmt::Write as _;

use ecow::EcoString;
use serde_json::Value as Json;

/// Up to here every integer is exactly a double.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Any JSON text in the canonical form; `None` for `null`.
///
/// # Errors
/// When it is not JSON, nested more than 127 deep, or holds a number beyond a double.
pub fn canonical(text: &str) -> Result<Option<EcoString>, serde_json::Error> {
    let value: Json = serde_json::from_str(text)?;
    if value.is_null() {
        return Ok(None);
    }
    let mut out = EcoString::new();
    write(&value, &mut out);
    Ok(Some(out))
}

fn write(value: &Json, out: &mut EcoString) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => write_float(float, out),
            _ => {
                let _ = write!(out, "{number}");
            }
        },
        Json::String(text) => write_string(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<(&String, &Json)> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// A finite number in the canonical form.
pub fn write_float(number: f64, out: &mut EcoString) {
    let _ = if number.fract() == 0.0 && number.abs() <= EXACT_INTEGER_MAX {
        // Adding zero turns -0.0 into 0.0.
        write!(out, "{:.0}", number + 0.0)
    } else {
        write!(out, "{number:?}")
    };
}

/// A string in the canonical form, in quotes.
pub fn write_string(text: &str, out: &mut EcoString) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// An object of members given by name and canonical value, of duplicates the last.
#[must_use]
pub fn object<'a>(members: impl Iterator<Item = (&'a str, EcoString)>) -> EcoString {
    let members: std::collections::BTreeMap<&str, EcoString> = members.collect();
    let mut out = EcoString::from("{");
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(name, &mut out);
        out.push(':');
        out.push_str(&value);
    }
    out.push('}');
    out
}

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into an object.
    Field(String),
    /// Into an array, from 0; below 0 from its end.
    Element(i64),
}

/// Reads `$.a.b[0].c`; a name with other characters is written `['a name']`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_path(path: &str) -> Result<Vec<Step>, String> {
    let Some(mut rest) = path.strip_prefix('$') else {
        return Err(format!("`{path}` does not begin with `$`"));
    };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, after) = name.split_at(end);
            if name.is_empty() {
                return Err(format!("`{path}` has an empty name"));
            }
            (Step::Field(name.to_owned()), after)
        } else if let Some(inner) = rest.strip_prefix("['") {
            let (name, after) = inner
                .split_once("']")
                .ok_or_else(|| format!("`{path}` has a `['` without `']`"))?;
            (Step::Field(name.to_owned()), after)
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner
                .split_once(']')
                .ok_or_else(|| format!("`{path}` has a `[` without `]`"))?;
            let index = index
                .parse()
                .map_err(|_| format!("`[{index}]` in `{path}` is not an element number"))?;
            (Step::Element(index), after)
        } else {
            return Err(format!("expected `.` or `[` before `{rest}` in `{path}`"));
        };
        steps.push(step);
        rest = after;
    }
    Ok(steps)
}

/// What lies at the end of `steps`, when it is there and not `null`.
#[must_use]
pub fn find<'a>(json: &'a str, steps: &[Step]) -> Option<&'a str> {
    let mut here = json;
    for step in steps {
        here = match step {
            Step::Field(name) => member(here, name)?,
            Step::Element(index) => element(here, *index)?,
        };
    }
    (here != "null").then_some(here)
}

/// The member of an object.
#[must_use]
pub fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let mut quoted = EcoString::new();
    write_string(name, &mut quoted);
    members(json)
        .find(|(known, _)| **known == *quoted)
        .map(|(_, value)| value)
}

/// The element of an array.
#[must_use]
pub fn element(json: &str, index: i64) -> Option<&str> {
    let index = if index < 0 {
        usize::try_from(index.checked_add(i64::try_from(elements(json).count()).ok()?)?).ok()?
    } else {
        usize::try_from(index).ok()?
    };
    elements(json).nth(index)
}

/// How many elements or members there are; 1 for what is neither array nor object.
#[must_use]
pub fn length(json: &str) -> usize {
    match json.as_bytes().first() {
        Some(b'[') => elements(json).count(),
        Some(b'{') => members(json).count(),
        _ => 1,
    }
}

/// The elements of an array; none of anything else.
pub fn elements(json: &str) -> impl Iterator<Item = &str> {
    let inside = json
        .strip_prefix('[')
        .and_then(|json| json.strip_suffix(']'));
    let mut rest = inside.unwrap_or_default();
    std::iter::from_fn(move || {
        let (value, after) = next_value(rest)?;
        rest = after.strip_prefix(',').unwrap_or_default();
        Some(value)
    })
}

/// The members of an object, names as written in quotes; none of anything else.
fn members(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let inside = json
        .strip_prefix('{')
        .and_then(|json| json.strip_suffix('}'));
    let mut rest = inside.unwrap_or_default();
    std::iter::from_fn(move || {
        let (name, after) = next_value(rest)?;
        let (value, after) = next_value(after.strip_prefix(':')?)?;
        rest = after.strip_prefix(',').unwrap_or_default();
        Some((name, value))
    })
}

/// The value that a text begins with, and what is behind it.
fn next_value(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut end = text.len();
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                b'\\' if !escaped => escaped = true,
                b'"' if !escaped => in_string = false,
                _ => escaped = false,
            }
            if in_string || depth > 0 {
                continue;
            }
            end = at + 1;
            break;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' => {
                end = at + depth;
                break;
            }
            b',' | b':' if depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    text.split_at_checked(end)
        .filter(|(value, _)| !value.is_empty())
}

/// A value as text: a string without its quotes, everything else as it is written.
#[must_use]
pub fn text_of(json: &str) -> EcoString {
    let inside = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'));
    match inside {
        Some(inside) if !inside.contains('\\') => inside.into(),
        Some(_) => serde_json::from_str::<String>(json)
            .unwrap_or_default()
            .into(),
        None => json.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_text() {
        let table = [
            (
                r#"{ "b" : 1, "a" : [ true , null ] }"#,
                r#"{"a":[true,null],"b":1}"#,
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("1.0", "1"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("0.10", "0.1"),
            ("1e300", "1e300"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551615", "18446744073709551615"),
            ("\"a\\u0041\\/\\n\"", "\"aA/\\n\""),
            ("[]", "[]"),
            ("{}", "{}"),
        ];
        for (text, expected) in table {
            let canonical = canonical(text).unwrap().unwrap();
            assert_eq!(canonical, expected);
            assert_eq!(super::canonical(&canonical).unwrap().unwrap(), expected);
        }
        assert!(canonical(" null ").unwrap().is_none());
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for bad in ["", "{", "nul", "1e400", "{'a':1}", "[1,]", &deep] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn steps_into_a_value() {
        let json = r#"{"a":[1,{"x":"]}\"\\"},[],"s"],"b,":{},"c":null,"d":"q\n"}"#;
        assert_eq!(canonical(json).unwrap().unwrap(), json);
        let table = [
            ("$.a", Some(r#"[1,{"x":"]}\"\\"},[],"s"]"#)),
            ("$.a[0]", Some("1")),
            ("$.a[1].x", Some(r#""]}\"\\""#)),
            ("$.a[2]", Some("[]")),
            ("$.a[-1]", Some("\"s\"")),
            ("$.a[-5]", None),
            ("$.a[4]", None),
            ("$['b,']", Some("{}")),
            ("$['b,'].x", None),
            ("$.c", None),
            ("$.d", Some("\"q\\n\"")),
            ("$.d.x", None),
            ("$.d[0]", None),
            ("$[0]", None),
            ("$", Some(json)),
        ];
        for (path, expected) in table {
            assert_eq!(find(json, &parse_path(path).unwrap()), expected, "{path}");
        }
        assert_eq!(text_of(r#""]}\"\\""#), "]}\"\\");
        for (json, expected) in [("[]", 0), ("[[],[1,2]]", 2), ("{\"a\":{}}", 1), ("7", 1)] {
            assert_eq!(length(json), expected, "{json}");
        }
        // What cannot be here is no accident either.
        for broken in ["{\"a\"", "[1", "{:}", "[,]", "{\"a\":}"] {
            let _ = (length(broken), member(broken, "a"), element(broken, -1));
        }
    }

    #[test]
    fn paths() {
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(parse_path("$.a"), Ok(vec![field("a")]));
        assert_eq!(
            parse_path("$.a.b[0]['c d'].e"),
            Ok(vec![
                field("a"),
                field("b"),
                Step::Element(0),
                field("c d"),
                field("e")
            ])
        );
        for bad in ["", "a", "$.", "$.a[", "$.a[x]", "$.a..b", "$a", "$['a"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }
}
