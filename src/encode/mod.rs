//! Rows become bytes for a far side: what [`crate::decode`] does, the other way.
//!
//! What it promises: the same output gives the same bytes at every attempt, save for its age and
//! its `historical` mark.

mod cbor;
mod csv;
mod extra;
mod json;
mod plain;
mod readable;
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
pub const FORMATS: &[(&str, &[OptionSpec])] = &[
    ("json", json::OPTIONS),
    ("csv", csv::OPTIONS),
    ("cbor", cbor::OPTIONS),
    ("text", plain::TEXT_OPTIONS),
    ("raw", plain::RAW_OPTIONS),
    ("readable", &[]),
];

/// Writes the outputs of one stream.
#[derive(Debug)]
pub enum Encoder {
    /// JSON objects.
    Json(json::Encoder),
    /// Lines of comma-separated values.
    Csv(csv::Encoder),
    /// CBOR maps.
    Cbor(cbor::Encoder),
    /// A text with placeholders.
    Text(plain::Text),
    /// What one column holds.
    Raw(plain::Raw),
    /// Lines for people.
    Readable(readable::Encoder),
}

/// How records stand one behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each ends with a line feed, which stands nowhere else; none holds a zero byte.
    Lines,
    /// The same, but inside of double quotes a line feed may stand, too.
    QuotedLines,
    /// Each says itself how long it is: a CBOR sequence (RFC 8742).
    Items,
    /// Nothing tells where one ends.
    Unframed,
}

impl Encoder {
    /// An encoder into `format`, for rows of `schema`.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(format: &str, options: &Options, schema: &Schema) -> Result<Encoder, OptionFault> {
        Ok(match format {
            "json" => Encoder::Json(json::Encoder::new(options, schema)?),
            "csv" => Encoder::Csv(csv::Encoder::new(options, schema)?),
            "cbor" => Encoder::Cbor(cbor::Encoder::new(options, schema)?),
            "text" => Encoder::Text(plain::Text::new(options, schema)?),
            "raw" => Encoder::Raw(plain::Raw::new(options, schema)?),
            "readable" => Encoder::Readable(readable::Encoder::default()),
            other => {
                let known: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
                let known = known.join(", ");
                let problem = format!("unknown format `{other}` of a sink: use {known}");
                return Err(OptionFault::new("format", problem));
            }
        })
    }

    /// Appends one output as one payload.
    pub fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        match self {
            Encoder::Json(encoder) => encoder.encode(message, into),
            Encoder::Csv(encoder) => encoder.encode(message, into),
            Encoder::Cbor(encoder) => encoder.encode(message, into),
            Encoder::Text(encoder) => encoder.encode(message, into),
            Encoder::Raw(encoder) => encoder.encode(message, into),
            Encoder::Readable(encoder) => encoder.encode(message, into),
        }
    }

    /// Appends several outputs as one payload; with one alone it is not what [`Encoder::encode`]
    /// gives where the format has a form for many (a JSON array, a header).
    pub fn encode_all(&self, messages: &[Message<'_>], into: &mut Vec<u8>) {
        match self {
            Encoder::Json(encoder) => encoder.encode_all(messages, into),
            Encoder::Cbor(encoder) => encoder.encode_all(messages, into),
            Encoder::Csv(_) | Encoder::Text(_) | Encoder::Raw(_) | Encoder::Readable(_) => {
                if let Some(first) = messages.first() {
                    self.encode_head(first.schema, into);
                }
                for message in messages {
                    self.encode_record(message, into);
                }
            }
        }
    }

    /// Appends what a file of records of `schema` begins with.
    pub fn encode_head(&self, schema: &Schema, into: &mut Vec<u8>) {
        match self {
            Encoder::Csv(encoder) => encoder.header(schema, into),
            Encoder::Json(_)
            | Encoder::Cbor(_)
            | Encoder::Text(_)
            | Encoder::Raw(_)
            | Encoder::Readable(_) => {}
        }
    }

    /// Appends one output as one record among others, framed as [`Encoder::framing`] says.
    pub fn encode_record(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        match self.framing() {
            Framing::Lines => plain::line(into, |into| self.encode(message, into)),
            Framing::QuotedLines => {
                self.encode(message, into);
                into.push(b'\n');
            }
            Framing::Items | Framing::Unframed => self.encode(message, into),
        }
    }

    /// How records stand one behind another.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self {
            Encoder::Json(_) | Encoder::Text(_) | Encoder::Readable(_) => Framing::Lines,
            Encoder::Csv(_) => Framing::QuotedLines,
            Encoder::Cbor(_) => Framing::Items,
            Encoder::Raw(raw) if raw.is_text() => Framing::Lines,
            Encoder::Raw(_) => Framing::Unframed,
        }
    }

    /// What HTTP and MQTT call the payload of one output.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Encoder::Json(_) => "application/json",
            Encoder::Csv(_) => "text/csv",
            Encoder::Cbor(_) => "application/cbor",
            Encoder::Text(_) | Encoder::Readable(_) => "text/plain; charset=utf-8",
            Encoder::Raw(raw) if raw.is_text() => "text/plain; charset=utf-8",
            Encoder::Raw(_) => "application/octet-stream",
        }
    }

    /// What they call the payload of several.
    #[must_use]
    pub fn batch_content_type(&self) -> &'static str {
        match self {
            Encoder::Json(encoder) if encoder.by_lines() => "application/x-ndjson",
            Encoder::Json(_)
            | Encoder::Csv(_)
            | Encoder::Cbor(_)
            | Encoder::Text(_)
            | Encoder::Raw(_)
            | Encoder::Readable(_) => self.content_type(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue};
    use crate::event::{Field, Type};

    /// Options as they are written.
    pub(crate) type Written = &'static [(&'static str, &'static str)];

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

    /// An encoder of such rows.
    pub(crate) fn encoder(format: &str, written: &[(&str, &str)]) -> Result<Encoder, OptionFault> {
        let mut options = Options::default();
        for (name, value) in written {
            let value = OptionValue::Text((*value).to_owned());
            options.set(name, value, Layer::Sql);
        }
        Encoder::new(format, &options, &schema())
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

    #[test]
    fn forms_by_format() {
        let table: [(&str, Written, Framing, &str); 6] = [
            ("json", &[], Framing::Lines, "application/json"),
            (
                "json",
                &[("json.batch", "lines")],
                Framing::Lines,
                "application/x-ndjson",
            ),
            ("csv", &[], Framing::QuotedLines, "text/csv"),
            ("cbor", &[], Framing::Items, "application/cbor"),
            (
                "text",
                &[("text.template", "x")],
                Framing::Lines,
                "text/plain; charset=utf-8",
            ),
            (
                "raw",
                &[("raw.column", "bytes")],
                Framing::Unframed,
                "application/octet-stream",
            ),
        ];
        for (format, written, framing, content_type) in table {
            let encoder = encoder(format, written).unwrap();
            assert_eq!(encoder.framing(), framing, "{format}");
            assert_eq!(encoder.batch_content_type(), content_type, "{format}");
        }
        let fault = encoder("xml", &[]).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "format: unknown format `xml` of a sink: use json, csv, cbor, text, raw, readable"
        );
    }
}
