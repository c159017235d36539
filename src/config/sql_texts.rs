//! `[application] sql`: one file, several, or the text itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::document::{Document, Entry, Raw};
use super::files::{NOTHING, is_blank};
use super::load::Reading;
use super::options::OptionValue;
use super::settings::SqlText;
use crate::diagnostic::Place;

/// The key that this module reads.
pub(super) const KEY: &str = "application.sql";

/// What SQL is called that stands in a configuration in such a way that its places are others.
pub(super) const INLINE: &str = "inline SQL ";

/// Where a document says it.
pub(super) fn entry(document: &Document) -> Option<&Entry> {
    let sections = document.sections.iter();
    sections
        .filter(|section| section.name == "application")
        .flat_map(|section| &section.entries)
        .find(|entry| entry.name == "sql")
}

/// Reads every SQL text that is named there; their contents are added to `texts`. `None` when
/// there is one that cannot be read.
pub(super) fn collect(
    reading: &mut Reading<'_>,
    entry: &Entry,
    folder: &Path,
    texts: &mut BTreeMap<String, String>,
) -> Option<Vec<SqlText>> {
    let written = match &entry.value {
        Raw::Text(text) => vec![(text.clone(), entry.span.clone())],
        Raw::Texts(texts) => texts.clone(),
        Raw::Integer(_) | Raw::Flag(_) | Raw::Number(_) | Raw::Other(_) => {
            let message = format!("'{KEY}' must be a file name, a list of them, or SQL text");
            let fault = reading.text.error(entry.span.clone(), message);
            reading.faults.push(fault);
            return None;
        }
    };
    let mut found: Vec<SqlText> = Vec::new();
    let mut is_whole = true;
    for (text, span) in &written {
        let sql = if is_inline(text) {
            Some(inline(reading, text, span, found.len()))
        } else {
            from_file(reading, text, span, folder)
        };
        let Some((sql, whole)) = sql else {
            is_whole = false;
            continue;
        };
        if whole.is_some() && found.iter().any(|earlier| earlier.path == sql.path) {
            let message = format!("'{}' is listed twice", sql.path);
            reading
                .faults
                .push(reading.text.error(span.clone(), message));
            continue;
        }
        if let Some(whole) = whole {
            texts.insert(sql.path.clone(), whole);
        }
        found.push(sql);
    }
    let names: Vec<String> = found.iter().map(|sql| sql.path.clone()).collect();
    let (value, shown) = match names.as_slice() {
        [one] => (OptionValue::Text(one.clone()), format!("{one:?}")),
        several => (OptionValue::List(names.clone()), format!("{several:?}")),
    };
    reading.put(KEY, value, shown, &entry.span);
    is_whole.then_some(found)
}

/// A file name never holds a line break, and only a strange one a semicolon.
fn is_inline(text: &str) -> bool {
    text.contains([';', '\n'])
}

/// The text, and the whole of what diagnostics are about when that is not the configuration.
type Found = (SqlText, Option<String>);

fn inline(reading: &Reading<'_>, text: &str, span: &Range<usize>, ordinal: usize) -> Found {
    let document = reading.text;
    let verbatim = document.text.get(span.clone());
    if verbatim.is_some_and(|written| written.contains(text)) {
        let Place { line, column, .. } = document.place_within(span.clone(), text);
        let count = |number: u32| usize::try_from(number.saturating_sub(1)).unwrap_or(0);
        let text = format!(
            "{}{}{text}",
            "\n".repeat(count(line)),
            " ".repeat(count(column))
        );
        let path = document.path.to_owned();
        return (SqlText { path, text }, None);
    }
    let sql = SqlText {
        path: format!("{INLINE}{}", ordinal + 1),
        text: text.to_owned(),
    };
    (sql, Some(text.to_owned()))
}

fn from_file(
    reading: &mut Reading<'_>,
    written: &str,
    span: &Range<usize>,
    folder: &Path,
) -> Option<Found> {
    let (name, _) = reading.expand(written, span)?;
    if name.trim().is_empty() {
        let message = format!("'{KEY}' must not be empty");
        reading
            .faults
            .push(reading.text.error(span.clone(), message));
        return None;
    }
    let path = folder.join(&name);
    match reading.named.read_named(&path) {
        Ok(text) if is_blank(&text) => {
            let (what, hint) = NOTHING;
            let fault = reading
                .text
                .error(span.clone(), format!("'{}': {what}", path.display()));
            reading.faults.push(fault.with_hint(hint));
            None
        }
        Ok(text) => {
            let path = path.display().to_string();
            let sql = SqlText {
                path,
                text: text.clone(),
            };
            Some((sql, Some(text)))
        }
        Err(why) => {
            let fault = reading.text.error(span.clone(), why);
            let fault = match name.contains(char::is_whitespace) {
                true => fault.with_hint("if this is SQL and not a file name, end it with ';'"),
                false => fault.with_hint("file names are relative to the configuration's folder"),
            };
            reading.faults.push(fault);
            None
        }
    }
}
