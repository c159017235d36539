//! A TOML text as tables of dotted names, each value with its place; nothing is judged yet except
//! that it is TOML.
//!
//! `[streams.Readings] mqtt.topic = "…"`, `"mqtt.topic" = "…"` and `[streams.Readings.mqtt]
//! topic = "…"` are the same value, named `mqtt.topic`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::text::NamedText;
use crate::diagnostic::Diagnostic;

/// After this many syntax errors the rest is noise.
const SYNTAX_ERRORS_MAX: usize = 10;

/// A value in TOML.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Flag(bool),
    /// A number with a fraction; finite.
    Number(f64),
    /// A list of texts, each with its span.
    Texts(Vec<(String, Range<usize>)>),
    /// Anything else, by what it is.
    Other(&'static str),
}

/// A value with its name inside its table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Where the last part of its name stands.
    pub(super) key: Range<usize>,
    pub(super) value: Raw,
    pub(super) span: Range<usize>,
}

/// A top-level table, or one below `[streams]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) key: Range<usize>,
    pub(super) entries: Vec<Entry>,
}

/// The whole text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    /// Whether it is TOML at all; without that, nothing is known of what is in it.
    pub(super) is_toml: bool,
    pub(super) sections: Vec<Section>,
    /// `[streams.<name>]`.
    pub(super) streams: Vec<Section>,
}

/// Whether an entry of a table is wanted; all of the table when the entry is `*`.
pub(super) type Wanted = fn(table: &str, entry: &str) -> bool;

/// Reads of a text what is wanted; what is not TOML, or stands where a table belongs, is added to
/// `faults`.
pub(super) fn read(text: &NamedText<'_>, wanted: Wanted, faults: &mut Vec<Diagnostic>) -> Document {
    let (table, errors) = DeTable::parse_recoverable(text.text);
    if !errors.is_empty() {
        faults.extend(syntax_faults(text, &errors));
        return Document::default();
    }
    let mut document = Document {
        is_toml: true,
        ..Document::default()
    };
    for (key, value) in table.get_ref() {
        if !wanted(key.get_ref(), "*") {
            continue;
        }
        match value.get_ref() {
            DeValue::Table(streams) if key.get_ref() == "streams" => {
                document.streams = sections(text, "streams.", streams, faults);
            }
            DeValue::Table(inner) => {
                let wanted = |entry: &str| wanted(key.get_ref(), entry);
                let section = section(text, key, inner, &wanted, faults);
                document.sections.push(section);
            }
            other => {
                let hint = format!(
                    "put it into a table, such as [application], above '{key}'",
                    key = key.get_ref()
                );
                let message = format!("'{}' is {}, not a table", key.get_ref(), kind_of(other));
                faults.push(text.error(key.span(), message).with_hint(hint));
            }
        }
    }
    document
}

fn sections(
    text: &NamedText<'_>,
    prefix: &str,
    tables: &DeTable<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Vec<Section> {
    let mut found = Vec::new();
    for (key, value) in tables {
        match value.get_ref() {
            DeValue::Table(inner) => found.push(section(text, key, inner, &|_| true, faults)),
            other => {
                let name = key.get_ref();
                let message = format!("'{prefix}{name}' is {}, not a table", kind_of(other));
                let hint = format!("options of a stream stand below [{prefix}<its name>]");
                faults.push(text.error(key.span(), message).with_hint(hint));
            }
        }
    }
    found
}

fn section(
    text: &NamedText<'_>,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    table: &DeTable<'_>,
    wanted: &dyn Fn(&str) -> bool,
    faults: &mut Vec<Diagnostic>,
) -> Section {
    let mut entries: Vec<Entry> = Vec::new();
    flatten("", table, &mut entries);
    entries.retain(|entry| wanted(&entry.name));
    entries.sort_by_key(|entry| entry.key.start);
    let mut unique: Vec<Entry> = Vec::new();
    for entry in entries {
        match unique.iter().find(|earlier| earlier.name == entry.name) {
            Some(earlier) => {
                let line = text.place(earlier.key.clone()).line;
                let message = format!("'{}' is written twice", entry.name);
                let hint = format!("it is in line {line} already; remove one of them");
                faults.push(text.error(entry.key, message).with_hint(hint));
            }
            None => unique.push(entry),
        }
    }
    Section {
        name: key.get_ref().to_string(),
        key: key.span(),
        entries: unique,
    }
}

/// Depth is bounded by the TOML parser (80 levels in one value or name).
fn flatten(prefix: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let raw = match value.get_ref() {
            DeValue::Table(inner) => {
                flatten(&format!("{name}."), inner, entries);
                continue;
            }
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => Raw::Integer(number),
                    Err(_) => Raw::Other("a number beyond 64 bits"),
                }
            }
            DeValue::Boolean(flag) => Raw::Flag(*flag),
            DeValue::Array(items) => texts(items.iter()),
            DeValue::Float(float) => match float.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Raw::Number(number),
                Ok(_) | Err(_) => Raw::Other("no finite number"),
            },
            other @ DeValue::Datetime(_) => Raw::Other(kind_of(other)),
        };
        entries.push(Entry {
            name,
            key: key.span(),
            value: raw,
            span: value.span(),
        });
    }
}

fn texts<'a>(items: impl Iterator<Item = &'a Spanned<DeValue<'a>>>) -> Raw {
    let texts: Option<Vec<_>> = items
        .map(|item| Some((item.get_ref().as_str()?.to_owned(), item.span())))
        .collect();
    texts.map_or(Raw::Other("a list of other things"), Raw::Texts)
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// One fault per line, as the parser stumbles over the same mistake several times.
fn syntax_faults(text: &NamedText<'_>, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut faults: Vec<Diagnostic> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().replace('\n', ", ");
        let fault = text.error(span, format!("this is not TOML: {message}"));
        let line = fault.place.map(|place| place.line);
        let seen = faults
            .iter()
            .any(|earlier| earlier.place.map(|place| place.line) == line);
        if !seen && faults.len() < SYNTAX_ERRORS_MAX {
            faults.push(fault);
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_nested_and_quoted_names_are_one() {
        let forms = [
            "[streams.R]\nmqtt.topic = \"a\"",
            "[streams.R]\n\"mqtt.topic\" = \"a\"",
            "[streams.R.mqtt]\ntopic = \"a\"",
            "[streams]\nR = { mqtt = { topic = \"a\" } }",
            "streams.R.mqtt.topic = \"a\"",
        ];
        for form in forms {
            let mut faults = Vec::new();
            let document = read(&NamedText::new("x", form), |_, _| true, &mut faults);
            assert_eq!(faults, [], "{form}");
            let values: Vec<_> = document
                .streams
                .iter()
                .flat_map(|stream| stream.entries.iter().map(|entry| (&stream.name, entry)))
                .map(|(stream, entry)| (stream.as_str(), entry.name.as_str(), entry.value.clone()))
                .collect();
            assert_eq!(
                values,
                [("R", "mqtt.topic", Raw::Text("a".to_owned()))],
                "{form}"
            );
        }
    }

    #[test]
    fn a_deep_name_is_refused_not_followed() {
        let deep = format!("{}a = 1", "a.".repeat(100_000));
        let mut faults = Vec::new();
        read(&NamedText::new("x", &deep), |_, _| true, &mut faults);
        assert_eq!(faults.len(), 1);
    }
}
