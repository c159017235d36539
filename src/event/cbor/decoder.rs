//! serde's side of CBOR, for what lies on the disk: each question of serde reads the one head that
//! answers it.
//!
//! A decoder that answers every question with whatever comes next has to have all kinds of items
//! in it once for each type that is read, which for ninety types was half a megabyte.
//!
//! ```text
//! structure: map of the names of its fields, or array of them
//! variant without fields: text; with: map of one pair, its name and what it holds
//! Option::None: null
//! ```

use serde::de::{self, DeserializeSeed, Error as _, IntoDeserializer, Visitor};

use super::CborError;
use super::reader::{Head, Item, Reader};

/// How deep items may lie inside of each other.
const DEPTH_MAX: u8 = 128;

type Read<T> = Result<T, CborError>;

/// Reads items out of a slice.
pub(super) struct Decoder<'a> {
    reader: Reader<'a>,
    /// How much deeper it may go.
    depth: u8,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder {
            reader: Reader::new(bytes),
            depth: DEPTH_MAX,
        }
    }

    /// Nothing may come any more.
    pub(super) fn end(&self) -> Read<()> {
        match self.reader.is_at_end() {
            true => Ok(()),
            false => Err(CborError::custom("more comes behind the last item")),
        }
    }

    fn head(&mut self) -> Read<Head> {
        self.reader.head().map_err(CborError::custom)
    }

    /// Whether it is a null that comes, which is passed over then.
    fn passes_null(&mut self) -> Read<bool> {
        let mut after = self.reader;
        let head = after.head().map_err(CborError::custom)?;
        let is_null = matches!(head, Head::Simple(22 | 23));
        if is_null {
            self.reader = after;
        }
        Ok(is_null)
    }

    /// Reads a string of one piece; with whether it is of text.
    fn string(&mut self) -> Read<(&'a [u8], bool)> {
        let (length, is_text) = match self.head()? {
            Head::Text(length) => (length, true),
            Head::Bytes(length) => (length, false),
            other => return Err(unexpected(other, "a string")),
        };
        let Some(length) = length else {
            return Err(CborError::custom("a string in pieces"));
        };
        let bytes = self.reader.take(length).map_err(CborError::custom)?;
        Ok((bytes, is_text))
    }

    fn text(&mut self) -> Read<&'a str> {
        let (bytes, is_text) = self.string()?;
        let text = std::str::from_utf8(bytes).ok().filter(|_| is_text);
        text.ok_or_else(|| CborError::custom("a text is not one"))
    }

    fn count(&mut self, is_map: bool) -> Read<Option<u64>> {
        match (self.head()?, is_map) {
            (Head::Array(count), false) | (Head::Map(count), true) => Ok(count),
            (other, false) => Err(unexpected(other, "an array")),
            (other, true) => Err(unexpected(other, "a map")),
        }
    }

    /// Reads past one item and all that is inside of it.
    fn skip(&mut self) -> Read<()> {
        let mut inside = match self.head()? {
            Head::Array(count) => count,
            Head::Map(Some(count)) => Some(count.saturating_mul(2)),
            Head::Map(None) => None,
            head => {
                let mut pieces = Vec::new();
                let item = self.reader.item(head, &mut pieces);
                return item.map(drop).map_err(CborError::custom);
            }
        };
        self.go_down()?;
        while self.more(&mut inside)? {
            self.skip()?;
        }
        self.depth += 1;
        Ok(())
    }

    fn more(&mut self, count: &mut Option<u64>) -> Read<bool> {
        self.reader.more(count).map_err(CborError::custom)
    }

    fn go_down(&mut self) -> Read<()> {
        let deeper = self.depth.checked_sub(1);
        let too_deep = || CborError::custom("items lie too deep inside of each other");
        self.depth = deeper.ok_or_else(too_deep)?;
        Ok(())
    }

    /// Lets `visit` read what is inside of an array or map, which must be all of it.
    fn inside<T>(
        &mut self,
        count: Option<u64>,
        visit: impl FnOnce(&mut Inside<'_, 'a>) -> Read<T>,
    ) -> Read<T> {
        self.go_down()?;
        let mut inside = Inside {
            decoder: self,
            count,
            has_ended: false,
        };
        let visited = visit(&mut inside)?;
        inside.end()?;
        self.depth += 1;
        Ok(visited)
    }

    fn array<V: Visitor<'a>>(&mut self, count: Option<u64>, visitor: V) -> Read<V::Value> {
        self.inside(count, |inside| visitor.visit_seq(inside))
    }

    fn map<V: Visitor<'a>>(&mut self, count: Option<u64>, visitor: V) -> Read<V::Value> {
        self.inside(count, |inside| visitor.visit_map(inside))
    }
}

fn unexpected(head: Head, wanted: &str) -> CborError {
    CborError(format!("{head:?} in the place of {wanted}"))
}

/// What is inside of an array or a map.
struct Inside<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    count: Option<u64>,
    has_ended: bool,
}

