//! Rows as CBOR maps (RFC 8949), a member for each column. JSON columns are what they say, not
//! text; points in time are milliseconds, as in JSON.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::Message;
use super::extra::{self, Extras};
use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::{Schema, Type, Value, cbor};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = &extra::options([
    "cbor.id",
    "cbor.timestamp",
    "cbor.event_time",
    "cbor.stream",
    "cbor.age_ms",
    "cbor.historical",
]);

/// A CBOR encoder for one stream.
#[derive(Debug)]
pub struct Encoder {
    extras: Extras,
}

impl Encoder {
    pub(super) fn new(options: &Options, schema: &Schema) -> Result<Encoder, OptionFault> {
        let extras = Extras::new("cbor", options, schema)?;
        Ok(Encoder { extras })
    }

    /// Appends one map.
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        // Into memory, and of these values, nothing can fail.
        let _ = cbor::encode_into(&self.row(message), into);
    }

    /// Appends an array of maps.
    pub(super) fn encode_all(&self, messages: &[Message<'_>], into: &mut Vec<u8>) {
        let rows = Rows {
            encoder: self,
            messages,
        };
        let _ = cbor::encode_into(&rows, into);
    }

    fn row<'a>(&'a self, message: &'a Message<'a>) -> Row<'a> {
        Row {
            encoder: self,
            message,
        }
    }
}

struct Rows<'a> {
    encoder: &'a Encoder,
    messages: &'a [Message<'a>],
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut rows = to.serialize_seq(Some(self.messages.len()))?;
        for message in self.messages {
            rows.serialize_element(&self.encoder.row(message))?;
        }
        rows.end()
    }
}

struct Row<'a> {
    encoder: &'a Encoder,
    message: &'a Message<'a>,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Message { schema, row, .. } = *self.message;
        let extras = || self.encoder.extras.of(schema);
        let mut map = to.serialize_map(Some(extras().count() + schema.width()))?;
        for (name, extra) in extras() {
            map.serialize_entry(name, &extra.value(self.message).1)?;
        }
        for (index, field) in schema.fields().iter().enumerate() {
            let value = row.get(index).unwrap_or(&Value::Null);
            let document = match value {
                Value::Str(text) if field.ty == Type::Json => serde_json::from_str(text).ok(),
                _ => None,
            };
            match document {
                Some(document) => {
                    map.serialize_entry::<_, serde_json::Value>(&field.name, &document)?
                }
                None => map.serialize_entry(&field.name, value)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{encoder, message};
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Read {
        #[serde(rename = "_id")]
        id: String,
        device: String,
        temp: f64,
        ok: bool,
        count: i64,
        gone: Option<String>,
        doc: serde_json::Value,
        bytes: Value,
    }

    #[test]
    fn maps_and_arrays() {
        let encoder = encoder("cbor", &[("cbor.id", "_id")]).unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        message(|message| encoder.encode(message, &mut one));
        message(|message| encoder.encode_all(&[*message, *message], &mut two));
        let read: Read = cbor::decode(&one).unwrap();
        assert_eq!(
            read,
            Read {
                id: "ab-7-0-0".to_owned(),
                device: "press \"3\"".to_owned(),
                temp: 81.0,
                ok: true,
                count: 7,
                gone: None,
                doc: serde_json::json!({"a": 1}),
                bytes: Value::from([1, 2].as_slice()),
            }
        );
        // An array of two (major type 4).
        assert_eq!(two, [&[0x82], one.as_slice(), &one].concat());
    }
}
