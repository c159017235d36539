//! Rows become bytes for a far side: what [`crate::decode`] does, the other way.
//!
//! What it promises: the same output gives the same bytes at every attempt, save for its age and
//! its `historical` mark.

mod json;
mod template;

pub use template::{Filled, NAMES, Template};

use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::{Schema, Timestamp, Value};

/// An output on its way out, with all that an encoding may write of it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// Its identity, the same at every attempt.
    pub id: &'a str,
    /// The time of its row: when it arose, on the clock of its stream.
    pub time: Timestamp,
    /// When it was made, on the log's clock.
    pub made: Timestamp,
    /// How long it has waited, in milliseconds.
    pub age_ms: i64,
    /// Whether it waited for its far side so long that it is no news any more.
    pub historical: bool,
    /// The columns that the stream had then.
    pub schema: &'a Schema,
    /// One value per column.
    pub row: &'a [Value],
}

/// The formats that can be written, each with its options.
pub const FORMATS: &[(&str, &[OptionSpec])] = &[("json", json::OPTIONS)];

/// Writes the outputs of one stream.
#[derive(Debug)]
pub enum Encoder {
    /// JSON objects.
    Json(json::Encoder),
}

impl Encoder {
    /// An encoder into `format`, for rows of `schema`.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(format: &str, options: &Options, schema: &Schema) -> Result<Encoder, OptionFault> {
        match format {
            "json" => Ok(Encoder::Json(json::Encoder::new(options, schema)?)),
            other => {
                let known: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
                let known = known.join(", ");
                let problem = format!("unknown format `{other}` of a sink: use {known}");
                Err(OptionFault::new("format", problem))
            }
        }
    }

    /// Appends one output as one payload.
    pub fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        match self {
            Encoder::Json(encoder) => encoder.encode(message, into),
        }
    }

    /// Appends several outputs as one payload; with one alone it is not what [`Encoder::encode`]
    /// gives where the format has a form for many (a JSON array).
    pub fn encode_all(&self, messages: &[Message<'_>], into: &mut Vec<u8>) {
        match self {
            Encoder::Json(encoder) => encoder.encode_all(messages, into),
        }
    }

    /// What HTTP calls such a payload.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Encoder::Json(_) => "application/json",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::event::{Field, Type};

    /// A column of each kind.
    pub(crate) fn schema() -> Schema {
        let field = |(name, ty): (&str, Type)| Field {
            name: name.to_owned(),
            ty,
        };
        let columns = [
            ("device", Type::String),
            ("temp", Type::Double),
            ("ok", Type::Bool),
            ("count", Type::Long),
            ("gone", Type::String),
            ("doc", Type::Json),
            ("bytes", Type::Bytes),
        ];
        Schema::new(columns.map(field).to_vec())
    }

    /// A row of it, on its way out.
    pub(crate) fn message<T>(read: impl FnOnce(&Message<'_>) -> T) -> T {
        let row = [
            Value::text("press \"3\""),
            Value::Float(81.0),
            Value::Bool(true),
            Value::Int(7),
            Value::Null,
            Value::text("{\"a\":1}"),
            Value::from([1, 2].as_slice()),
        ];
        read(&Message {
            stream: "Alerts",
            id: "ab-7-0-0",
            time: Timestamp(1_000),
            made: Timestamp(2_000),
            age_ms: 61_000,
            historical: true,
            schema: &schema(),
            row: &row,
        })
    }
}