impl Inside<'_, '_> {
    fn more(&mut self) -> Read<bool> {
        if !self.has_ended {
            self.has_ended = !self.decoder.more(&mut self.count)?;
        }
        Ok(!self.has_ended)
    }

    fn end(&mut self) -> Read<()> {
        match self.more()? {
            false => Ok(()),
            true => Err(CborError::custom("more is inside than belongs there")),
        }
    }

    fn hint(&self) -> Option<usize> {
        self.count.and_then(|count| usize::try_from(count).ok())
    }
}

impl<'a> de::SeqAccess<'a> for &mut Inside<'_, 'a> {
    type Error = CborError;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Read<Option<S::Value>> {
        match self.more()? {
            false => Ok(None),
            true => seed.deserialize(&mut *self.decoder).map(Some),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'a> de::MapAccess<'a> for &mut Inside<'_, 'a> {
    type Error = CborError;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Read<Option<S::Value>> {
        match self.more()? {
            false => Ok(None),
            true => seed.deserialize(&mut *self.decoder).map(Some),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Read<S::Value> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// A variant that has something inside.
struct Variant<'d, 'a>(&'d mut Decoder<'a>);

impl<'a> de::EnumAccess<'a> for Variant<'_, 'a> {
    type Error = CborError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Read<(S::Value, Self)> {
        let name = seed.deserialize(&mut *self.0)?;
        Ok((name, self))
    }
}

impl<'a> de::VariantAccess<'a> for Variant<'_, 'a> {
    type Error = CborError;

    fn unit_variant(self) -> Read<()> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Read<S::Value> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'a>>(self, _fields: usize, visitor: V) -> Read<V::Value> {
        de::Deserializer::deserialize_seq(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        de::Deserializer::deserialize_map(self.0, visitor)
    }
}

impl<'a> de::Deserializer<'a> for &mut Decoder<'a> {
    type Error = CborError;

    /// Whatever comes.
    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        let before = self.reader;
        match self.head()? {
            Head::Array(count) => self.array(count, visitor),
            Head::Map(count) => self.map(count, visitor),
            Head::Text(_) => {
                self.reader = before;
                visitor.visit_borrowed_str(self.text()?)
            }
            Head::Bytes(_) => {
                self.reader = before;
                visitor.visit_borrowed_bytes(self.string()?.0)
            }
            head => match self.reader.item(head, &mut Vec::new()) {
                Ok(Item::Null) => visitor.visit_unit(),
                Ok(Item::Bool(truth)) => visitor.visit_bool(truth),
                Ok(Item::Float(number)) => visitor.visit_f64(number),
                Ok(Item::Integer(number)) => visit_integer(number, visitor),
                Ok(Item::Text(_) | Item::Bytes(_) | Item::Simple(_)) | Err(_) => {
                    Err(unexpected(head, "a value"))
                }
            },
        }
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        match self.head()? {
            Head::Simple(20) => visitor.visit_bool(false),
            Head::Simple(21) => visitor.visit_bool(true),
            other => Err(unexpected(other, "a boolean")),
        }
    }

    fn deserialize_i64<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        match self.head()? {
            Head::Unsigned(number) => visitor.visit_u64(number),
            Head::Negative(number) => visit_integer(-1 - i128::from(number), visitor),
            other => Err(unexpected(other, "an integer")),
        }
    }

    fn deserialize_i8<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i128<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u8<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u16<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u32<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u64<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u128<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        match self.head()? {
            Head::Float(number) => visitor.visit_f64(number),
            other => Err(unexpected(other, "a float")),
        }
    }

    fn deserialize_f32<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        match self.string()? {
            (bytes, false) => visitor.visit_borrowed_bytes(bytes),
            (_, true) => Err(CborError::custom("a text in the place of bytes")),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        match self.passes_null()? {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        match self.passes_null()? {
            true => visitor.visit_unit(),
            false => Err(CborError::custom("something in the place of null")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        let count = self.count(false)?;
        self.array(count, visitor)
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _length: usize, visitor: V) -> Read<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        let count = self.count(true)?;
        self.map(count, visitor)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        match self.head()? {
            Head::Map(count) => self.map(count, visitor),
            Head::Array(count) => self.array(count, visitor),
            other => Err(unexpected(other, "a structure")),
        }
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let before = self.reader;
        match self.head()? {
            Head::Text(_) => {
                self.reader = before;
                visitor.visit_enum(self.text()?.into_deserializer())
            }
            Head::Map(count @ Some(1)) => self.inside(count, |inside| {
                inside.more()?;
                visitor.visit_enum(Variant(inside.decoder))
            }),
            other => Err(unexpected(other, "a variant")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Read<V::Value> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

fn visit_integer<'a, V: Visitor<'a>>(number: i128, visitor: V) -> Read<V::Value> {
    match (u64::try_from(number), i64::try_from(number)) {
        (Ok(number), _) => visitor.visit_u64(number),
        (_, Ok(number)) => visitor.visit_i64(number),
        (Err(_), Err(_)) => Err(CborError::custom("an integer beyond 64 bits")),
    }
}
