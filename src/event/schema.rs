//! What the columns of a stream are called and hold.

use super::Value;

/// The static type of a column or an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// True or false.
    Bool,
    /// 32-bit signed integer.
    Int,
    /// 64-bit signed integer.
    Long,
    /// A number in the range of single precision; kept and computed with double precision.
    Float,
    /// Double precision (IEEE 754 binary64), finite.
    Double,
    /// UTF-8 text.
    String,
    /// Milliseconds since the Unix epoch.
    Timestamp,
    /// Any bytes.
    Bytes,
    /// Any JSON value but `null`, in the form that [`super::json`] describes.
    Json,
}

impl Type {
    /// The type's name in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Type::Bool => "BOOLEAN",
            Type::Int => "INT",
            Type::Long => "BIGINT",
            Type::Float => "FLOAT",
            Type::Double => "DOUBLE",
            Type::String => "STRING",
            Type::Timestamp => "TIMESTAMP",
            Type::Bytes => "BYTES",
            Type::Json => "JSON",
        }
    }

    /// Whether arithmetic works on it.
    #[must_use]
    pub fn is_numeric(self) -> bool {
        matches!(self, Type::Int | Type::Long | Type::Float | Type::Double)
    }

    /// Whether its values are [`Value::Int`].
    #[must_use]
    pub fn is_integral(self) -> bool {
        matches!(self, Type::Int | Type::Long | Type::Timestamp)
    }

    /// Whether `value` has the physical form and the range of this type; NULL always has.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (Type::Bool, Value::Bool(_))
            | (Type::Long | Type::Timestamp, Value::Int(_))
            | (Type::Double, Value::Float(_))
            | (Type::String | Type::Json, Value::Str(_))
            | (Type::Bytes, Value::Bytes(_)) => true,
            (Type::Int, Value::Int(number)) => i32::try_from(*number).is_ok(),
            (Type::Float, Value::Float(number)) => number.abs() <= f64::from(f32::MAX),
            _ => false,
        }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// A named, typed column. Every column may be NULL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The name as written; case-sensitive.
    pub name: String,
    /// What it holds.
    pub ty: Type,
}

/// The columns of a stream, in order; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    fields: Vec<Field>,
}

impl Schema {
    /// A schema of these columns.
    #[must_use]
    pub fn new(fields: Vec<Field>) -> Schema {
        Schema { fields }
    }

    /// The columns in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// How many columns a row has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.fields.len()
    }

    /// The place of the column called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// A number that changes when a name, a type or the order of columns does; the same on every
    /// machine and in every version (CRC-32C over the written form).
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        crc32c::crc32c(self.to_string().as_bytes())
    }
}

impl std::fmt::Display for Schema {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, field) in self.fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(out, "{comma}{} {}", field.name, field.ty)?;
        }
        Ok(())
    }
}
