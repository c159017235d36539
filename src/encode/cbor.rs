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

    #[test]
    fn maps_and_arrays() {
        let encoder = encoder("cbor", &[("cbor.id", "_id")]).unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        message(|message| encoder.encode(message, &mut one));
        message(|message| encoder.encode_all(&[*message, *message], &mut two));
        let read: serde_json::Map<String, serde_json::Value> =
            serde_json::from_value(from_cbor(&one)).unwrap();
        let expected = serde_json::json!({
            "_id": "ab-7-0-0", "device": "press \"3\"", "temp": 81.0, "ok": true, "count": 7,
            "gone": null, "doc": {"a": 1}, "bytes": [1, 2],
        });
        assert_eq!(serde_json::Value::Object(read), expected);
        // An array of two (major type 4).
        assert_eq!(two, [&[0x82], one.as_slice(), &one].concat());
    }

    fn from_cbor(bytes: &[u8]) -> serde_json::Value {
        cbor::decode(bytes).unwrap()
    }
}
