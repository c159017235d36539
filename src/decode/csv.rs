//! Comma-separated values (RFC 4180) become rows, one a line.
//!
//! Read here and not by the crate of that name, which tells neither whether a field was in quotes,
//! and so NULL from an empty text, nor that a quote is never closed.

use super::column::Scalar;
use super::fields::Fields;
use super::options::format_options;
use super::{Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "csv": missing unknown timestamp timestamp_of bytes ignore;
    OptionSpec::new(
        DELIMITER,
        OptionKind::Text,
        "What stands between two fields: one ASCII character, or `tab`",
    )
    .or(","),
    OptionSpec::new(
        QUOTE,
        OptionKind::Text,
        "What a field may be enclosed in, doubled inside: one ASCII character, or `none`",
    )
    .or("\""),
    OptionSpec::new(
        HEADER,
        OptionKind::Choice(&["none", "first"]),
        "`first`: the first line of each message names the fields; else they have the order of \
         the columns",
    )
    .or("none"),
    OptionSpec::new(
        NULL,
        OptionKind::Text,
        "A field that is NULL when it is not in quotes; an empty one always is",
    ),
    OptionSpec::new(
        "csv.mapping.*",
        OptionKind::Text,
        "The field that a column takes: its number from 1 on, or with a header its name",
    ),
);

const DELIMITER: &str = "csv.delimiter";
const QUOTE: &str = "csv.quote";
const HEADER: &str = "csv.header";
const NULL: &str = "csv.null";
/// The highest number of a field that a column may take.
const FIELD_NUMBER_MAX: usize = 1_000;

/// A CSV decoder for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    fields: Fields,
    /// Which field of [`Fields`] stands at which place of a line; of a header, as it says.
    places: Vec<Option<usize>>,
    has_header: bool,
    null: Option<String>,
    syntax: Syntax,
    /// The text of a field with doubled quotes.
    unescaped: String,
}

/// What separates and encloses.
#[derive(Clone, Copy, Debug)]
struct Syntax {
    delimiter: char,
    quote: Option<char>,
}

impl Decoder {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let has_header = options.text(HEADER) == Some("first");
        let (fields, places) = match has_header {
            true => (Fields::by_name("csv", options, schema, taken)?, Vec::new()),
            false => by_number(options, schema, taken)?,
        };
        let delimiter = match options.text(DELIMITER) {
            Some("tab" | "\\t") => '\t',
            Some(written) => character(DELIMITER, written)?,
            None => ',',
        };
        let quote = match options.text(QUOTE) {
            Some("none") => None,
            Some(written) => Some(character(QUOTE, written)?),
            None => Some('"'),
        };
        if quote == Some(delimiter) {
            let problem = format!("`{delimiter}` also is the delimiter");
            return Err(OptionFault::new(QUOTE, problem));
        }
        Ok(Decoder {
            fields,
            places,
            has_header,
            null: options.text(NULL).map(str::to_owned),
            syntax: Syntax { delimiter, quote },
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
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader::new(text, self.syntax);
        if reader.is_at_end() {
            return Err(super::empty());
        }
        if self.has_header {
            self.header(&mut reader)?;
        }
        let before = into.len();
        while !reader.is_at_end() {
            let row = self.fields.begin(before, into)?;
            let mut number = 0;
            loop {
                let field = reader.field(&mut self.unescaped)?;
                let is_null = !field.is_quoted
                    && (field.text.is_empty() || self.null.as_deref() == Some(field.text));
                let scalar = match is_null {
                    true => Scalar::Null,
                    false => Scalar::Text(field.text),
                };
                let (is_last, line) = (field.is_last, reader.line);
                let stored = match self.places.get(number) {
                    Some(Some(place)) => self.fields.store(*place, scalar, row, ignored),
                    Some(None) | None => self.fields.unknown(|| (number + 1).to_string()),
                };
                stored.map_err(|reject| reject.in_line(line))?;
                number += 1;
                if is_last {
                    break;
                }
            }
            let line = reader.line;
            self.fields.end().map_err(|reject| reject.in_line(line))?;
            reader.end_line();
        }
        Ok(())
    }

    fn header(&mut self, reader: &mut Reader<'_>) -> Result<(), Reject> {
        self.places.clear();
        loop {
            let field = reader.field(&mut self.unescaped)?;
            let name = field.text.trim();
            let place = self.fields.find(name, self.places.len());
            if place.is_none() {
                self.fields.unknown(|| name.to_owned())?;
            }
            let is_last = field.is_last;
            self.places.push(place);
            if is_last {
                reader.end_line();
                return Ok(());
            }
        }
    }
}

/// Columns take the fields in their order, or those of the numbers that they are mapped to.
fn by_number(
    options: &Options,
    schema: &Schema,
    taken: &[usize],
) -> Result<(Fields, Vec<Option<usize>>), OptionFault> {
    let mut fields = Fields::new("csv", options, schema, taken)?;
    let mut numbered = Vec::new();
    for (place, (index, column)) in fields.columns().own().enumerate() {
        let option = format!("csv.mapping.{}", column.name);
        let place = match options.text(&option) {
            Some(written) => {
                let number = written.parse::<usize>().ok();
                let number = number.filter(|number| (1..=FIELD_NUMBER_MAX).contains(number));
                match number {
                    Some(number) => number - 1,
                    None => {
                        let problem = format!(
                            "`{written}` is not the number of a field, from 1 to \
                             {FIELD_NUMBER_MAX}; names need '{HEADER}' = 'first'"
                        );
                        return Err(OptionFault::new(option, problem));
                    }
                }
            }
            None => place,
        };
        numbered.push((place, index));
    }
    let length = numbered.iter().map(|(place, _)| place + 1).max();
    let mut places = vec![None; length.unwrap_or(0)];
    for (place, index) in numbered {
        let field = fields.add(&place.to_string(), index);
        if let Some(place) = places.get_mut(place) {
            *place = Some(field);
        }
    }
    Ok((fields, places))
}

fn character(option: &str, written: &str) -> Result<char, OptionFault> {
    let mut characters = written.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii() && !matches!(one, '\r' | '\n') => Ok(one),
        _ => {
            let problem = format!("`{written}` is not one ASCII character");
            Err(OptionFault::new(option, problem))
        }
    }
}

