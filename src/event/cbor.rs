//! CBOR (RFC 8949) for everything that goes to disk. The only file that names `serde_cbor`.
//!
//! That crate is complete but unmaintained; `docs/decisions/0002-serde-cbor.md` says how the
//! weakness is covered. The form of a [`Value`] carries its physical type: CBOR null, boolean,
//! integer, float, text, byte string.

use serde::de::{DeserializeOwned, DeserializeSeed, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Value;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("not valid CBOR for this record: {0}")]
pub struct CborError(String);

/// Encodes `item` to the end of `out`.
pub fn encode_into<T: Serialize>(item: &T, out: &mut Vec<u8>) -> Result<(), CborError> {
    serde_cbor::to_writer(out, item).map_err(|error| CborError(error.to_string()))
}

/// Encodes `item`.
pub fn encode<T: Serialize>(item: &T) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::new();
    encode_into(item, &mut out)?;
    Ok(out)
}

/// Decodes one item that fills `bytes` exactly.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    serde_cbor::from_slice(bytes).map_err(|error| CborError(error.to_string()))
}

/// Decodes one item that fills `bytes` exactly, into what `seed` says.
pub fn decode_into<'a, S: DeserializeSeed<'a>>(
    seed: S,
    bytes: &'a [u8],
) -> Result<S::Value, CborError> {
    let mut from = serde_cbor::Deserializer::from_slice(bytes);
    let item = seed.deserialize(&mut from);
    let item = item.and_then(|item| from.end().map(|()| item));
    item.map_err(|error| CborError(error.to_string()))
}

/// How many bytes of a sequence of items (RFC 8742), from its beginning, are whole maps with names
/// of text.
pub fn whole_maps(from: impl std::io::Read) -> u64 {
    type Map = std::collections::BTreeMap<String, serde::de::IgnoredAny>;
    let mut from = serde_cbor::Deserializer::from_reader(from);
    let mut whole = 0;
    while Map::deserialize(&mut from).is_ok() {
        whole = u64::try_from(from.byte_offset()).unwrap_or(u64::MAX);
    }
    whole
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => to.serialize_unit(),
            Value::Bool(truth) => to.serialize_bool(*truth),
            Value::Int(number) => to.serialize_i64(*number),
            // A float in a row is finite; should one not be, its record must stay readable.
            Value::Float(number) if !number.is_finite() => to.serialize_unit(),
            Value::Float(number) => to.serialize_f64(*number),
            Value::Str(text) => to.serialize_str(text),
            Value::Bytes(bytes) => to.serialize_bytes(bytes),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        from.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("null, a boolean, a number, text or bytes")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number)
            .map(Value::Int)
            .map_err(|_| E::custom("integer beyond 64 bits"))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        if number.is_finite() {
            Ok(Value::Float(number))
        } else {
            Err(E::custom("a float that is not finite"))
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went() {
        let values = vec![
            Value::Null,
            Value::Bool(true),
            Value::Int(0),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::Float(1.0),
            Value::Float(0.1),
            Value::Float(f64::MAX),
            Value::text(""),
            Value::text("größer als fünfzehn Bytes, also geteilt"),
            Value::from([].as_slice()),
            Value::from([0, 255, 128].as_slice()),
        ];
        let bytes = encode(&values).unwrap();
        let back: Vec<Value> = decode(&bytes).unwrap();
        assert_eq!(back, values);
        assert!(
            matches!(back[5], Value::Float(_)),
            "a whole float stays a float"
        );
        assert!(decode::<Vec<Value>>(&bytes[..bytes.len() - 1]).is_err());
    }
}
