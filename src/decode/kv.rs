//! Pairs such as `temp=21.5 state="on line"` become rows, one a line.
//!
//! That is logfmt, and with other separators what many devices print. A word without a value is
//! true for a BOOLEAN column of that name; others are passed over.

use super::column::Scalar;
use super::fields::Fields;
use super::options::format_options;
use super::{Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema, Value};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "kv": missing unknown timestamp timestamp_of bytes ignore;
    OptionSpec::new(
        SEPARATOR,
        OptionKind::Text,
        "What stands between two pairs; a blank stands for any blanks and tabs",
    )
    .or(" "),
    OptionSpec::new(ASSIGNMENT, OptionKind::Text, "What stands between a key and its value")
        .or("="),
    OptionSpec::new(
        "kv.mapping.*",
        OptionKind::Text,
        "The key that a column takes; the column's name when left out",
    ),
);

const SEPARATOR: &str = "kv.separator";
const ASSIGNMENT: &str = "kv.assignment";

/// A decoder of pairs for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    fields: Fields,
    /// `None`: any blanks.
    separator: Option<String>,
    assignment: String,
    /// A value in quotes without its escapes.
    unescaped: String,
}

impl Decoder {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let trimmed = |name, default: &str| match options.text(name) {
            Some(written) => written.trim().to_owned(),
            None => default.to_owned(),
        };
        let (separator, assignment) = (trimmed(SEPARATOR, ""), trimmed(ASSIGNMENT, "="));
        for (option, text) in [(SEPARATOR, &separator), (ASSIGNMENT, &assignment)] {
            if text.contains(['"', '\n', '\r']) {
                let problem = "a quote or a line break is none";
                return Err(OptionFault::new(option, problem));
            }
        }
        if assignment.is_empty() || assignment == separator {
            let problem = match assignment.is_empty() {
                true => "blanks are none",
                false => "it also stands between two pairs",
            };
            return Err(OptionFault::new(ASSIGNMENT, problem));
        }
        Ok(Decoder {
            fields: Fields::by_name("kv", options, schema, taken)?,
            separator: Some(separator).filter(|separator| !separator.is_empty()),
            assignment,
            unescaped: String::new(),
        })
    }

    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let text = super::utf8(payload)?;
        let mut is_empty = true;
        let before = into.len();
        for (number, line) in super::text::lines(text) {
            is_empty = false;
            let row = self.fields.begin(before, into)?;
            let read = self.line(line, row, ignored);
            read.map_err(|reject| reject.in_line(number))?;
        }
        match is_empty {
            true => Err(super::empty()),
            false => Ok(()),
        }
    }

    fn line(&mut self, line: &str, row: &mut [Value], ignored: &mut u64) -> Result<(), Reject> {
        let (mut rest, mut hint) = (line.trim(), 0);
        while !rest.is_empty() {
            let word = self.until_separator(rest);
            let Some((key, after)) = word
                .find(&self.assignment)
                .and_then(|at| Some((word.get(..at)?, rest.get(at + self.assignment.len()..)?)))
            else {
                rest = self.behind_separator(rest.get(word.len()..).unwrap_or_default())?;
                self.bare(word.trim(), row, ignored)?;
                continue;
            };
            let key = key.trim();
            if key.is_empty() {
                return Err(Reject::new(Reason::Malformed, "a value without a key"));
            }
            let (scalar, after) = match after.trim_start().strip_prefix('"') {
                Some(inside) => {
                    let after = unquote(inside, &mut self.unescaped)?;
                    (Scalar::Text(&self.unescaped), after)
                }
                None => {
                    let value = self.until_separator(after);
                    let behind = after.get(value.len()..).unwrap_or_default();
                    match value.trim() {
                        "" => (Scalar::Null, behind),
                        value => (Scalar::Text(value), behind),
                    }
                }
            };
            rest = self.behind_separator(after)?;
            match self.fields.find(key, hint) {
                Some(field) => {
                    hint = field + 1;
                    self.fields.store(field, scalar, row, ignored)?;
                }
                None => self.fields.unknown(|| key.to_owned())?,
            }
        }
        self.fields.end()
    }

    /// A word that has no value.
    fn bare(&mut self, word: &str, row: &mut [Value], ignored: &mut u64) -> Result<(), Reject> {
        if word.is_empty() {
            return Ok(());
        }
        match self.fields.find(word, 0) {
            Some(field) => self.fields.store(field, Scalar::Bool(true), row, ignored),
            None => self.fields.unknown(|| word.to_owned()),
        }
    }

    fn until_separator<'t>(&self, text: &'t str) -> &'t str {
        let end = match &self.separator {
            Some(separator) => text.find(separator.as_str()),
            None => text.find(char::is_whitespace),
        };
        text.get(..end.unwrap_or(text.len())).unwrap_or_default()
    }

    /// What comes behind the separator that a text begins with.
    fn behind_separator<'t>(&self, text: &'t str) -> Result<&'t str, Reject> {
        let trimmed = text.trim_start();
        let Some(separator) = &self.separator else {
            return match trimmed.len() < text.len() || text.is_empty() {
                true => Ok(trimmed),
                false => Err(behind_quote()),
            };
        };
        match trimmed.strip_prefix(separator.as_str()) {
            Some(rest) => Ok(rest.trim_start()),
            None if trimmed.is_empty() => Ok(""),
            None => Err(behind_quote()),
        }
    }
}

fn behind_quote() -> Reject {
    Reject::new(Reason::Malformed, "text behind a closing quote")
}

/// Puts what stands before the closing quote into `unescaped`, and gives what is behind it.
fn unquote<'t>(inside: &'t str, unescaped: &mut String) -> Result<&'t str, Reject> {
    unescaped.clear();
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Ok(characters.as_str()),
            '\\' => match characters.next() {
                Some('n') => unescaped.push('\n'),
                Some('r') => unescaped.push('\r'),
                Some('t') => unescaped.push('\t'),
                Some(other) => unescaped.push(other),
                None => break,
            },
            other => unescaped.push(other),
        }
    }
    Err(Reject::new(Reason::Malformed, "a quote that is not closed"))
}
