//! One cell of a row.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use ecow::{EcoString, EcoVec};

/// A value as it lies in a row: 24 bytes, cheap to clone.
///
/// The static type is the column's business ([`super::Type`]); here only the physical form is
/// told apart. `INT`, `BIGINT` and `TIMESTAMP` are [`Value::Int`], `FLOAT` and `DOUBLE` are
/// [`Value::Float`], `STRING` and `JSON` are [`Value::Str`]. Strings up to 15 bytes lie inline,
/// longer ones and bytes are shared between clones.
///
/// A float is always finite: what would be infinite or not a number becomes NULL where it arises.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Absent; equal to nothing in SQL, but one group and one key in [`PartialEq`] and [`Hash`].
    #[default]
    Null,
    /// `BOOLEAN`.
    Bool(bool),
    /// `INT`, `BIGINT`, `TIMESTAMP` (milliseconds since the Unix epoch).
    Int(i64),
    /// `FLOAT`, `DOUBLE`; finite.
    Float(f64),
    /// `STRING`; `JSON` as [`super::json`] writes it.
    Str(EcoString),
    /// `BYTES`.
    Bytes(EcoVec<u8>),
}

const _: () = assert!(size_of::<Value>() <= 24);

impl Value {
    /// A string value.
    #[must_use]
    pub fn text(text: &str) -> Value {
        Value::Str(EcoString::from(text))
    }

    /// A float, or NULL when it is infinite or not a number.
    #[must_use]
    pub fn finite(number: f64) -> Value {
        if number.is_finite() {
            Value::Float(number)
        } else {
            Value::Null
        }
    }

    /// Whether this is NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The truth value, when it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            Value::Null | Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Bytes(_) => None,
        }
    }

    /// The integer, when it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Str(_) | Value::Bytes(_) => {
                None
            }
        }
    }

    /// The number as a float, for integers and floats alike.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "BIGINT widens to DOUBLE by rounding"
            )]
            Value::Int(number) => Some(*number as f64),
            Value::Null | Value::Bool(_) | Value::Str(_) | Value::Bytes(_) => None,
        }
    }

    /// The text, when it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text.as_str()),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Bytes(_) => {
                None
            }
        }
    }

    /// The bytes, when it is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => None,
        }
    }

    /// Becomes a copy of another value. What needs no clean-up is overwritten without a look.
    #[inline]
    pub fn assign(&mut self, from: &Value) {
        match from {
            Value::Float(number) => self.replace(Value::Float(*number)),
            Value::Int(number) => self.replace(Value::Int(*number)),
            Value::Null => self.replace(Value::Null),
            Value::Bool(_) | Value::Str(_) | Value::Bytes(_) => self.replace(from.clone()),
        }
    }

    /// Becomes NULL.
    #[inline]
    pub fn clear(&mut self) {
        self.replace(Value::Null);
    }

    #[inline]
    fn replace(&mut self, by: Value) {
        match self {
            Value::Str(_) | Value::Bytes(_) => *self = by,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                std::mem::forget(std::mem::replace(self, by));
            }
        }
    }

    /// Puts a copy at the end of a row.
    ///
    /// A float is written at once where it will lie. A value that is put together elsewhere and
    /// then moved is read back before its parts have reached the cache, for which a processor
    /// waits longer than the rest takes.
    #[inline]
    pub fn copy_to(&self, row: &mut Vec<Value>) {
        match self {
            Value::Float(number) => row.push(Value::Float(*number)),
            Value::Str(text) => row.push(Value::Str(text.clone())),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Bytes(_) => {
                self.copy_other_to(row);
            }
        }
    }

    #[inline(never)]
    fn copy_other_to(&self, row: &mut Vec<Value>) {
        row.push(self.clone());
    }

    /// Puts the value at the end of a row, like [`Value::copy_to`].
    #[inline]
    pub fn move_to(self, row: &mut Vec<Value>) {
        if let Value::Float(number) = self {
            row.push(Value::Float(number));
        } else {
            row.push(self);
        }
    }

    /// Orders two values of one column: NULL first, then by value. Total, unlike SQL's `<`.
    #[must_use]
    pub fn order(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Str(a), Value::Str(b)) => a.as_str().cmp(b.as_str()),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (a, b) => match (a.as_float(), b.as_float()) {
                (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                _ => a.rank().cmp(&b.rank()),
            },
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 2,
            Value::Str(_) => 3,
            Value::Bytes(_) => 4,
        }
    }

    /// An estimate of the bytes that the value occupies, its share of heap memory included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let heap = match self {
            Value::Str(text) if text.len() > 15 => text.len() + 16,
            Value::Bytes(bytes) if !bytes.is_empty() => bytes.len() + 16,
            Value::Str(_)
            | Value::Bytes(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_) => 0,
        };
        size_of::<Value>() + heap
    }
}

/// Equality as GROUP BY sees it: NULL equals NULL, `-0.0` equals `0.0`.
impl PartialEq for Value {
    #[inline]
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => same_bytes(a.as_bytes(), b.as_bytes()),
            (Value::Bytes(a), Value::Bytes(b)) => same_bytes(a, b),
            _ => false,
        }
    }
}

/// Equality without a call for what is short, as keys are: two words that may overlap.
#[inline]
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let words = |bytes: &[u8]| Some((*bytes.first_chunk::<8>()?, *bytes.last_chunk::<8>()?));
    match (words(a), words(b)) {
        (Some(first), Some(second)) if a.len() <= 16 => a.len() == b.len() && first == second,
        _ => a == b,
    }
}

impl Eq for Value {}

impl Hash for Value {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::Null => state.write_u8(0),
            Value::Bool(truth) => state.write_u8(1 + u8::from(*truth)),
            Value::Int(number) => state.write_i64(*number),
            // Adding zero turns -0.0 into 0.0, which compare equal and so must hash alike.
            Value::Float(number) => state.write_u64((number + 0.0).to_bits()),
            Value::Str(text) => state.write(text.as_bytes()),
            Value::Bytes(bytes) => state.write(bytes),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Bytes(EcoVec::from(bytes))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Str(EcoString::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_equal_byte_by_byte() {
        let long = "abcdefghijklmnopqrst";
        for length in 0..=long.len() {
            let (text, _) = long.split_at(length);
            assert_eq!(Value::text(text), Value::text(text));
            for changed in 0..length {
                let mut other = text.as_bytes().to_vec();
                other[changed] = b'!';
                let other = String::from_utf8(other).unwrap();
                assert_ne!(Value::text(text), Value::from(other));
            }
            assert_ne!(Value::text(text), Value::from(format!("{text}u")));
        }
    }
}
