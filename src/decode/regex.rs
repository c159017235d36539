//! Text becomes rows by a regular expression with named groups: `(?<temp>-?\d+)` fills `temp`.

use regex_lite::{CaptureLocations, Regex, RegexBuilder};

use super::column::Scalar;
use super::fields::Fields;
use super::options::format_options;
use super::{Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "regex": timestamp timestamp_of bytes ignore;
    OptionSpec::new(
        PATTERN,
        OptionKind::Text,
        "The expression; each column takes the group of its name, such as `(?<temp>[0-9.]+)`",
    )
    .required(),
    OptionSpec::new(
        "regex.rows",
        OptionKind::Choice(&["lines", "message"]),
        "What makes a row: each line that is not empty, or the message as a whole",
    )
    .or("lines"),
    OptionSpec::new(
        "regex.no_match",
        OptionKind::Choice(&["reject", "skip"]),
        "What becomes of a line (or message) that does not match: it rejects the message, or makes \
         no row",
    )
    .or("reject"),
);

const PATTERN: &str = "regex.pattern";
/// How large a compiled expression may be. Time is its size times that of the text.
const COMPILED_BYTES_MAX: usize = 64 << 10;
/// How long a line (or message) may be.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A decoder by a regular expression for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    regex: Regex,
    found: CaptureLocations,
    fields: Fields,
    /// The numbers of the named groups, and which of [`Fields`] each is.
    groups: Vec<(usize, usize)>,
    by_lines: bool,
    skips: bool,
}

impl Decoder {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let fault = |problem| OptionFault::new(PATTERN, problem);
        let pattern = options
            .text(PATTERN)
            .ok_or_else(|| fault("the format `regex` needs it".to_owned()))?;
        let regex = RegexBuilder::new(pattern)
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| fault(format!("not an expression: {error}")))?;
        let mut fields = Fields::new("regex", options, schema, taken)?;
        let mut groups = Vec::new();
        for (number, name) in regex.capture_names().enumerate() {
            let Some(name) = name else { continue };
            let Some(column) = fields.columns().find(name) else {
                let known: Vec<&str> = fields
                    .columns()
                    .own()
                    .map(|(_, column)| column.name.as_str())
                    .collect();
                let known = known.join(", ");
                let problem =
                    format!("group `{name}` is no column to be filled: these are {known}");
                return Err(fault(problem));
            };
            groups.push((number, fields.add(name, column)));
        }
        for (_, column) in fields.columns().own() {
            if fields.find(&column.name, 0).is_none() {
                let name = &column.name;
                let problem = format!("no group fills the column `{name}`: write (?<{name}>…)");
                return Err(fault(problem));
            }
        }
        Ok(Decoder {
            found: regex.capture_locations(),
            regex,
            fields,
            groups,
            by_lines: options.text("regex.rows") != Some("message"),
            skips: options.text("regex.no_match") == Some("skip"),
        })
    }

    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let text = super::utf8(payload)?;
        if text.trim().is_empty() {
            return Err(super::empty());
        }
        let before = into.len();
        if !self.by_lines {
            return self.one(text, before, into, ignored);
        }
        for (number, line) in super::text::lines(text) {
            let read = self.one(line, before, into, ignored);
            read.map_err(|reject| reject.in_line(number))?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        text: &str,
        before: usize,
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        if text.len() > TEXT_BYTES_MAX {
            let detail = format!(
                "{} bytes; an expression is given {TEXT_BYTES_MAX}",
                text.len()
            );
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        if self.regex.captures_read(&mut self.found, text).is_none() {
            return match self.skips {
                true => Ok(()),
                false => Err(Reject::new(
                    Reason::Malformed,
                    "the expression does not match",
                )),
            };
        }
        let row = self.fields.begin(before, into)?;
        for (group, field) in &self.groups {
            let found = self.found.get(*group);
            let scalar = match found.and_then(|(start, end)| text.get(start..end)) {
                Some(text) => Scalar::Text(text),
                None => Scalar::Null,
            };
            self.fields.store(*field, scalar, row, ignored)?;
        }
        Ok(())
    }
}
