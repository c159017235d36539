//! What the targets of the decoders share: options by the first byte, then the rest as a payload.

use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::decode::Decoder;
use eventflux::event::{Batch, Field, Schema, Type};

/// Options as they would be written.
pub type Written = &'static [(&'static str, &'static str)];

/// Whole rows that fit their columns, or a reject that leaves nothing behind.
pub fn decode(format: &str, columns: &[(&str, Type)], choices: &[Written], bytes: &[u8]) {
    let Some((first, payload)) = bytes.split_first() else { return };
    let mut options = Options::default();
    for (name, value) in choices[usize::from(*first) % choices.len()] {
        let value = match (*value, value.parse()) {
            ("true", _) => OptionValue::Flag(true),
            (_, Ok(number)) if name.starts_with("payload.") => OptionValue::Integer(number),
            (text, _) => OptionValue::Text(text.to_owned()),
        };
        options.set(name, value, Layer::Sql);
    }
    let fields = columns.iter().map(|(name, ty)| Field { name: (*name).to_owned(), ty: *ty });
    let schema = Schema::new(fields.collect());
    let mut decoder = Decoder::new(format, &options, &schema, &[]).unwrap();
    let mut rows = Batch::new(schema.width());
    if decoder.decode(payload, &mut rows).is_err() {
        assert!(rows.is_empty());
        assert_eq!(decoder.take_ignored(), 0);
    }
    for row in rows.rows().iter() {
        assert!(schema.fields().iter().zip(row.values).all(|(field, value)| field.ty.admits(value)));
    }
}

/// A column of each type.
pub const EVERY_TYPE: &[(&str, Type)] = &[
    ("a", Type::Bool),
    ("b", Type::Int),
    ("c", Type::Long),
    ("d", Type::Float),
    ("e", Type::Double),
    ("f", Type::String),
    ("g", Type::Bytes),
    ("h", Type::Json),
    ("t", Type::Timestamp),
];
