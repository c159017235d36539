//! CBOR (RFC 8949) for everything that goes to disk. The only file that names `serde_cbor`, which
//! writes it: `docs/decisions/0002-serde-cbor.md`.
//!
//! The form of a [`Value`] carries its physical type: CBOR null, boolean,
//! integer, float, text, byte string.

mod decoder;
pub(crate) mod reader;

use serde::de::{DeserializeOwned, DeserializeSeed, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Value;
use decoder::Decoder;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("not valid CBOR for this record: {0}")]
pub struct CborError(String);

impl serde::de::Error for CborError {
    fn custom<T: std::fmt::Display>(message: T) -> CborError {
        CborError(message.to_string())
    }
}

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
    let mut from = Decoder::new(bytes);
    let item = T::deserialize(&mut from)?;
    from.end()?;
    Ok(item)
}

/// Decodes one item that fills `bytes` exactly, into what `seed` says.
pub fn decode_into<'a, S: DeserializeSeed<'a>>(
    seed: S,
    bytes: &'a [u8],
) -> Result<S::Value, CborError> {
    let mut from = Decoder::new(bytes);
    let item = seed.deserialize(&mut from)?;
    from.end()?;
    Ok(item)
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
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

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

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        One(i64),
        Two(u8, String),
        Named { by: Option<String>, bytes: Vec<u8> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(u32);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        kinds: Vec<Kind>,
        map: std::collections::BTreeMap<String, (i32, bool)>,
        wrapped: Option<Wrapped>,
        float: f64,
        small: f32,
        letter: char,
        unit: (),
        deep: Option<Option<Vec<Option<u64>>>>,
        #[serde(default)]
        left_out: i16,
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Plain),
            any::<i64>().prop_map(Kind::One),
            any::<(u8, String)>().prop_map(|(number, text)| Kind::Two(number, text)),
            any::<(Option<String>, Vec<u8>)>().prop_map(|(by, bytes)| Kind::Named { by, bytes }),
        ]
    }

    fn everything() -> impl Strategy<Value = Everything> {
        let kinds = prop::collection::vec(kind(), 0..4);
        let maps = prop::collection::btree_map(any::<String>(), any::<(i32, bool)>(), 0..30);
        let rest = any::<(Option<u32>, f64, f32, char, Option<Vec<Option<u64>>>, i16)>();
        (kinds, maps, rest).prop_map(|(kinds, map, rest)| Everything {
            kinds,
            map,
            wrapped: rest.0.map(Wrapped),
            float: rest.1,
            small: rest.2,
            letter: rest.3,
            unit: (),
            // `Some(None)` is written as `None` is.
            deep: rest.4.map(Some),
            left_out: rest.5,
        })
    }

    /// Bytes that are CBOR, or have been.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let written = || everything().prop_map(|item| encode(&item).unwrap());
        let broken = (written(), any::<prop::sample::Index>(), any::<u8>());
        prop_oneof![
            written(),
            broken.prop_map(|(mut bytes, at, byte)| {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes
            }),
            prop::collection::vec(any::<u8>(), 0..40),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The library reads with its writer; what ours takes must be the same.
        #[test]
        fn what_is_read_is_what_the_library_reads(bytes in bytes()) {
            let theirs = serde_cbor::from_slice::<Everything>(&bytes);
            match (decode::<Everything>(&bytes), theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}")),
                (Ok(ours), Err(error)) => prop_assert!(false, "{ours:?}, but {error}"),
                // Ours is strict: no tags, no strings in pieces, no forms that nobody writes.
                (Err(_), _) => {}
            }
        }

        #[test]
        fn what_was_written_comes_back(item in everything()) {
            let bytes = encode(&item).unwrap();
            let back: Everything = decode(&bytes).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{item:?}"));
            prop_assert!(decode::<IgnoredAny>(&bytes).is_ok());
            for end in 0..bytes.len() {
                prop_assert!(decode::<Everything>(&bytes[..end]).is_err());
                prop_assert!(decode::<IgnoredAny>(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn a_sequence_of_unknown_length_is_read() {
        let bytes = [0x9f, 0x01, 0x02, 0xff];
        assert_eq!(decode::<Vec<u8>>(&bytes).unwrap(), [1, 2]);
        assert!(decode::<Vec<u8>>(&bytes[..3]).is_err());
        assert!(decode::<(u8,)>(&bytes).is_err(), "more than belongs there");
        assert!(decode::<(u8, u8, u8)>(&bytes).is_err(), "less");
        assert!(decode::<IgnoredAny>(&[0xbf, 0x01, 0x02, 0xff]).is_ok());
    }

    #[test]
    fn depth_is_limited() {
        let deep = vec![0x81; 100_000];
        assert!(decode::<IgnoredAny>(&deep).is_err());
        let mut fair = vec![0x81; 100];
        fair.push(0);
        assert!(decode::<IgnoredAny>(&fair).is_ok());
    }
}
