//! The names of types, and how types combine.

use crate::event::Type;

/// Every spelling of a type.
pub(crate) const TYPE_NAMES: &[(&str, Type)] = &[
    ("STRING", Type::String),
    ("VARCHAR", Type::String),
    ("TEXT", Type::String),
    ("INT", Type::Int),
    ("INTEGER", Type::Int),
    ("BIGINT", Type::Long),
    ("LONG", Type::Long),
    ("FLOAT", Type::Float),
    ("DOUBLE", Type::Double),
    ("BOOLEAN", Type::Bool),
    ("BOOL", Type::Bool),
    ("TIMESTAMP", Type::Timestamp),
    ("BYTES", Type::Bytes),
    ("JSON", Type::Json),
];

/// The type called `name`, whatever its case.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    TYPE_NAMES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, ty)| *ty)
}

/// The types for a message.
pub(crate) fn type_list() -> String {
    "STRING, INT, BIGINT, FLOAT, DOUBLE, BOOLEAN, TIMESTAMP, BYTES, JSON".to_owned()
}

/// The type in which two numbers are added, compared and so on: INT → BIGINT → FLOAT → DOUBLE.
pub(crate) fn wider(a: Type, b: Type) -> Option<Type> {
    const LADDER: [Type; 4] = [Type::Int, Type::Long, Type::Float, Type::Double];
    let step = |ty: Type| LADDER.iter().position(|known| *known == ty);
    LADDER.get(step(a)?.max(step(b)?)).copied()
}

/// The one type for several alternatives (branches of CASE, arguments of COALESCE).
pub(crate) fn common(a: Type, b: Type) -> Option<Type> {
    if a == b {
        return Some(a);
    }
    match (a, b) {
        (Type::Timestamp, Type::Long | Type::Int) | (Type::Long | Type::Int, Type::Timestamp) => {
            Some(Type::Timestamp)
        }
        _ => wider(a, b),
    }
}

/// Whether a value of type `from` may be put into a column of type `to` without a CAST: the same
/// type, any number into any number (narrowing is checked when it happens), TIMESTAMP and BIGINT.
pub(crate) fn assignable(from: Type, to: Type) -> bool {
    from == to
        || (from.is_numeric() && to.is_numeric())
        || matches!(
            (from, to),
            (Type::Timestamp, Type::Long) | (Type::Long | Type::Int, Type::Timestamp)
        )
}

/// Whether a CAST from one type to another can ever give a value.
pub(crate) fn castable(from: Type, to: Type) -> bool {
    match (from, to) {
        (Type::Bytes, _) => matches!(to, Type::Bytes | Type::String | Type::Json),
        (_, Type::Bytes) => matches!(from, Type::Bytes | Type::String | Type::Json),
        (Type::Bool, Type::Timestamp) | (Type::Timestamp, Type::Bool) => false,
        _ => true,
    }
}
