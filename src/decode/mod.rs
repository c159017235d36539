//! Bytes become rows of a schema.
//!
//! What it promises: any bytes at all give either whole rows or a [`Reject`] that says why, and a
//! rejected message leaves no part of a row behind.

pub mod json;
mod path;

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
}

/// The formats that can be read, each with its options.
pub const FORMATS: &[(&str, &[OptionSpec])] = &[("json", json::OPTIONS)];

/// A decoder for one stream.
#[derive(Debug)]
pub enum Decoder {
    /// JSON objects.
    Json(json::Decoder),
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
        match format {
            "json" => Ok(Decoder::Json(json::Decoder::new(options, schema, taken)?)),
            _ => {
                let problem = format!("unknown format `{format}`: use json");
                Err(OptionFault::new("format", problem))
            }
        }
    }

    /// Appends the rows of one message to `into`, which has the schema's width.
    ///
    /// # Errors
    /// Why there are none; `into` is then as it was.
    pub fn decode(&mut self, payload: &[u8], into: &mut Batch) -> Result<(), Reject> {
        match self {
            Decoder::Json(decoder) => decoder.decode(payload, into),
        }
    }
}
