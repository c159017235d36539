//! Bytes become rows of a schema.
//!
//! What it promises: any bytes at all give either whole rows or a [`Reject`] that says why, and a
//! rejected message leaves no part of a row behind. A message that was compressed on its way is
//! unpacked first ([`COMPRESSION`]), within a limit.
//!
//! Each format is a module with its `OPTIONS` and a `Decoder`. What they share: `column.rs` (which
//! value may go into which column), `text.rs` (values written as text), `document.rs` and `path.rs`
//! (fields of objects, for JSON and CBOR), `fields.rs` (columns by name, for formats of text).

mod binary;
mod cbor;
mod column;
mod csv;
mod document;
mod fields;
mod json;
mod kv;
mod nmea;
mod options;
mod path;
mod payload;
mod raw;
mod regex;
mod text;

pub use binary::scaled_by;

use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::{Batch, Schema};

/// Why a message could not become rows; each is a word in the metrics and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Not in the format at all.
    Malformed,
    /// A value of another type than its column.
    WrongType,
    /// A column has no value and must have one.
    MissingField,
    /// A field that no column takes, where that is not wanted.
    UnknownField,
    /// A number beyond its column's range.
    OutOfRange,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// More bytes or rows than allowed.
    TooLarge,
    /// No bytes.
    Empty,
}

impl Reason {
    /// Every reason, in the order in which counters keep them.
    pub const ALL: [Reason; 8] = [
        Reason::Malformed,
        Reason::WrongType,
        Reason::MissingField,
        Reason::UnknownField,
        Reason::OutOfRange,
        Reason::InvalidUtf8,
        Reason::TooLarge,
        Reason::Empty,
    ];

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::WrongType => "wrong_type",
            Reason::MissingField => "missing_field",
            Reason::UnknownField => "unknown_field",
            Reason::OutOfRange => "out_of_range",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::TooLarge => "too_large",
            Reason::Empty => "empty",
        }
    }
}

/// A message that could not become rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.word())]
pub struct Reject {
    /// The kind of fault.
    pub reason: Reason,
    /// The sentence.
    pub detail: String,
}

impl Reject {
    /// A reject.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Reject {
        Reject {
            reason,
            detail: detail.into(),
        }
    }

    /// The same, which also says where.
    fn in_line(self, number: usize) -> Reject {
        Reject {
            detail: format!("line {number}: {}", self.detail),
            ..self
        }
    }
}

/// How many rows one message may hold; a bound for what a few bytes `[{},{},…` can grow into.
pub const MESSAGE_ROWS_MAX: usize = 10_000;

/// The formats that can be read, each with its options.
pub const FORMATS: &[(&str, &[OptionSpec])] = &[
    ("json", json::OPTIONS),
    ("csv", csv::OPTIONS),
    ("cbor", cbor::OPTIONS),
    ("kv", kv::OPTIONS),
    ("regex", regex::OPTIONS),
    ("binary", binary::OPTIONS),
    ("nmea", nmea::OPTIONS),
    ("raw", raw::RAW_OPTIONS),
    ("text", raw::TEXT_OPTIONS),
];

pub use payload::{COMPRESSION, DECODED_BYTES_MAX};

/// A decoder for one stream.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    unpacker: Option<payload::Unpacker>,
    ignored: u64,
    decoded_bytes: usize,
}

#[derive(Debug)]
enum Format {
    Json(json::Decoder),
    Csv(csv::Decoder),
    Cbor(cbor::Decoder),
    Kv(kv::Decoder),
    Regex(regex::Decoder),
    Binary(binary::Decoder),
    Nmea(nmea::Decoder),
    Raw(raw::Raw),
    Text(raw::Text),
}

impl Decoder {
    /// A decoder of `format` into rows of `schema`. The columns `taken` are filled by the connector
    /// (the topic, say) after the message is decoded; the format leaves them NULL.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(
        format: &str,
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let format = match format {
            "json" => Format::Json(json::Decoder::new(options, schema, taken)?),
            "csv" => Format::Csv(csv::Decoder::new(options, schema, taken)?),
            "cbor" => Format::Cbor(cbor::Decoder::new(options, schema, taken)?),
            "kv" => Format::Kv(kv::Decoder::new(options, schema, taken)?),
            "regex" => Format::Regex(regex::Decoder::new(options, schema, taken)?),
            "binary" => Format::Binary(binary::Decoder::new(options, schema, taken)?),
            "nmea" => Format::Nmea(nmea::Decoder::new(options, schema, taken)?),
            "raw" => Format::Raw(raw::Raw::new(schema, taken)?),
            "text" => Format::Text(raw::Text::new(options, schema, taken)?),
            other => {
                let known: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
                let problem = format!("unknown format `{other}`: use {}", known.join(", "));
                return Err(OptionFault::new("format", problem));
            }
        };
        Ok(Decoder {
            format,
            unpacker: payload::Unpacker::new(options),
            ignored: 0,
            decoded_bytes: 0,
        })
    }

    /// Appends the rows of one message to `into`, which has the schema's width.
    ///
    /// # Errors
    /// Why there are none; `into` is then as it was.
    pub fn decode(&mut self, payload: &[u8], into: &mut Batch) -> Result<(), Reject> {
        let before = (into.len(), self.ignored);
        let unpacked = match &mut self.unpacker {
            Some(unpacker) => unpacker.unpack(payload),
            None => Ok(payload),
        };
        let unpacked = unpacked.inspect(|payload| self.decoded_bytes = payload.len());
        let ignored = &mut self.ignored;
        let decoded = unpacked.and_then(|payload| match &mut self.format {
            Format::Json(decoder) => decoder.decode(payload, into, ignored),
            Format::Csv(decoder) => decoder.decode(payload, into, ignored),
            Format::Cbor(decoder) => decoder.decode(payload, into, ignored),
            Format::Kv(decoder) => decoder.decode(payload, into, ignored),
            Format::Regex(decoder) => decoder.decode(payload, into, ignored),
            Format::Binary(decoder) => decoder.decode(payload, into, ignored),
            Format::Nmea(decoder) => decoder.decode(payload, into, ignored),
            Format::Raw(decoder) => decoder.decode(payload, into),
            Format::Text(decoder) => decoder.decode(payload, into),
        });
        if decoded.is_err() {
            self.ignored = before.1;
            while into.len() > before.0 {
                into.pop();
            }
        }
        decoded
    }

    /// How large the last message was after it was unpacked.
    #[must_use]
    pub fn decoded_bytes(&self) -> usize {
        self.decoded_bytes
    }

    /// How many values have become NULL since this was last asked because their columns could not
    /// hold them, where `<format>.ignore_parse_errors` allows that.
    pub fn take_ignored(&mut self) -> u64 {
        std::mem::take(&mut self.ignored)
    }
}

fn utf8(payload: &[u8]) -> Result<&str, Reject> {
    std::str::from_utf8(payload).map_err(|error| {
        let detail = format!("not UTF-8 from byte {} on", error.valid_up_to());
        Reject::new(Reason::InvalidUtf8, detail)
    })
}

fn empty() -> Reject {
    Reject::new(Reason::Empty, "no bytes")
}

fn too_many_rows() -> Reject {
    let detail = format!("more than {MESSAGE_ROWS_MAX} rows in one message");
    Reject::new(Reason::TooLarge, detail)
}

#[cfg(test)]
mod tests;