/// One field.
struct Field<'a> {
    text: &'a str,
    is_quoted: bool,
    /// Whether it ends its line.
    is_last: bool,
}

/// A text on its way through.
struct Reader<'a> {
    rest: &'a str,
    syntax: Syntax,
    /// The line of the field that was read last, from 1 on.
    line: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, syntax: Syntax) -> Reader<'a> {
        let mut reader = Reader {
            rest: text,
            syntax,
            line: 1,
        };
        reader.skip_empty_lines();
        reader
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The line of the last field is over.
    fn end_line(&mut self) {
        self.line += 1;
        self.skip_empty_lines();
    }

    fn skip_empty_lines(&mut self) {
        loop {
            let line = self.rest.strip_prefix('\r').unwrap_or(self.rest);
            match line.strip_prefix('\n') {
                Some(rest) => self.rest = rest,
                None if line.is_empty() => {
                    self.rest = line;
                    return;
                }
                None => return,
            }
            self.line += 1;
        }
    }

    /// The next field; it may lie in `unescaped`.
    fn field<'f>(&mut self, unescaped: &'f mut String) -> Result<Field<'f>, Reject>
    where
        'a: 'f,
    {
        let quoted = self
            .syntax
            .quote
            .and_then(|quote| self.rest.strip_prefix(quote));
        if let (Some(inside), Some(quote)) = (quoted, self.syntax.quote) {
            return self.quoted(inside, quote, unescaped);
        }
        let delimiter = self.syntax.delimiter;
        let end = self.rest.find([delimiter, '\n']);
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let is_last = !rest.starts_with(delimiter);
        self.rest = rest.get(1..).unwrap_or_default();
        let text = match is_last {
            true => text.strip_suffix('\r').unwrap_or(text),
            false => text,
        };
        Ok(Field {
            text,
            is_quoted: false,
            is_last,
        })
    }

    fn quoted<'f>(
        &mut self,
        inside: &'a str,
        quote: char,
        unescaped: &'f mut String,
    ) -> Result<Field<'f>, Reject>
    where
        'a: 'f,
    {
        let begun = self.line;
        unescaped.clear();
        let mut rest = inside;
        let text = loop {
            let Some((text, after)) = rest.split_once(quote) else {
                return Err(malformed(begun, "a quote that is not closed"));
            };
            self.line += text.bytes().filter(|byte| *byte == b'\n').count();
            rest = after.strip_prefix(quote).unwrap_or(after);
            if rest.len() < after.len() {
                unescaped.push_str(text);
                unescaped.push(quote);
            } else if unescaped.is_empty() {
                break text;
            } else {
                unescaped.push_str(text);
                break unescaped;
            }
        };
        let is_last = match rest.strip_prefix(self.syntax.delimiter) {
            Some(after) => {
                self.rest = after;
                false
            }
            None => {
                let after = rest.strip_prefix('\r').unwrap_or(rest);
                let Some(after) = after.strip_prefix('\n').or(after.is_empty().then_some(""))
                else {
                    return Err(malformed(self.line, "text behind a closing quote"));
                };
                self.rest = after;
                true
            }
        };
        Ok(Field {
            text,
            is_quoted: true,
            is_last,
        })
    }
}

fn malformed(line: usize, what: &str) -> Reject {
    Reject::new(Reason::Malformed, what).in_line(line)
}
